"""Which channels of which tensors are the same quantity, and must be scaled alike.

    Add            c of either operand = c of the sum
    Concat         c of a part = c + (channels before it) of the whole
    Mul by a gate  c of the picture = c of the product; the gate `[1, C, 1, 1]` stays as it is
    Reshape        c = each of its H x W places in the flat tensor
    Slice, ChannelShuffle    channels that are taken, or change places

Pooling, padding with zeros and ReLU treat every channel by itself. Convolutions and dense
layers end a chain: their weights can undo a scale and make another. Everything else, SiLU,
hard-swish, sigmoid and the like, gives no scaled result for a scaled input.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import (
    Add,
    AveragePool,
    ChannelShuffle,
    Concat,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    MaxPool,
    Mul,
    Node,
    Pad,
    Relu,
    Reshape,
    Slice,
)

Indices = npt.NDArray[np.int64]
Link = tuple[str, Indices, Indices]  # an input, its channels, the output's


class ChannelClasses:
    """The channels of all tensors, each with the class that it belongs to.

    Attributes:
        classes: int64 `[all channels]`, the number of each one's class.
        free: bool by class: whether scales may be given to it.
    """

    def __init__(self, graph: Graph) -> None:
        self._offsets: dict[str, int] = {}
        total = 0
        for name in graph.tensors():
            self._offsets[name] = total
            total += graph.shapes[name][1]
        self._counts = {name: graph.shapes[name][1] for name in self._offsets}
        self._above = list(range(total))
        frozen = {graph.input.name, graph.output, graph.logits}
        for node in graph.nodes:
            if isinstance(node, Conv | Dense):
                continue
            tied = set()
            for name, there, here in _links(node, graph):
                tied.add(name)
                self._join(self._offsets[name] + there, self._offsets[node.output] + here)
            frozen.update({*node.inputs} & {*self._counts} - tied)
            if not tied:
                frozen.add(node.output)
        self.classes = np.array([self._leader(one) for one in range(total)], np.int64)
        self.free = np.ones(total, bool)
        for name in frozen:
            self.free[self.of(name)] = False

    def of(self, tensor: str) -> Indices:
        """The class of each channel of a tensor, int64 `[C]`."""
        start = self._offsets[tensor]
        return self.classes[start : start + self._counts[tensor]]

    def _leader(self, one: int) -> int:
        while self._above[one] != one:
            self._above[one] = self._above[self._above[one]]
            one = self._above[one]
        return one

    def _join(self, ones: Indices, others: Indices) -> None:
        for one, other in zip(ones.tolist(), others.tolist(), strict=True):
            self._above[self._leader(one)] = self._leader(other)


def _links(node: Node, graph: Graph) -> Iterator[Link]:
    """What of a node's inputs is the same as what of its output; nothing where none is."""
    count = graph.shapes[node.output][1]
    everything = np.arange(count)
    if isinstance(node, Add):
        shapes = {graph.shapes.get(name) for name in (*node.inputs, node.output)}
        if node.fused is not Fused.RELU6 and len(shapes) == 1:
            for name in node.inputs:
                yield name, everything, everything
    elif isinstance(node, Mul):
        picture = _gated(node, graph)
        if picture is not None:
            yield picture, everything, everything
    elif isinstance(node, Concat) and node.axis == 1:
        start = 0
        for name in node.inputs:
            end = start + graph.shapes[name][1]
            yield name, np.arange(end - start), np.arange(start, end)
            start = end
    elif isinstance(node, Reshape):
        channels = graph.shapes[node.inputs[0]][1]
        places = count // channels
        source = everything % channels if node.channels_last else everything // places
        yield node.inputs[0], source, everything
    elif isinstance(node, Slice):
        yield node.inputs[0], everything + (node.start if node.axis == 1 else 0), everything
    elif isinstance(node, ChannelShuffle):
        source = everything % node.groups * (count // node.groups) + everything // node.groups
        yield node.inputs[0], source, everything
    elif isinstance(node, MaxPool | AveragePool | GlobalAveragePool | Relu) or (
        isinstance(node, Pad) and node.value == 0.0
    ):
        yield node.inputs[0], everything, everything


def _gated(node: Mul, graph: Graph) -> str | None:
    """The operand of a squeeze-and-excitation's product that is the picture."""
    made = graph.shapes[node.output]
    if node.fused is Fused.RELU6 or len(made) != 4 or made[2:] == (1, 1):
        return None
    pictures = [name for name in node.inputs if graph.shapes.get(name) == made]
    return pictures[0] if len(pictures) == 1 else None
