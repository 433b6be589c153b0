"""Which tensors share one scale, and which have theirs given.

TFLite's CONCATENATION, MAX_POOL_2D, AVERAGE_POOL_2D, PAD and RESHAPE do not rescale:
what they make has the scale of what they read (8-bit quantization specification). The
pixels' scale is the contract's, a sigmoid's is fixed at 1/256.

GlobalAveragePool is not among them: MEAN rescales, and a mean is often much smaller
than the largest value it was taken over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exporter.convert.graph import (
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Graph,
    MaxPool,
    Node,
    Normalize,
    Pad,
    Reshape,
    Sigmoid,
    Softmax,
)
from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.plan import Affine

SIGMOID = Affine(1.0 / 256.0, -128)
_TIES = (Concat, MaxPool, AveragePool, Pad, Reshape)


@dataclass(frozen=True)
class Group:
    """Tensors that share one scale and zero point.

    Attributes:
        tensors: all of them, in the graph's order.
        watched: those whose values decide the range; the rest only repeat them.
        fixed: the scale where it is given and no range is chosen.
        logits: whether the logits are among them.
    """

    tensors: tuple[str, ...]
    watched: tuple[str, ...]
    fixed: Affine | None = None
    logits: bool = False


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

    Requires batch norms folded into convolutions and a Normalize that only shifts.

    Raises:
        QuantizationError: an operator is left that has no int8 form, or one group ties
            a given scale to another one.
    """
    nodes = tuple(quantized_nodes(graph))
    _check_operators(graph, nodes)
    leader = {graph.input.name: graph.input.name}
    for node in nodes:
        leader[node.output] = node.output

    def find(tensor: str) -> str:
        while leader[tensor] != tensor:
            tensor = leader[tensor]
        return tensor

    for node in nodes:
        if isinstance(node, _TIES):
            for source in node.inputs:
                leader[find(source)] = find(node.output)

    members: dict[str, list[str]] = {}
    for tensor in leader:
        members.setdefault(find(tensor), []).append(tensor)
    return tuple(_group(graph, tuple(tensors)) for tensors in members.values())


def _group(graph: Graph, tensors: tuple[str, ...]) -> Group:
    producers = {tensor: graph.producer(tensor) for tensor in tensors}
    watched = tuple(name for name, node in producers.items() if _brings_values(node))
    given = {
        name: input_affine(graph) if node is None else SIGMOID
        for name, node in producers.items()
        if node is None or isinstance(node, Sigmoid)
    }
    fixed = next(iter(given.values()), None)
    if given and (set(watched) != set(given) or len(set(given.values())) > 1):
        first = next(iter(given))
        other = next(name for name in watched if name not in given or given[name] != fixed)
        raise QuantizationError(
            f"The tensors {first!r} and {other!r} cannot share one int8 scale.",
            "a concatenation (or padding) joins them, and the scale of the first is given: "
            "pixels have the contract's, a sigmoid 1/256",
            "keep to float16 for this network",
        )
    return Group(tensors, watched, fixed, graph.logits in tensors)


def _brings_values(node: Node | None) -> bool:
    """Whether a tensor can hold values that the tensors tied to it do not."""
    if isinstance(node, Pad):
        return node.value != 0.0
    return not isinstance(node, _TIES)


def _check_operators(graph: Graph, nodes: tuple[Node, ...]) -> None:
    for node in nodes:
        reason = ""
        if isinstance(node, Softmax):
            reason = "a softmax that is not the last operator has no int8 form here"
        elif isinstance(node, BatchNorm):
            reason = "its batch normalization follows no convolution that could take it in"
        elif isinstance(node, Normalize) and not (node.scale == 1.0).all():
            reason = "its per-channel factors follow the pixels unfolded"
        elif isinstance(node, Conv | Dense) and node.inputs[0] in graph.constants:
            reason = "it reads a constant"
        if reason:
            raise QuantizationError(
                f"The operator {node.name!r} cannot be quantized.",
                reason,
                "keep to float16 for this network",
            )
