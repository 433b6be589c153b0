"""Equalization: channels that use little of their tensor's range are scaled up, exactly undone
by whatever reads them.

One int8 scale serves all channels of a tensor, and a channel whose values stay small has few
of its 256 levels. Scaling channel c of a layer's result by s[c] > 0 and dividing the weights
that read it by s[c] leaves the network's answer as it is:

    Conv(w, b) -> x              Conv(w * s, b * s) -> x * s
    Conv'(w')  <- x       =>     Conv'(w' / s)      <- x * s

A ReLU commutes with that, a ReLU6 only while nothing reaches its cap that did not before:
min(s x, 6) = s min(x, 6) needs s x <= 6. So behind a ReLU6 a channel is scaled up by at most
6 / (the largest value it was seen to have), and the cap itself is never moved. (Replacing
ReLU6 by ReLU, as Nagel et al. 2019 do for their cross-layer equalization, changes the network.)

Tensors that are added, pooled or padded must share their scales, so that a whole residual
stream, its bottlenecks and all its sums, has one scale a channel. The scales are bounded by
`FACTOR`: the larger they are, the more uneven get the weights that undo them, which is what
`compensated` rounding makes up for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import (
    Add,
    AveragePool,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    MaxPool,
    Node,
    Pad,
    Relu,
    Reshape,
)
from exporter.convert.held_weights import row_blocks

# measured on MobileNetV2: 2 gives 22.8 dB, 4 23.7, 6 23.3 (streams at 4 or 8: the same)
FACTOR = 4.0
_CAP = 6.0
_SMALLEST = 1e-6
Vector = npt.NDArray[np.float64]


class ChannelExtremes:
    """Watches tensors: what each channel held over the images.

    Attributes:
        names: the tensors to give to `update`.
    """

    def __init__(self, graph: Graph) -> None:
        self.names = tuple(
            node.output for node in graph.nodes if isinstance(node, Conv | Add | Dense)
        )
        self._largest: dict[str, Vector] = {}
        self._sums: dict[str, Vector] = {}
        self._images = 0

    def update(self, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take one image's tensors, float32 `[1, C, ...]`."""
        self._images += 1
        for name in self.names:
            flat = values[name].reshape(values[name].shape[1], -1)
            high = flat.max(axis=1).astype(np.float64)
            reach = np.maximum(high, -flat.min(axis=1).astype(np.float64))
            if name in self._sums:
                self._largest[name] = np.maximum(self._largest[name], high)
                self._sums[name] += reach
            else:
                self._largest[name], self._sums[name] = high, reach

    def largest(self, name: str) -> Vector:
        """The largest value of each channel over all images, float64 `[C]`."""
        return self._largest[name]

    def reach(self, name: str) -> Vector:
        """The mean over images of each channel's largest magnitude, float64 `[C]`."""
        return self._sums[name] / self._images


@dataclass(frozen=True, eq=False)
class Equalized:
    """A graph with the same answers.

    Attributes:
        scales: for each tensor that was scaled, by how much, float64 `[C]`.
    """

    graph: Graph
    scales: Mapping[str, Vector]


def equalize(graph: Graph, seen: ChannelExtremes, factor: float = FACTOR) -> Equalized:
    """Scale channels up, by at most `factor` and never over a ReLU6's cap.

    Requires: the standard passes. Ensures: the answers are those of `graph`, up to float32
    rounding, on every image on which no channel exceeds what was seen.

    Args:
        seen: filled from images with `graph`.
        factor: 1 changes nothing.
    """
    scales: dict[str, Vector] = {}
    for members in _classes(graph):
        scale = _scale(graph, members, seen, factor)
        if scale is not None:
            scales.update(dict.fromkeys(members, scale))
    return Equalized(rescaled(graph, scales), scales)


