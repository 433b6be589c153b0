"""Pooling, padding, concatenation, reshaping and what else moves values."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from exporter.convert.graph import (
    AveragePool,
    ChannelShuffle,
    Concat,
    GlobalAveragePool,
    MaxPool,
    Pad,
    Reshape,
    Slice,
)
from exporter.convert.quantize.exact.writer import Steps, Writer, simulates
from exporter.convert.quantize.windows import window_counts


@simulates(MaxPool)
def _max_pool(node: MaxPool, to: Writer) -> Steps:
    source = to.read(node)
    made = to.op(
        "MaxPool",
        [source.name],
        kernel_shape=list(node.kernel),
        strides=list(node.strides),
        pads=list(node.padding),
    )
    return to.requantized(Steps(made, source.affine), to.affine(node))


@simulates(AveragePool)
def _average_pool(node: AveragePool, to: Writer) -> Steps:
    """TFLite's own kernel: the mean of the levels, not of the steps; half away from zero."""
    source = to.read(node)
    channels, height, width = to.graph.shapes[node.inputs[0]][1:]
    ones = to.constant(np.ones((channels, 1, *node.kernel)))
    counts = window_counts(node, height, width)
    total = to.op(
        "Conv",
        [source.name, ones],
        strides=list(node.strides),
        pads=list(node.padding),
        group=channels,
    )
    levels = to.op("Add", [total, to.constant(counts * source.affine.zero_point)])
    magnitude = to.op("Add", [to.op("Abs", [levels]), to.constant(counts // 2)])
    divided = to.op("Div", [to.cast(magnitude, TensorProto.DOUBLE), to.constant(counts, "f8")])
    whole = to.cast(to.op("Floor", [divided]), TensorProto.FLOAT)
    mean = to.op("Mul", [to.op("Sign", [levels]), whole])
    steps = to.op("Sub", [mean, to.constant(float(source.affine.zero_point))])
    return to.requantized(to.rounded(steps, source.affine), to.affine(node))


@simulates(GlobalAveragePool)
def _global_average_pool(node: GlobalAveragePool, to: Writer) -> Steps:
    """MEAN: the sum of the levels, times a float32, plus a float32; half to even."""
    source, made = to.read(node), to.affine(node)
    height, width = to.graph.shapes[node.inputs[0]][2:]
    count, zero = height * width, source.affine.zero_point
    summed = to.cast(source.name, TensorProto.DOUBLE)
    axes = to.constant([2, 3], np.int64)
    total = to.op("ReduceSum", [summed, axes], keepdims=int(node.keep_dims))
    levels = to.op("Add", [total, to.constant(count * zero, np.float64)])
    ratio = np.float32(source.affine.scale) / np.float32(made.scale)
    factor = ratio * (np.float32(1) / np.float32(count))
    shift = np.float32(made.zero_point) - np.float32(count * zero) * factor
    scaled = to.op("Mul", [to.cast(levels, TensorProto.FLOAT), to.constant(factor)])
    moved = to.op("Add", [scaled, to.constant(shift)])
    whole = to.op("Round", [moved])
    return to.rounded(to.op("Sub", [whole, to.constant(float(made.zero_point))]), made)


@simulates(Pad)
def _pad(node: Pad, to: Writer) -> Steps:
    source = to.read(node)
    top, left, bottom, right = node.padding
    pads = to.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
    filling = to.constant(float(round(node.value / source.affine.scale)))
    made = to.op("Pad", [source.name, pads, filling])
    return to.requantized(Steps(made, source.affine), to.affine(node))


@simulates(Concat)
def _concat(node: Concat, to: Writer) -> Steps:
    made = to.affine(node)
    parts = [to.requantized(to.read(node, position), made) for position in range(len(node.inputs))]
    return Steps(to.op("Concat", [part.name for part in parts], axis=node.axis), made)


@simulates(Reshape)
def _reshape(node: Reshape, to: Writer) -> Steps:
    source = to.read(node)
    name = source.name
    if node.channels_last:
        name = to.op("Transpose", [name], perm=[0, 2, 3, 1])
    made = to.op("Flatten", [name], axis=1)
    return to.requantized(Steps(made, source.affine), to.affine(node))


@simulates(Slice)
def _slice(node: Slice, to: Writer) -> Steps:
    source = to.read(node)
    bounds = [to.constant([value], np.int64) for value in (node.start, node.stop, node.axis)]
    made = to.op("Slice", [source.name, *bounds])
    return to.requantized(Steps(made, source.affine), to.affine(node))


@simulates(ChannelShuffle)
def _channel_shuffle(node: ChannelShuffle, to: Writer) -> Steps:
    source = to.read(node)
    batch, channels, height, width = to.graph.shapes[node.inputs[0]]
    split = (batch, node.groups, channels // node.groups, height, width)
    grouped = to.op("Reshape", [source.name, to.constant(split, np.int64)])
    turned = to.op("Transpose", [grouped], perm=[0, 2, 1, 3, 4])
    whole = to.constant((batch, channels, height, width), np.int64)
    made = to.op("Reshape", [turned, whole])
    return to.requantized(Steps(made, source.affine), to.affine(node))
