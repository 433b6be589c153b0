"""Fold a scale and a shift per channel into the convolution or dense layer before them.

    before: x -> Conv(w, b) -> BatchNorm(scale, shift) -> y
    after:  x -> Conv(w * scale, b * scale + shift) -> y

The same for Dense, and for Add, Sub and Mul with one constant per channel. A
BatchNorm elsewhere stays; targets write it as a product and a sum. Computed in
double precision (Jacob et al. 2018, arXiv:1712.05877, section 3.2).

Requires: nothing. Ensures: no Conv or Dense without activation is read by such a
node alone; outputs move by rounding only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import (
    Add,
    BatchNorm,
    Conv,
    Dense,
    Fused,
    Graph,
    Mul,
    Node,
    Sub,
    affine_of,
)
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, operand_of, rebuild

Vector = npt.NDArray[np.float64]


def apply(graph: Graph) -> Outcome:
    """Fold until nothing is left to fold."""
    changed = False
    while found := _all(graph):
        nodes: dict[str, Node | None] = {}
        for layer, affine in found:
            nodes[layer.name] = None
            nodes[affine.name] = _folded(graph, layer, affine)
        graph = rebuild(graph, nodes)
        changed = True
    return graph, changed


def _all(graph: Graph) -> list[tuple[Conv | Dense, Node]]:
    uses = Uses(graph)
    found = []
    for layer in graph.nodes:
        if isinstance(layer, Conv | Dense) and layer.fused is Fused.NONE:
            reader = uses.only_reader(layer.output)
            if reader is not None and _affine(graph, reader, len(layer.bias)) is not None:
                found.append((layer, reader))
    return found


def _affine(graph: Graph, node: Node, channels: int) -> tuple[Vector, Vector] | None:
    """A node as `x * scale[c] + shift[c]`."""
    if isinstance(node, BatchNorm):
        return node.scale.astype(np.float64), node.shift.astype(np.float64)
    if not isinstance(node, Add | Sub | Mul) or node.fused is not Fused.NONE:
        return None
    source = operand_of(graph, node)
    if source is None:
        return None
    position = 1 - node.inputs.index(source)
    constant = graph.constants[node.inputs[position]]
    rank = len(graph.shapes[node.output])
    full = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    if full.size not in (1, full.shape[1]):
        return None
    values = np.broadcast_to(full.reshape(-1), (channels,)).astype(np.float64)
    return affine_of(node, position, values)


def _folded(graph: Graph, layer: Conv | Dense, node: Node) -> Node:
    affine = _affine(graph, node, len(layer.bias))
    assert affine is not None, "found by the same function"
    scale, shift = affine
    weight = layer.weight.astype(np.float64) * scale.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    bias = layer.bias.astype(np.float64) * scale + shift
    return replace(
        layer,
        output=node.output,
        fused=getattr(node, "fused", Fused.NONE),
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
    )


def ensures(graph: Graph) -> list[str]:
    """Nothing is left to fold."""
    return [f"{node.name} could be folded into {layer.name}" for layer, node in _all(graph)]


FOLD_BATCH_NORM = Rewrite("fold_batch_norm", apply, ensures)