def rescaled(graph: Graph, scales: Mapping[str, Vector]) -> Graph:
    """The graph whose tensors are those of `graph` times `scales`, float64 `[C]` by name.

    Requires: scales that `equalize` gave for this graph.
    """
    return replace(graph, nodes=tuple(_rescaled(node, scales) for node in graph.nodes))


def _classes(graph: Graph) -> Iterable[tuple[str, ...]]:
    """Tensors that must share their channels' scales; those that may have none are left out."""
    above = {name: name for name in graph.tensors()}
    frozen = {graph.input.name, graph.output, graph.logits}

    def leader(name: str) -> str:
        while above[name] != name:
            name = above[name]
        return name

    for node in graph.nodes:
        tensors = [name for name in node.inputs if name in above]
        if _absorbs(node):
            continue
        if _passes_on(node, graph) and len(tensors) == len(node.inputs):
            for name in tensors:
                above[leader(name)] = leader(node.output)
        else:
            frozen.update(tensors, {node.output})
    stuck = {leader(name) for name in frozen}
    members: dict[str, list[str]] = {}
    for name in above:
        members.setdefault(leader(name), []).append(name)
    return [tuple(names) for top, names in members.items() if top not in stuck]


def _absorbs(node: Node) -> bool:
    """Whether a node's weights can undo scales on its input and make scales on its output."""
    if isinstance(node, Conv):
        return node.groups == 1 or node.weight.shape[:2] == (node.groups, 1)
    return isinstance(node, Dense)


def _passes_on(node: Node, graph: Graph) -> bool:
    """Whether a node gives scaled channels for scaled channels, whatever the scales."""
    if isinstance(node, Add):
        shapes = {graph.shapes.get(name) for name in (*node.inputs, node.output)}
        return node.fused is not Fused.RELU6 and len(shapes) == 1
    if isinstance(node, Pad):
        return node.value == 0.0
    if isinstance(node, Reshape):
        return graph.shapes[node.inputs[0]][2:] in ((1, 1), ())
    return isinstance(node, MaxPool | AveragePool | GlobalAveragePool | Relu)


def _scale(
    graph: Graph, members: tuple[str, ...], seen: ChannelExtremes, factor: float
) -> Vector | None:
    """The scale of one class `[C]`; None where there is nothing to win."""
    watched = [name for name in members if name in seen.names]
    if not watched:
        return None
    capped = [name for name in watched if _fused(graph, name) is Fused.RELU6]
    if capped:
        peak = np.max([seen.largest(name) for name in watched], axis=0)
        wanted = _CAP / np.maximum(peak, _SMALLEST)
    else:
        reach = [seen.reach(name) for name in watched]
        share = np.max([each / max(each.max(), _SMALLEST) for each in reach], axis=0)
        wanted = 1.0 / np.maximum(share, _SMALLEST)
    scale = np.clip(wanted, 1.0, factor)
    return scale if (scale > 1.0).any() else None


def _fused(graph: Graph, name: str) -> Fused:
    node = graph.producer(name)
    return node.fused if isinstance(node, Conv | Dense | Add) else Fused.NONE


def _rescaled(node: Node, scales: Mapping[str, Vector]) -> Node:
    if not isinstance(node, Conv | Dense):
        return node
    made, read = scales.get(node.output), scales.get(node.inputs[0])
    if made is None and read is None:
        return node
    bias = node.bias if made is None else (node.bias * made).astype(np.float32)
    depthwise = isinstance(node, Conv) and node.groups > 1
    weight, rest = np.empty_like(node.weight), (1,) * (node.weight.ndim - 2)
    for some in row_blocks(weight):
        block = node.weight[some].astype(np.float64)
        if made is not None:
            block = block * made[some].reshape(-1, 1, *rest)
        if read is not None:
            block = block / (
                read[some].reshape(-1, 1, *rest) if depthwise else (read.reshape(1, -1, *rest))
            )
        weight[some] = block
    return replace(node, weight=weight, bias=bias)
