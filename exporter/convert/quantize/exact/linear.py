"""Conv, Dense, and what the writer turns into a 1x1 depthwise convolution.

XNNPACK's `qs8_qc8w` kernels: an int32 sum of products, times a float32 factor per output
channel, rounded half to even. The sum is taken in float32, which is exact while no partial
sum exceeds 2^24; a layer where one could is cut into parts that are added in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from exporter.convert.graph import BatchNorm, Conv, Dense, Fused, Node, Normalize
from exporter.convert.quantize.exact.writer import Steps, Writer, simulates
from exporter.convert.quantize.plan import Affine, QuantizedWeights
from exporter.convert.quantize.rounding.weights import per_channel_weights

Doubles = npt.NDArray[np.float64]
Weight = npt.NDArray[np.int8]
Product = Callable[[list[str]], str]
EXACT = 2**24  # up to here float32 holds every whole number


@simulates(Conv)
def _conv(node: Conv, to: Writer) -> Steps:
    source, weights = to.read(node), to.plan.weights[node.name]

    def product(inputs: list[str]) -> str:
        return to.op(
            "Conv",
            inputs,
            strides=list(node.strides),
            pads=list(node.padding),
            dilations=list(node.dilations),
            group=node.groups,
        )

    total = _sum(source, weights, product, to, grouped=node.groups > 1)
    return _requantized(total, source, weights, to.affine(node), node.fused, to)


@simulates(Dense)
def _dense(node: Dense, to: Writer) -> Steps:
    source, weights = to.read(node), to.plan.weights[node.name]
    total = _sum(source, weights, lambda inputs: to.op("Gemm", inputs, transB=1), to)
    return _requantized(total, source, weights, to.affine(node), node.fused, to)


@simulates(Normalize)
def _normalize(node: Normalize, to: Writer) -> Steps:
    scale = node.scale.astype(np.float64)
    return _per_channel(node, scale, -node.mean.astype(np.float64) * scale, to)


@simulates(BatchNorm)
def _batch_norm(node: BatchNorm, to: Writer) -> Steps:
    return _per_channel(node, node.scale.astype(np.float64), node.shift.astype(np.float64), to)


def _per_channel(node: Node, scale: Doubles, shift: Doubles, to: Writer) -> Steps:
    source = to.read(node)
    weights = per_channel_weights(scale, shift, source.affine)
    channels = len(scale)
    total = _sum(
        source, weights, lambda inputs: to.op("Conv", inputs, group=channels), to, grouped=True
    )
    return _requantized(total, source, weights, to.affine(node), Fused.NONE, to)


def _sum(
    source: Steps, weights: QuantizedWeights, product: Product, to: Writer, grouped: bool = False
) -> str:
    """The int32 sum of products and bias as the float32 that the kernel converts it to."""
    parts = exact_parts(weights.values, source)
    bias = weights.bias.astype(np.int64)
    if len(parts) == 1 and (_largest_sum(parts[0], source) + np.abs(bias) <= EXACT).all():
        return product([source.name, to.constant(parts[0]), to.constant(bias)])
    shape = (1, -1) + (1,) * (weights.values.ndim - 2)
    total = to.constant(bias.reshape(shape), np.float64)
    for part in parts:
        made = product(
            [source.name, to.constant(part)] if grouped else _what_counts(source, part, to)
        )
        total = to.op("Add", [total, to.cast(made, TensorProto.DOUBLE)])
    return to.cast(total, TensorProto.FLOAT)


def _what_counts(source: Steps, part: Weight, to: Writer) -> list[str]:
    """The input and the weights of one part, without the channels that it has no weights for."""
    read = np.flatnonzero(part.any(axis=(0, *range(2, part.ndim))))
    first, last = (read[0], read[-1] + 1) if len(read) else (0, 1)
    if (first, last) == (0, part.shape[1]):
        return [source.name, to.constant(part)]
    ends = (to.constant([end], np.int64) for end in (first, last, 1))
    return [to.op("Slice", [source.name, *ends]), to.constant(part[:, first:last])]


def exact_parts(values: Weight, source: Steps) -> list[Weight]:
    """The weights as a sum of weights whose products float32 adds up exactly."""
    rows = values.reshape(len(values), -1)
    for count in range(1, rows.shape[1] + 1):
        edges = [-(-part * rows.shape[1] // count) for part in range(count + 1)]
        ranges = [slice(*pair) for pair in pairwise(edges)]
        if all((_largest_sum(rows[:, each], source) <= EXACT).all() for each in ranges):
            return [_only(rows, each).reshape(values.shape) for each in ranges]
    raise AssertionError("a single product is at most 255 * 127")


def _only(rows: Weight, columns: slice) -> Weight:
    found = np.zeros_like(rows)
    found[:, columns] = rows[:, columns]
    return found


def _largest_sum(values: Weight, source: Steps) -> npt.NDArray[np.int64]:
    """By output channel, the largest magnitude that any partial sum of products can have."""
    rows = values.reshape(len(values), -1)
    positive = np.maximum(rows, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(rows, 0).sum(axis=1, dtype=np.int64)
    up = positive * source.high + negative * source.low
    down = positive * source.low + negative * source.high
    return np.asarray(np.maximum(up, -down), np.int64)


def _requantized(
    total: str,
    source: Steps,
    weights: QuantizedWeights,
    made: Affine,
    fused: Fused,
    to: Writer,
) -> Steps:
    scales = np.asarray(weights.scales, np.float32)
    factors = np.float32(source.affine.scale) * scales / np.float32(made.scale)
    shape = (1, -1) + (1,) * (weights.values.ndim - 2)
    return to.rounded(to.op("Mul", [total, to.constant(factors.reshape(shape))]), made, fused)
