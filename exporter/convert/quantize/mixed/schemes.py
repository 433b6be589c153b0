"""Other ways to make a network small, from the same int8 plan.

    dynamic_range   int8 weights; activations are float and rounded as they come, to each
                    image's own range, where a layer reads them
    int8_weights    int8 weights, turned into float before they are used; float arithmetic
    int16           int8 weights, 16-bit activations, 64-bit biases

In all three the weights are the plan's, rounded so that errors cancel, and biases are
corrected for what is left. Depthwise convolutions have no kernel in XNNPACK that rounds
what it reads; `dynamic_range` computes them in float, from int8 weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import (
    Add,
    AveragePool,
    Conv,
    Dense,
    GlobalAveragePool,
    Graph,
    Node,
    Relu,
    Relu6,
    Reshape,
)
from exporter.convert.quantize.mixed.modes import body, with_corrected_biases
from exporter.convert.quantize.mixed.sensitivity import can_be_dynamic
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.quantize import Quantized

HEADROOM = 4.0  # an int16 tensor holds this many times the int8 range before it clips
_INT16_MAX = 32767
_INT16_KINDS = Conv | Dense | Add | GlobalAveragePool | AveragePool | Relu | Relu6 | Reshape
_NO_PADDING = (0, 0, 0, 0)
Image = npt.NDArray[np.uint8]


def dynamic_range(quantized: Quantized, images: Sequence[Image]) -> Quantized:
    """int8 weights, activations rounded by the runtime.

    Args:
        quantized: an int8 network without float nodes.
        images: for the biases, uint8 `[H, W, 3]`, all in memory at once; none leaves them.
    """
    nodes = body(quantized.graph)
    layers = [node for node in nodes if isinstance(node, Conv | Dense)]
    dynamic = frozenset(n.name for n in layers if can_be_dynamic(quantized.graph, n))
    plan = replace(
        quantized.plan,
        float_nodes=frozenset(node.name for node in nodes),
        dynamic_nodes=dynamic,
        dequantized_nodes=frozenset(node.name for node in layers) - dynamic,
    )
    return with_corrected_biases(replace(quantized, plan=plan), images)


def int8_weights(quantized: Quantized, images: Sequence[Image]) -> Quantized:
    """int8 weights only; arguments as for `dynamic_range`."""
    nodes = body(quantized.graph)
    plan = replace(
        quantized.plan,
        float_nodes=frozenset(node.name for node in nodes),
        dequantized_nodes=frozenset(n.name for n in nodes if isinstance(n, Conv | Dense)),
    )
    return with_corrected_biases(replace(quantized, plan=plan), images)


def int16(quantized: Quantized, images: Sequence[Image]) -> Quantized:
    """16-bit activations; arguments as for `dynamic_range`.

    A tensor's range is `HEADROOM` times that of its int8 one, symmetric; 2^13 steps are
    left for what int8 gives 2^8. Nodes without an int16 kernel compute in float.
    """
    weights_only = int8_weights(quantized, images)
    graph, plan = weights_only.graph, weights_only.plan
    kept = frozenset(n.name for n in body(graph) if not _has_int16_kernel(graph, n))
    layers = frozenset(plan.weights)
    activations = {name: _int16_affine(one) for name, one in plan.activations.items()}
    activations[graph.input.name] = Affine(graph.input.scale, 0)  # whole pixels, exactly
    changed = replace(
        plan,
        activations=activations,
        weights=_with_finer_biases(graph, plan, activations),
        float_nodes=kept,
        dequantized_nodes=kept & layers,
        activation_type="int16",
    )
    return replace(weights_only, plan=changed)


def _int16_affine(one: Affine) -> Affine:
    """Symmetric, and wide enough for all that the int8 range held."""
    reach = max(127 - one.zero_point, one.zero_point + 128) * one.scale
    return Affine(float(np.float32(HEADROOM * reach / _INT16_MAX)), 0)


def _with_finer_biases(
    graph: Graph, plan: QuantizationPlan, activations: dict[str, Affine]
) -> dict[str, QuantizedWeights]:
    """The same biases in steps of the int16 input's scale, int64."""
    found = dict(plan.weights)
    for node in body(graph):
        if not isinstance(node, Conv | Dense) or node.name not in found:
            continue
        name = node.inputs[0]
        ratio = plan.activations[name].scale / activations[name].scale
        old = found[node.name]
        found[node.name] = replace(old, bias=np.rint(old.bias * ratio).astype(np.int64))
    return found


def _has_int16_kernel(graph: Graph, node: Node) -> bool:
    if not isinstance(node, _INT16_KINDS) or set(node.inputs) & set(graph.constants):
        return False
    if isinstance(node, Conv):
        depthwise = node.groups == graph.shapes[node.inputs[0]][1]
        return node.groups == 1 or depthwise
    return not isinstance(node, AveragePool) or node.padding == _NO_PADDING
