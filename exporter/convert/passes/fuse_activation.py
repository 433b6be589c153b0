"""Let the operator before a ReLU or ReLU6 apply it.

    before: x -> Conv -> Relu6 -> y
    after:  x -> Conv(fused relu6) -> y

The producer is a Conv, Dense, Add, Mul or Sub without activation whose result nothing
else reads. Requires: batch norms are folded, else they would stay outside.
Ensures: no such pair is left; outputs do not move.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.convert.graph import Add, Conv, Dense, Fused, Graph, Mul, Node, Relu, Relu6, Sub
from exporter.convert.passes import fold_batch_norm
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, rebuild

_FUSED: dict[type[Node], Fused] = {Relu: Fused.RELU, Relu6: Fused.RELU6}


def apply(graph: Graph) -> Outcome:
    """Fuse all pairs at once; none of them overlap."""
    found = _all(graph)
    if not found:
        return graph, False
    nodes: dict[str, Node | None] = {}
    for producer, activation in found:
        nodes[producer.name] = replace(
            producer,
            output=activation.output,
            fused=_FUSED[type(activation)],  # type: ignore[call-arg]
        )
        nodes[activation.name] = None
    return rebuild(graph, nodes), True


def _all(graph: Graph) -> list[tuple[Node, Node]]:
    uses = Uses(graph)
    return [
        (node, reader)
        for node in graph.nodes
        if isinstance(node, Conv | Dense | Add | Mul | Sub) and node.fused is Fused.NONE
        if type(reader := uses.only_reader(node.output)) in _FUSED and reader is not None
    ]


def ensures(graph: Graph) -> list[str]:
    """No activation could still be fused."""
    return [f"{relu.name} could be fused into {node.name}" for node, relu in _all(graph)]


FUSE_ACTIVATION = Rewrite("fuse_activation", apply, ensures, fold_batch_norm.ensures)
