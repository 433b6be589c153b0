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

Channels that are added, pooled, padded, gated or concatenated must share their scales (see
`channels`), so that a whole residual stream, its bottlenecks and all its sums, has one scale a
channel; the parts of a concatenation fill the range that they share. The scales are bounded by
`FACTOR`: the larger they are, the more uneven get the weights that undo them, which is what
`compensated` rounding makes up for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Add, Conv, Dense, Fused, Graph, Mul, Node
from exporter.convert.held_weights import row_blocks
from exporter.convert.quantize.groups import find_groups
from exporter.convert.quantize.rounding.channels import ChannelClasses

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
            node.output for node in graph.nodes if isinstance(node, Conv | Add | Dense | Mul)
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
    scales = _scales(graph, seen, factor)
    return Equalized(rescaled(graph, scales), scales)


def rescaled(graph: Graph, scales: Mapping[str, Vector]) -> Graph:
    """The graph whose tensors are those of `graph` times `scales`, float64 `[C]` by name.

    Requires: scales that `equalize` gave for this graph.
    """
    return replace(graph, nodes=tuple(_rescaled(node, scales) for node in graph.nodes))


def _scales(graph: Graph, seen: ChannelExtremes, factor: float) -> dict[str, Vector]:
    """The scale of every channel `[C]` of each tensor in which one is above 1."""
    channels = ChannelClasses(graph)
    count = len(channels.classes)
    known, capped = np.zeros(count, bool), np.zeros(count, bool)
    shares, peaks = np.zeros(count), np.zeros(count)
    widest = _widest(graph, seen)
    for name in seen.names:
        place = channels.of(name)
        known[place] = True
        np.maximum.at(peaks, place, seen.largest(name))
        np.maximum.at(shares, place, seen.reach(name) / max(widest[name], _SMALLEST))
        if _fused(graph, name) is Fused.RELU6:
            capped[place] = True
    wanted = np.where(
        capped, _CAP / np.maximum(peaks, _SMALLEST), 1 / np.maximum(shares, _SMALLEST)
    )
    scale = np.where(known & channels.free, np.clip(wanted, 1.0, factor), 1.0)
    found = {name: scale[channels.of(name)] for name in graph.tensors()}
    return {name: each for name, each in found.items() if (each > 1.0).any()}


def _widest(graph: Graph, seen: ChannelExtremes) -> dict[str, float]:
    """For each watched tensor the largest reach of any channel that shares its int8 scale."""
    own = {name: float(seen.reach(name).max()) for name in seen.names}
    for group in find_groups(graph):
        members = [name for name in group.tensors if name in own]
        most = max((own[name] for name in members), default=0.0)
        own.update(dict.fromkeys(members, most))
    return own


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
    groups = node.groups if isinstance(node, Conv) else 1
    group_of = np.arange(len(node.weight)) // (len(node.weight) // groups)
    weight, rest = np.empty_like(node.weight), (1,) * (node.weight.ndim - 2)
    for some in row_blocks(weight):
        block = node.weight[some].astype(np.float64)
        if made is not None:
            block = block * made[some].reshape(-1, 1, *rest)
        if read is not None:
            each = read.reshape(groups, -1)
            each = each if groups == 1 else each[group_of[some]]
            block = block / each.reshape(*each.shape, *rest)
        weight[some] = block
    return replace(node, weight=weight, bias=bias)
