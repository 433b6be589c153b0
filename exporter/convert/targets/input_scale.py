"""Move the scale of the pixels into the first convolutions, for targets in float.

    before: (pixel - zero_point) * scale -> Conv(weight)
    after:  (pixel - zero_point)         -> Conv(weight * scale)

What flows then are small whole numbers, which float16 holds exactly, and the
file has one operator less. Padding with zeros is the same before and after.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exporter.convert.graph import Conv, Graph, Node


def fold_input_scale(graph: Graph) -> Graph:
    """The graph with input scale 1, or the graph as it is.

    Requires: nothing. Ensures: the same function; unchanged where anything but
    convolutions reads the pixels, or where they are the output.
    """
    scale, pixels = graph.input.scale, graph.input.name
    readers = graph.consumers(pixels)
    if scale == 1.0 or graph.output == pixels or not all(isinstance(n, Conv) for n in readers):
        return graph

    def scaled(node: Node) -> Node:
        if not isinstance(node, Conv) or pixels not in node.inputs:
            return node
        weight = (node.weight.astype(np.float64) * scale).astype(np.float32)
        return replace(node, weight=weight)

    return replace(
        graph,
        input=replace(graph.input, scale=1.0),
        nodes=tuple(scaled(node) for node in graph.nodes),
    )
