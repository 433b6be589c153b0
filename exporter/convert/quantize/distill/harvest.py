"""What was learned, as a plan: integers, scales and zero points, within the kernels' limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from exporter.convert.graph import Conv, Dense
from exporter.convert.quantize.distill.network import LayerWeights, LearnedNetwork, Rounding
from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.rounding.weights import (
    BIAS_LIMIT,
    LARGEST_MULTIPLIER,
    LIMIT,
    SMALLEST_MULTIPLIER,
)


def harvest(network: LearnedNetwork, plan: QuantizationPlan) -> QuantizationPlan:
    """The plan that the network computes with now.

    Scales are widened where an int32 bias would not fit, as in `quantize_weights`.

    Args:
        plan: where learning began; constants, and whatever did not learn, are its own.

    Raises:
        QuantizationError: a weight scale has grown beyond what the kernels take.
    """
    activations = dict(plan.activations)
    for group, rounding in zip(network.groups, network.roundings, strict=True):
        if rounding.growth.requires_grad:
            activations.update(dict.fromkeys(group.tensors, _affine(rounding)))
    weights = dict(plan.weights)
    for node in network.nodes:
        if isinstance(node, Conv | Dense):
            source, made = activations[node.inputs[0]], activations[node.output]
            weights[node.name] = _weights(network.layers[node.name], source, made, node.name)
    return replace(plan, activations=activations, weights=weights, record=_record(network, plan))


def _affine(rounding: Rounding) -> Affine:
    return Affine(float(rounding.scale().detach()), round(float(rounding.zero_point().detach())))


def _weights(layer: LayerWeights, source: Affine, made: Affine, name: str) -> QuantizedWeights:
    scales = layer.scales().detach().numpy()
    bias = layer.biases().detach().numpy().astype(np.float64)
    steps = layer.steps.detach().numpy().astype(np.float64)
    needed = np.maximum(
        np.abs(bias) / (source.scale * BIAS_LIMIT),
        SMALLEST_MULTIPLIER * made.scale / source.scale,
    )
    stored = np.maximum(scales, np.nextafter(needed.astype(np.float32), np.float32(np.inf)))
    if (source.scale * stored.astype(np.float64) / made.scale >= LARGEST_MULTIPLIER).any():
        raise QuantizationError(
            f"The learned scales of the layer {name!r} are too large.",
            "one step of its products is 256 steps of its result or more",
            "use the default quantizer",
        )
    ratio = (scales.astype(np.float64) / stored).reshape(-1, *(1,) * (steps.ndim - 1))
    values = np.clip(np.rint(steps * ratio), -LIMIT, LIMIT).astype(np.int8)
    unit = source.scale * stored.astype(np.float64)
    return QuantizedWeights(values, stored, np.rint(bias / unit).astype(np.int32))


def _record(network: LearnedNetwork, plan: QuantizationPlan) -> Mapping[str, Any]:
    """The start's record, with the ranges that were learned instead of those chosen."""
    notes = dict(plan.record["activations"]["tensors"])
    for group, rounding in zip(network.groups, network.roundings, strict=True):
        found = _affine(rounding)
        if not rounding.growth.requires_grad or found == rounding.start:
            continue
        name = group.tensors[0]
        kept = {key: value for key, value in notes[name].items() if key != "saturated"}
        ends = [(end - found.zero_point) * found.scale for end in (-128, 127)]
        notes[name] = {
            **kept,
            "rule": "learned",
            "chosen": [float(f"{end:.6g}") for end in ends],
            "scale": float(f"{found.scale:.6g}"),
            "zero_point": found.zero_point,
        }
    activations = {**plan.record["activations"], "tensors": notes}
    return {**plan.record, "activations": activations}
