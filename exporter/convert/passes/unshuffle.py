"""Let convolutions read what a channel shuffle would have moved.

    before: x, y -> Concat -> ChannelShuffle -> Slice -> Conv(w)
    after:  x -> Slice, y -> Slice, both -> Concat -> Conv(w with its input channels moved)

A convolution does not mind in which order its channels come, as long as its weights follow.
So each convolution that reads moved channels takes them where they were made, in whole
stretches, and ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164) runs without a transpose. The
same goes for a depthwise convolution that only convolutions read: its result keeps the new
order.

Requires: nothing. Ensures: outputs move by rounding only. It is all or nothing: where some
shuffle would still be needed, nothing is changed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exporter.convert.graph import ChannelShuffle, Concat, Conv, Graph, Node, Slice
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, nothing, trimmed

_MOST = 5  # parts of a concatenation that XNNPACK takes
Origin = tuple[str, int]  # a tensor, and a channel of it


def apply(graph: Graph) -> Outcome:
    """Rewrite all convolutions behind shuffles, if that makes every shuffle needless."""
    if not any(isinstance(node, ChannelShuffle) for node in graph.nodes):
        return graph, False
    after = _needed(_Moving(graph).graph())
    if any(isinstance(node, ChannelShuffle) for node in after.nodes):
        return graph, False
    return after, True


def _needed(graph: Graph) -> Graph:
    wanted, kept = {graph.output}, []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return trimmed(replace(graph, nodes=tuple(kept[::-1])))


class _Moving:
    """The graph in the making, and where each channel of a moved tensor lies."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._uses = graph, Uses(graph)
        self._shapes = dict(graph.shapes)
        self._nodes: list[Node] = []
        self._origins: dict[str, list[Origin]] = {}
        self._shuffled: set[str] = set()  # tensors whose channels a shuffle has moved

    def graph(self) -> Graph:
        for node in self._graph.nodes:
            self._nodes.append(self._rewritten(node))
        return replace(self._graph, nodes=tuple(self._nodes), shapes=self._shapes)

    def _rewritten(self, node: Node) -> Node:
        moved = [name for name in node.inputs if name in self._shuffled]
        if isinstance(node, ChannelShuffle) or (moved and _moves(node)):
            self._shuffled.add(node.output)
        if _moves(node):
            self._origins[node.output] = self._moved(node)
        elif not isinstance(node, Conv) or not moved or self._repeats(node):
            return node
        elif node.groups == 1:
            return self._reading_stretches(node)
        elif self._is_free_depthwise(node):
            return self._depthwise(node)
        return node

    def _origin(self, tensor: str) -> list[Origin]:
        channels = range(self._graph.shapes[tensor][1])
        return self._origins.get(tensor) or [(tensor, channel) for channel in channels]

    def _moved(self, node: Node) -> list[Origin]:
        parts = [self._origin(name) for name in node.inputs]
        if isinstance(node, Slice):
            return parts[0][node.start : node.stop]
        if isinstance(node, ChannelShuffle):
            each = len(parts[0]) // node.groups
            return [parts[0][g * each + i] for i in range(each) for g in range(node.groups)]
        return [origin for part in parts for origin in part]

    def _repeats(self, node: Conv) -> bool:
        """Whether a channel comes twice in what a node reads."""
        origins = self._origin(node.inputs[0])
        return len(set(origins)) < len(origins)

    def _is_free_depthwise(self, node: Conv) -> bool:
        readers = self._uses.readers[node.output]
        pointwise = all(isinstance(one, Conv) and one.groups == 1 for one in readers)
        return node.groups == len(node.weight) and node.output != self._graph.output and pointwise

    def _reading_stretches(self, node: Conv) -> Conv:
        tensor, order = self._gathered(node)
        return replace(node, inputs=(tensor,), weight=np.ascontiguousarray(node.weight[:, order]))

    def _depthwise(self, node: Conv) -> Conv:
        tensor, order = self._gathered(node)
        place = np.argsort(order)
        made = f"{node.output}/reordered"  # its own name would promise the old order
        self._shapes[made] = self._graph.shapes[node.output]
        self._origins[node.output] = [(made, int(at)) for at in place]
        self._shuffled.add(node.output)
        weight = np.ascontiguousarray(node.weight[order])
        bias = node.bias[order].copy()
        return replace(node, inputs=(tensor,), output=made, weight=weight, bias=bias)

    def _gathered(self, node: Conv) -> tuple[str, list[int]]:
        """A tensor with all the channels that a node reads; which of those comes where in it."""
        origins = self._origin(node.inputs[0])
        place = {origin: index for index, origin in enumerate(origins)}
        parts = [
            (self._stretch(tensor, start, stop), [(tensor, c) for c in range(start, stop)])
            for tensor, start, stop in _stretches(origins)
        ]
        while len(parts) > 1:  # the shortest first: they are copied more than once
            parts.sort(key=lambda part: len(part[1]))
            count = len(parts) if len(parts) <= _MOST else min(_MOST, len(parts) - _MOST + 1)
            name = f"{node.output}/gathered{len(parts)}"
            joined = [channel for _, channels in parts[:count] for channel in channels]
            sources = tuple(tensor for tensor, _ in parts[:count])
            self._add(Concat(name=name, inputs=sources, output=name), len(joined))
            parts = [(name, joined), *parts[count:]]
        return parts[0][0], [place[origin] for origin in parts[0][1]]

    def _stretch(self, tensor: str, start: int, stop: int) -> str:
        if (start, stop) == (0, self._shapes[tensor][1]):
            return tensor
        output = f"{tensor}/channels{start}-{stop}"
        if output not in self._shapes:
            cut = Slice(
                name=output, inputs=(tensor,), output=output, axis=1, start=start, stop=stop
            )
            self._add(cut, stop - start)
        return output

    def _add(self, node: Node, channels: int) -> None:
        batch, _, *size = self._shapes[node.inputs[0]]
        self._shapes[node.output] = (batch, channels, *size)
        self._nodes.append(node)


def _stretches(origins: list[Origin]) -> list[tuple[str, int, int]]:
    """Each tensor's channels in ascending order, neighbours as one stretch."""
    found: list[tuple[str, int, int]] = []
    rank = {tensor: at for at, (tensor, _) in enumerate(origins)}
    for tensor, channel in sorted(origins, key=lambda one: (rank[one[0]], one[1])):
        if found and found[-1][0] == tensor and found[-1][2] == channel:
            found[-1] = (tensor, found[-1][1], channel + 1)
        else:
            found.append((tensor, channel, channel + 1))
    return found


def _moves(node: Node) -> bool:
    """Whether a node moves whole channels and changes no value."""
    along = isinstance(node, Concat | Slice) and node.axis == 1
    return along or isinstance(node, ChannelShuffle)


UNSHUFFLE = Rewrite("unshuffle", apply, nothing)
