"""Weights: int8, symmetric, one scale per output channel; biases: int32.

Per tensor is not offered: with depthwise convolutions the channels' ranges differ by
orders of magnitude, and one scale for all of them has cost others 60 points of accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Array
from exporter.convert.held_weights import row_blocks
from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.plan import Affine, QuantizedWeights

LIMIT = 127  # -128 is left out: symmetric, and what the TFLite specification asks for
BIAS_LIMIT = 2**30  # half of int32; the other half is for the sum of products
Doubles = npt.NDArray[np.float64]
SMALLEST_MULTIPLIER = 2.0**-32  # XNNPACK's range for s_in * s_w / s_out
LARGEST_MULTIPLIER = 2.0**8


@dataclass(frozen=True)
class WeightNotes:
    """What was out of the ordinary in one layer.

    Attributes:
        dead: output channels whose weights are all zero.
        widened: output channels whose scale had to be larger than max|w| / 127, since
            the bias would not have fitted int32 or the multiplier been too small.
    """

    dead: tuple[int, ...] = ()
    widened: tuple[int, ...] = ()


def quantize_weights(
    weight: Array, bias: Array, source: Affine, result: Affine, name: str = "weights"
) -> tuple[QuantizedWeights, WeightNotes]:
    """One layer's weights and bias, given the scales of what it reads and makes.

    `s_w[c] = max|w[c]| / 127`, `q = round(w / s_w)` half to even, in [-127, 127];
    `bias_q = round(bias / (s_in * s_w))` (TFLite 8-bit quantization specification,
    CONV_2D and FULLY_CONNECTED). A channel without weights gets the scale at which its
    bias is well resolved; a scale is widened, never narrowed, where the int32 bias
    would exceed 2^30 or `s_in * s_w / s_out` fall below 2^-32. Both are noted.

    Args:
        weight: float32 `[out, ...]`.
        bias: float32 `[out]`.
        source: of the tensor that the layer reads.
        result: of the tensor that it makes.
        name: for messages.

    Raises:
        QuantizationError: a weight or bias is not finite, or `s_in * s_w / s_out` is
            2^8 or more, beyond what the runtimes' kernels accept.
    """
    _check_finite(weight, bias, name)
    rows = weight.reshape(weight.shape[0], -1)
    wide_bias = bias.astype(np.float64)
    high, low = rows.max(axis=1, initial=0.0), rows.min(axis=1, initial=0.0)
    largest = np.maximum(high, -low).astype(np.float64)
    dead = largest == 0.0
    scales = np.where(dead, result.scale / source.scale / 2**8, largest / LIMIT)
    needed = np.maximum(
        np.abs(wide_bias) / (source.scale * BIAS_LIMIT),
        SMALLEST_MULTIPLIER * result.scale / source.scale,
    )
    widened = scales < needed
    # rounded up, so that float32 neither overflows the bias nor lets 127 become 128
    stored = _float32_up(np.where(widened, needed, scales))
    _check_multipliers(stored, source, result, name)
    step = stored.astype(np.float64)
    values = np.empty(rows.shape, np.int8)
    for some in row_blocks(rows):
        exact = rows[some].astype(np.float64) / step[some, None]
        values[some] = np.clip(np.rint(exact), -LIMIT, LIMIT)
    quantized = QuantizedWeights(
        values=values.reshape(weight.shape),
        scales=stored,
        bias=np.rint(wide_bias / (source.scale * step)).astype(np.int32),
    )
    notes = WeightNotes(_indices(dead), _indices(widened & ~dead))
    return quantized, notes


def _check_finite(weight: Array, bias: Array, name: str) -> None:
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise QuantizationError(
            f"The layer {name!r} holds weights that are not finite.",
            "NaN or infinity cannot be quantized, nor can it have been meant",
            "look for the training step that diverged, and export an earlier checkpoint",
        )


def _check_multipliers(
    scales: npt.NDArray[np.float32], source: Affine, result: Affine, name: str
) -> None:
    multiplier = source.scale * scales.astype(np.float64) / result.scale
    if (multiplier >= LARGEST_MULTIPLIER).any():
        worst = int(multiplier.argmax())
        raise QuantizationError(
            f"Channel {worst} of the layer {name!r} cannot be quantized.",
            f"one step of its products is {multiplier[worst]:.3g} steps of its result "
            f"(scales {source.scale:.3g} x {scales[worst]:.3g} -> {result.scale:.3g})",
            "its large products cancel out over the calibration images: calibrate on "
            "images like those it will see, or keep to float16",
        )


def per_channel_weights(scale: Doubles, shift: Doubles, source: Affine) -> QuantizedWeights:
    """`x * scale[c] + shift[c]` as a 1x1 depthwise convolution.

    Its weights have a scale per channel and its bias 32 bits, so only the output is
    rounded; MUL and ADD would round the constants to 8 bits and round three times.

    Args:
        scale, shift: float64 `[C]`.
        source: of the tensor that is read.

    Returns:
        values `[C, 1, 1, 1]`.
    """
    step_in = float(np.float32(source.scale))
    steps = np.maximum(np.abs(scale) / LIMIT, np.abs(shift) / (step_in * BIAS_LIMIT))
    steps = np.maximum(steps, np.finfo(np.float32).tiny * 2**20).astype(np.float32)
    values = np.round(scale / steps).astype(np.int8).reshape(-1, 1, 1, 1)
    bias = np.round(shift / (step_in * steps.astype(np.float64))).astype(np.int32)
    return QuantizedWeights(values, steps, bias)


def dequantize_weights(weights: QuantizedWeights, source: Affine) -> tuple[Array, Array]:
    """The float32 weights and bias that the integers stand for."""
    scales = weights.scales.astype(np.float64)
    shape = (-1,) + (1,) * (weights.values.ndim - 1)
    values = np.empty(weights.values.shape, np.float32)
    for some in row_blocks(values):
        values[some] = weights.values[some] * scales[some].reshape(shape)
    return (
        values,
        (weights.bias * (scales * source.scale)).astype(np.float32),
    )


def _float32_up(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    rounded = values.astype(np.float32)
    below = rounded.astype(np.float64) < values
    return np.where(below, np.nextafter(rounded, np.float32(np.inf)), rounded)


def _indices(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(mask))
