"""What the passes share: how one is described and run, and how a graph is rebuilt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Graph, GraphError, Node

Outcome = tuple[Graph, bool]
Check = Callable[[Graph], list[str]]


def nothing(graph: Graph) -> list[str]:
    """The condition that always holds."""
    return []


@dataclass(frozen=True)
class Rewrite:
    """One pass, in the manner of onnx-ir's.

    Attributes:
        name: for error messages.
        apply: gives the new graph, and whether it differs; a second application
            changes nothing.
        ensures: what is still wrong with the graph after the pass; empty when the
            pass did its work. Its module says in words what else it ensures.
        requires: what is wrong with the graph before the pass; empty when it may run.
    """

    name: str
    apply: Callable[[Graph], Outcome]
    ensures: Check
    requires: Check = nothing

    def run(self, graph: Graph) -> Graph:
        """Apply the pass and check both conditions.

        Raises:
            GraphError: one of them does not hold.
        """
        self._hold("requires", self.requires(graph))
        after, changed = self.apply(graph)
        self._hold("ensures", self.ensures(after))
        if not changed and after is not graph:
            raise GraphError(f"the pass {self.name} gave another graph and called it unchanged")
        return after

    def _hold(self, condition: str, broken: list[str]) -> None:
        if broken:
            raise GraphError(f"the pass {self.name} {condition}: {'; '.join(broken)}")


class Uses:
    """Who makes and who reads each tensor, looked up once."""

    def __init__(self, graph: Graph) -> None:
        self._output = graph.output
        self.producers = {node.output: node for node in graph.nodes}
        self.readers: dict[str, list[Node]] = defaultdict(list)
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                self.readers[name].append(node)

    def only_reader(self, tensor: str) -> Node | None:
        """The node that alone reads a tensor; None when others or the output do."""
        readers = self.readers[tensor]
        return readers[0] if len(readers) == 1 and tensor != self._output else None


def rebuild(
    graph: Graph,
    nodes: Mapping[str, Node | None],
    tensors: Mapping[str, str] | None = None,
    constants: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Graph:
    """A graph with some nodes replaced.

    Args:
        graph: the graph as it is.
        nodes: by name of the old node the new one, None to take it out.
        tensors: by name of a tensor that nothing makes any longer, what to read instead.
        constants: operands to add.

    Constants and shapes that nothing refers to any longer are dropped.
    """
    renames = dict(tensors or {})

    def current(name: str) -> str:
        while name in renames:
            name = renames[name]
        return name

    kept = []
    for old in graph.nodes:
        new = nodes.get(old.name, old)
        if new is None:
            continue
        inputs = tuple(current(name) for name in new.inputs)
        kept.append(new if inputs == new.inputs else replace(new, inputs=inputs))
    return trimmed(
        replace(
            graph,
            nodes=tuple(kept),
            output=current(graph.output),
            constants={**graph.constants, **(constants or {})},
        )
    )


def trimmed(graph: Graph) -> Graph:
    """Without the constants and shapes that nothing refers to."""
    read = {name for node in graph.nodes for name in node.inputs}
    made = {graph.input.name, *(node.output for node in graph.nodes)}
    return replace(
        graph,
        shapes={name: shape for name, shape in graph.shapes.items() if name in made},
        constants={name: value for name, value in graph.constants.items() if name in read},
    )


def scalar_of(graph: Graph, names: Iterable[str]) -> float | None:
    """The value of the only constant among `names`, None unless it is one number."""
    values = [graph.constants[name] for name in names if name in graph.constants]
    return float(values[0].reshape(())) if len(values) == 1 and values[0].size == 1 else None


def operand_of(graph: Graph, node: Node) -> str | None:
    """The computed input of a node whose other input is a constant."""
    computed = [name for name in node.inputs if name not in graph.constants]
    return computed[0] if len(computed) == 1 and len(node.inputs) == 2 else None
