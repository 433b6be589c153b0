"""Pooling, padding, concatenation and reshaping: what moves or gathers pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.convert.graph import (
    AveragePool,
    ChannelShuffle,
    Concat,
    GlobalAveragePool,
    MaxPool,
    Pad,
    Padding,
    Pair,
    Reshape,
    Shape,
    Slice,
)
from exporter.convert.quantize.plan import Affine
from exporter.convert.targets.tflite import layout
from exporter.convert.targets.tflite.lowering import Lowering, Op, Refusal, Value, lowers
from exporter.convert.targets.tflite.padding import Window

_INT8_MIN = -128


def pad_spatially(
    name: str, source: Value, padding: Padding, to: Lowering, value: float = 0.0
) -> Value:
    """Pad height and width: PAD for zeros, PADV2 for any other constant.

    In int8 PAD fills with the zero point. `value` minus infinity means less than
    anything: float32's lowest, or int8 -128.
    """
    top, left, bottom, right = padding
    if min(padding) < 0:
        raise Refusal("it crops (negative padding)")
    batch, height, width, channels = source.shape
    shape = (batch, height + top + bottom, width + left + right, channels)
    non_negative = source.non_negative and value >= 0
    made = to.temporary(name, shape, source.affine, non_negative)
    fill(source, made, padding, to, value)
    return made


def fill(source: Value, made: Value, padding: Padding, to: Lowering, value: float) -> None:
    """Write the PAD or PADV2 from `source` to `made`."""
    top, left, bottom, right = padding
    amounts = to.integers([[0, 0], [top, bottom], [left, right], [0, 0]])
    if value == 0.0:
        to.op(Op.PAD, [source, amounts], made, schema.PadOptionsT())
        return
    filling = _filling(value, source.affine, to)
    to.op(Op.PADV2, [source, amounts, filling], made, schema.PadV2OptionsT())


def _filling(value: float, affine: Affine | None, to: Lowering) -> Value:
    lowest = value == -np.inf
    if affine is None:
        number = float(np.finfo(np.float32).min) if lowest else value
        index = to.flat.constant(f"constant/{number:g}", np.array(number, np.float32))
        return Value(index, ())
    level = _INT8_MIN if lowest else round(value / affine.scale) + affine.zero_point
    if not -128 <= level <= 127:
        raise Refusal(f"it pads with {value:g}, which its int8 scale cannot hold")
    return to.int8_constant(f"constant/{value:g}", np.array(level, np.int8), affine)


@lowers(Pad)
def _pad(node: Pad, to: Lowering) -> None:
    source = to.read(node)
    if min(node.padding) < 0:
        raise Refusal("it crops (negative padding)")
    to.same_scale(node, source, lambda made: fill(source, made, node.padding, to, node.value))


def _pool_options(kernel: Pair, strides: Pair, padding: int) -> schema.Pool2DOptionsT:
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = kernel
    options.strideH, options.strideW = strides
    options.padding = padding
    return options


def _window(node: MaxPool | AveragePool, source: Value, to: Lowering) -> Window:
    output = to.graph.shapes[node.output]
    return Window(
        (source.shape[1], source.shape[2]),
        (output[2], output[3]),
        node.kernel,
        node.strides,
        (1, 1),
        node.padding,
    )


@lowers(MaxPool)
def _max_pool(node: MaxPool, to: Lowering) -> None:
    """MAX_POOL_2D; padding that is not SAME's is written out with a value that never wins.

    Zero never wins over non-negative values, and runtimes fuse or delegate PAD where
    they leave PADV2 alone.
    """
    source = to.read(node)
    window = _window(node, source, to)
    padding = schema.Padding.VALID
    if not window.is_valid():
        if window.is_same():
            padding = schema.Padding.SAME
        else:
            value = 0.0 if source.non_negative else -np.inf
            source = pad_spatially(f"{node.output}/padded", source, window.explicit(), to, value)
    options = _pool_options(node.kernel, node.strides, padding)
    to.same_scale(node, source, lambda made: _write(Op.MAX_POOL_2D, source, made, options, to))


@lowers(AveragePool)
def _average_pool(node: AveragePool, to: Lowering) -> None:
    """AVERAGE_POOL_2D, which leaves SAME's padding out of the divisor.

    With `include_padding` zeros are padded explicitly and count like any pixel.
    """
    source = to.read(node)
    window = _window(node, source, to)
    padding = schema.Padding.VALID
    if not window.is_valid():
        if node.include_padding:
            source = pad_spatially(f"{node.output}/padded", source, window.explicit(), to)
        elif window.is_same():
            padding = schema.Padding.SAME
        else:
            raise Refusal(
                f"it averages over padding {node.padding} without counting it, "
                "which is neither SAME nor VALID"
            )
    options = _pool_options(node.kernel, node.strides, padding)
    to.same_scale(node, source, lambda made: _write(Op.AVERAGE_POOL_2D, source, made, options, to))


def _write(kind: int, source: Value, made: Value, options: object, to: Lowering) -> None:
    to.op(kind, [source], made, options)


@lowers(GlobalAveragePool)
def _global_average_pool(node: GlobalAveragePool, to: Lowering) -> None:
    """MEAN over height and width, as tf.lite.TFLiteConverter writes it."""
    source = to.read(node)
    options = schema.ReducerOptionsT()
    options.keepDims = node.keep_dims
    axes = to.integers([1, 2])
    to.op(Op.MEAN, [source, axes], to.make(node, source.non_negative), options)


@lowers(Concat)
def _concat(node: Concat, to: Lowering) -> None:
    """CONCATENATION; int8 parts are brought to the output's scale first."""
    parts = [to.read(node, position) for position in range(len(node.inputs))]
    affine = to.affine(node.output)
    parts = [
        to.requantized(part, affine, f"{node.output}/part{position}")
        for position, part in enumerate(parts)
    ]
    options = schema.ConcatenationOptionsT()
    options.axis = layout.axis(node.axis, len(to.graph.shapes[node.output]))
    non_negative = all(part.non_negative for part in parts)
    to.op(Op.CONCATENATION, parts, to.make(node, non_negative), options)


