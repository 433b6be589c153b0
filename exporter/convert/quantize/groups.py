"""Which tensors share one scale, and which have theirs given.

TFLite's CONCATENATION, MAX_POOL_2D, AVERAGE_POOL_2D, PAD, RESHAPE, SLICE and TRANSPOSE
do not rescale: what they make has the scale of what they read (8-bit quantization
specification). The pixels' scale is the contract's, a sigmoid's is fixed at 1/256 and a
hyperbolic tangent's at 1/128; a concatenation that reads one of those leaves it out, and
the writer rescales that part.

GlobalAveragePool is not among them: MEAN rescales, and a mean is often much smaller
than the largest value it was taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.convert.graph import (
    Add,
    AveragePool,
    ChannelShuffle,
    Concat,
    Graph,
    MaxPool,
    Mul,
    Node,
    Pad,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Sub,
    Tanh,
)
from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.plan import Affine
from exporter.convert.quantize.ranges.useful import ALL, Bounds, useful_bounds

SIGMOID = Affine(1.0 / 256.0, -128)
TANH = Affine(1.0 / 128.0, 0)
_FIXED: dict[type[Node], Affine] = {Sigmoid: SIGMOID, Tanh: TANH}
_ONE_INPUT_TIES = MaxPool | AveragePool | Pad | Reshape | Slice | ChannelShuffle


@dataclass(frozen=True)
class Group:
    """Tensors that share one scale and zero point.

    Attributes:
        tensors: all of them, in the graph's order.
        watched: those whose values decide the range; the rest only repeat them.
        fixed: the scale where it is given and no range is chosen.
        logits: whether the logits are among them.
        useful: no range has to reach further; see `useful_bounds`.
    """

    tensors: tuple[str, ...]
    watched: tuple[str, ...]
    fixed: Affine | None = None
    logits: bool = False
    useful: Bounds = ALL


def quantized_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes that run in int8: all but the softmax or sigmoid that makes the output."""
    for node in graph.nodes:
        if node.output != graph.output or node.output == graph.logits:
            yield node


def input_affine(graph: Graph) -> Affine:
    """The pixels as int8: uint8 zero point minus 128, the scale as it is."""
    return Affine(graph.input.scale, graph.input.zero_point - 128)


def find_groups(graph: Graph) -> tuple[Group, ...]:
    """The groups of all tensors up to and including the logits, in the graph's order.

    Raises:
        QuantizationError: an operator is left that has no int8 form.
    """
    nodes = tuple(quantized_nodes(graph))
    _check_operators(graph, nodes)
    ties = _Ties([graph.input.name, *(node.output for node in nodes)])
    for node in nodes:
        if isinstance(node, _ONE_INPUT_TIES):
            ties.join(node.inputs[0], node.output)
    given = {graph.input.name: input_affine(graph)}
    given |= {node.output: _FIXED[type(node)] for node in nodes if type(node) in _FIXED}
    fixed = {ties.leader(name): value for name, value in given.items()}
    watched = {node.output for node in nodes if _brings_values(node)}
    for node in nodes:
        if not isinstance(node, Concat):
            continue
        free = [name for name in node.inputs if ties.leader(name) not in fixed]
        for name in free:
            ties.join(name, node.output)
        if len(free) < len(node.inputs):
            watched.add(node.output)
    return tuple(
        Group(
            tensors=tensors,
            watched=tuple(name for name in tensors if name in watched),
            fixed=fixed.get(ties.leader(tensors[0])),
            logits=graph.logits in tensors,
            useful=useful_bounds(graph, tensors),
        )
        for tensors in ties.groups()
    )


class _Ties:
    """Tensors joined into groups (a disjoint-set forest)."""

    def __init__(self, names: Sequence[str]) -> None:
        self._above = {name: name for name in names}

    def leader(self, name: str) -> str:
        while self._above[name] != name:
            name = self._above[name]
        return name

    def join(self, one: str, other: str) -> None:
        self._above[self.leader(other)] = self.leader(one)

    def groups(self) -> list[tuple[str, ...]]:
        members: dict[str, list[str]] = {}
        for name in self._above:
            members.setdefault(self.leader(name), []).append(name)
        return [tuple(names) for names in members.values()]


def _brings_values(node: Node) -> bool:
    """Whether what a node makes can hold values that the tensors tied to it do not."""
    if isinstance(node, Pad):
        return node.value != 0.0
    return not isinstance(node, Concat | _ONE_INPUT_TIES)


def _check_operators(graph: Graph, nodes: tuple[Node, ...]) -> None:
    for node in nodes:
        reason = ""
        if isinstance(node, Softmax):
            reason = "a softmax that is not the last operator has no int8 form here"
        elif not isinstance(node, Add | Sub | Mul) and set(node.inputs) & set(graph.constants):
            reason = "it reads a constant"
        if reason:
            raise QuantizationError(
                f"The operator {node.name!r} cannot be quantized.",
                reason,
                "keep to float16 for this network",
            )
