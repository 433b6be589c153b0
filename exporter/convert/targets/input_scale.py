"""Undo, for targets in float, what the input's scale and zero point say to quantized ones.

    before: (pixel - zero_point) * scale -> Normalize(mean, s)
    after:  pixel                        -> Normalize(zero_point + mean / scale, s * scale)

    before: (pixel - zero_point) * scale -> Conv(weight)
    after:  (pixel - zero_point)         -> Conv(weight * scale)

The file has one or two operators less. What reaches a convolution this way are small
whole numbers, which float16 holds exactly; padding with zeros is the same as before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exporter.convert.graph import Conv, Graph, Node, Normalize


def fold_input_scale(graph: Graph) -> Graph:
    """The graph with input scale 1, or the graph as it is.

    Requires: nothing. Ensures: the same function; unchanged where anything but
    convolutions or normalizations reads the pixels, or where they are the output.
    """
    source = graph.input
    readers = graph.consumers(source.name)
    same_kind = all(isinstance(n, Conv) for n in readers) or all(
        isinstance(n, Normalize) for n in readers
    )
    if (source.scale, source.zero_point) == (1.0, 0) or not same_kind:
        return graph
    if graph.output == source.name:
        return graph

    def folded(node: Node) -> Node:
        if source.name not in node.inputs:
            return node
        if isinstance(node, Normalize):
            mean = source.zero_point + node.mean.astype(np.float64) / source.scale
            scale = node.scale.astype(np.float64) * source.scale
            return replace(node, mean=mean.astype(np.float32), scale=scale.astype(np.float32))
        if isinstance(node, Conv):
            weight = node.weight.astype(np.float64) * source.scale
            return replace(node, weight=weight.astype(np.float32))
        return node

    whole = any(isinstance(n, Normalize) for n in readers)
    return replace(
        graph,
        input=replace(source, scale=1.0, zero_point=0 if whole else source.zero_point),
        nodes=tuple(folded(node) for node in graph.nodes),
    )