@lowers(Slice)
def _slice(node: Slice, to: Lowering) -> None:
    """SLICE, whose bounds are where it begins and how much it takes, for every axis."""
    source = to.read(node)
    begin, size = [0] * len(source.shape), list(source.shape)
    axis = layout.axis(node.axis, len(source.shape))
    begin[axis], size[axis] = node.start, node.stop - node.start
    bounds = [to.integers(begin), to.integers(size)]

    def write(made: Value) -> None:
        to.op(Op.SLICE, [source, *bounds], made, schema.SliceOptionsT())

    to.same_scale(node, source, write)


@lowers(ChannelShuffle)
def _channel_shuffle(node: ChannelShuffle, to: Lowering) -> None:
    """RESHAPE to [H * W, groups, C / groups], TRANSPOSE of the last two, RESHAPE back."""
    source = to.read(node)
    _, height, width, channels = source.shape
    if channels % node.groups:
        raise Refusal(f"{node.groups} groups do not divide {channels} channels")
    split = (height * width, node.groups, channels // node.groups)
    turned = (split[0], split[2], split[1])
    grouped = to.temporary(f"{node.output}/groups", split, source.affine)
    _write_reshape(source, to.integers(split), grouped, _reshape_options(split), to)
    swapped = to.temporary(f"{node.output}/shuffled", turned, source.affine)
    order = to.integers([0, 2, 1])
    to.op(Op.TRANSPOSE, [grouped, order], swapped, schema.TransposeOptionsT())
    swapped = replace(swapped, shape=source.shape, non_negative=source.non_negative)
    wanted, options = to.integers(source.shape), _reshape_options(source.shape)
    to.same_scale(node, swapped, lambda made: _write_reshape(swapped, wanted, made, options, to))


@lowers(Reshape)
def _reshape(node: Reshape, to: Lowering) -> None:
    """RESHAPE; an NCHW order that differs from NHWC's is refused, never transposed."""
    source = to.read(node)
    if len(source.shape) == 4 and not node.channels_last:
        _, height, width, channels = source.shape
        if height * width > 1 and channels > 1:
            raise Refusal(
                f"it flattens {channels} x {height} x {width} in NCHW order, which would need "
                "a TRANSPOSE; run the pass flatten_channels_last"
            )
    shape = layout.shape(to.graph.shapes[node.output])
    wanted, options = to.integers(shape), _reshape_options(shape)
    to.same_scale(node, source, lambda made: _write_reshape(source, wanted, made, options, to))


def _write_reshape(source: Value, wanted: int, made: Value, options: object, to: Lowering) -> None:
    to.op(Op.RESHAPE, [source, wanted], made, options)


def _reshape_options(shape: Shape) -> schema.ReshapeOptionsT:
    options = schema.ReshapeOptionsT()
    options.newShape = np.array(shape, np.int32)
    return options
