"""Merge a linear 1x1 convolution into the convolution that follows it.

    before: x -> Conv(a, 1x1) -> Conv(w, b)
    after:  x -> Conv(w', b')     w'[o, c] = sum over m of w[o, m] * a[m, c]

That is how a network for grayscale pictures takes colours: it weighs red, green and blue
by a 1x1 convolution, and its first real convolution does it instead. The 1x1 convolution
has stride 1, no padding, no activation and one group, and its result has one reader, a
Conv with one group. A bias is moved along where the reader does not pad; where it pads with
zeros there must be none, since a padded zero has no bias. Computed in double precision.

It is done where it needs no more multiply-adds, and where the 1x1 convolution reads the
pixels (as they are or normalized): there a merged convolution reads three channels instead
of one, but one operator and one rounded tensor less are worth more.

Requires: nothing. Ensures: no such pair is left; outputs move by rounding only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exporter.convert.graph import Conv, Fused, Graph, Node, Normalize
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, rebuild


def apply(graph: Graph) -> Outcome:
    """Merge pairs until none is left."""
    changed = False
    while found := _first(graph):
        weighing, conv = found
        nodes: dict[str, Node | None] = {weighing.name: None, conv.name: _merged(weighing, conv)}
        graph = rebuild(graph, nodes)
        changed = True
    return graph, changed


def _first(graph: Graph) -> tuple[Conv, Conv] | None:
    uses = Uses(graph)
    for node in graph.nodes:
        if not isinstance(node, Conv) or not _is_pointwise(node):
            continue
        reader = uses.only_reader(node.output)
        if not isinstance(reader, Conv) or reader.groups != 1:
            continue
        if node.bias.any() and any(reader.padding):
            continue
        if _reads_pixels(graph, node, uses) or _is_smaller(graph, node, reader):
            return node, reader
    return None


def _is_pointwise(node: Conv) -> bool:
    return (
        node.weight.shape[2:] == (1, 1)
        and node.groups == 1
        and node.strides == (1, 1)
        and not any(node.padding)
        and node.fused is Fused.NONE
    )


def _reads_pixels(graph: Graph, node: Conv, uses: Uses) -> bool:
    source = node.inputs[0]
    before = uses.producers.get(source)
    if isinstance(before, Normalize):
        source = before.inputs[0]
    return source == graph.input.name and len(node.weight) <= node.weight.shape[1]


def _is_smaller(graph: Graph, node: Conv, reader: Conv) -> bool:
    """Whether the merged convolution takes no more multiply-adds than the two."""
    outputs, middle = reader.weight.shape[:2]
    inputs = node.weight.shape[1]
    taps = int(np.prod(reader.weight.shape[2:]))
    before = int(np.prod(graph.shapes[node.output][2:]))
    after = int(np.prod(graph.shapes[reader.output][2:]))
    apart = inputs * middle * before + middle * outputs * taps * after
    return inputs * outputs * taps * after <= apart


def _merged(weighing: Conv, conv: Conv) -> Conv:
    first = weighing.weight[:, :, 0, 0].astype(np.float64)
    weight = conv.weight.astype(np.float64)
    bias = conv.bias + np.einsum("omyx,m->o", weight, weighing.bias.astype(np.float64))
    return replace(
        conv,
        inputs=weighing.inputs,
        weight=np.ascontiguousarray(np.einsum("omyx,mc->ocyx", weight, first), np.float32),
        bias=bias.astype(np.float32),
    )


def ensures(graph: Graph) -> list[str]:
    """No pair is left that could be merged."""
    found = _first(graph)
    return [f"{found[0].name} could be merged into {found[1].name}"] if found else []


MERGE_POINTWISE = Rewrite("merge_pointwise", apply, ensures)
