"""Convolutions, dense layers and per-channel affine maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from exporter.convert.graph import Array, BatchNorm, Conv, Dense, Node, Normalize
from exporter.convert.quantize.rounding.weights import per_channel_weights
from exporter.convert.targets.tflite.lowering import Lowering, Op, Refusal, Value, fused, lowers
from exporter.convert.targets.tflite.operators.shapes import pad_spatially
from exporter.convert.targets.tflite.padding import Window

Doubles = npt.NDArray[np.float64]


@lowers(Conv)
def _conv(node: Conv, to: Lowering) -> None:
    """CONV_2D or DEPTHWISE_CONV_2D, after a PAD where neither SAME nor VALID fits.

    A grouped convolution is one CONV_2D whose filter has fewer input channels. XNNPACK takes
    it at every precision, 0.9 to 1.9 times as fast as slices, convolutions and a
    concatenation (blocks of AlexNet, ResNeXt and RegNet on x86). Without a delegate TFLite's
    own kernels give the same numbers, but 2 to 30 times as slowly as the parts.
    """
    source = to.read(node)
    channels = source.shape[3]
    outputs = node.weight.shape[0]
    depthwise = node.groups == channels and channels > 1
    if channels % node.groups or outputs % node.groups:
        raise Refusal(f"{node.groups} groups do not divide {channels} and {outputs} channels")
    output_shape = to.graph.shapes[node.output]
    window = Window(
        (source.shape[1], source.shape[2]),
        (output_shape[2], output_shape[3]),
        (node.weight.shape[2], node.weight.shape[3]),
        node.strides,
        node.dilations,
        node.padding,
    )
    source, padding = padded(node, source, window, to)
    weight, bias = to.weights(node, source, depthwise)
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding = padding
    options.strideH, options.strideW = node.strides
    options.dilationHFactor, options.dilationWFactor = node.dilations
    options.fusedActivationFunction = fused(node)
    if depthwise:
        options.depthMultiplier = outputs // channels
    kind = Op.DEPTHWISE_CONV_2D if depthwise else Op.CONV_2D
    to.op(kind, [source, weight, bias], to.make(node), options)


def padded(node: Node, source: Value, window: Window, to: Lowering) -> tuple[Value, int]:
    """The input to use and the schema's padding mode; zeros are padded where needed."""
    if window.is_valid():
        return source, schema.Padding.VALID
    if window.is_same():
        return source, schema.Padding.SAME
    return pad_spatially(f"{node.output}/padded", source, window.explicit(), to), (
        schema.Padding.VALID
    )


@lowers(Dense)
def _dense(node: Dense, to: Lowering) -> None:
    source = to.read(node)
    if len(source.shape) != 2:
        raise Refusal("its input is not flat; run the pass that flattens in NHWC order")
    weight, bias = to.weights(node, source, False)
    options = schema.FullyConnectedOptionsT()
    options.asymmetricQuantizeInputs = to.is_dynamic(node)
    options.fusedActivationFunction = fused(node)
    to.op(Op.FULLY_CONNECTED, [source, weight, bias], to.make(node), options)


@lowers(Normalize)
def _normalize(node: Normalize, to: Lowering) -> None:
    """SUB and MUL, each only where it changes something; see `_int8_per_channel`."""
    source = to.read(node)
    if source.affine is not None:
        scale = node.scale.astype(np.float64)
        _int8_per_channel(node, source, scale, -node.mean.astype(np.float64) * scale, to)
        return
    steps: list[tuple[int, object, str, Array]] = []
    if np.any(node.mean != 0):
        steps.append((Op.SUB, schema.SubOptionsT(), "mean", node.mean))
    if np.any(node.scale != 1):
        steps.append((Op.MUL, schema.MulOptionsT(), "scale", node.scale))
    _write_steps(node, source, steps, to)


@lowers(BatchNorm)
def _batch_norm(node: BatchNorm, to: Lowering) -> None:
    """MUL and ADD, each only where it changes something; see `_int8_per_channel`."""
    source = to.read(node)
    if source.affine is not None:
        _int8_per_channel(
            node, source, node.scale.astype(np.float64), node.shift.astype(np.float64), to
        )
        return
    steps: list[tuple[int, object, str, Array]] = []
    if np.any(node.scale != 1):
        steps.append((Op.MUL, schema.MulOptionsT(), "scale", node.scale))
    if np.any(node.shift != 0):
        steps.append((Op.ADD, schema.AddOptionsT(), "shift", node.shift))
    _write_steps(node, source, steps, to)


def _write_steps(
    node: Node, source: Value, steps: list[tuple[int, object, str, Array]], to: Lowering
) -> None:
    if not steps:
        to.alias(node, source)
    for position, (kind, options, name, values) in enumerate(steps):
        operand = to.floats(f"{node.name}/{name}", values)
        last = position == len(steps) - 1
        made = to.make(node) if last else to.temporary(f"{node.output}/{name}", source.shape, None)
        source = to.op(kind, [source, operand], made, options)


def _int8_per_channel(
    node: Node, source: Value, scale: Doubles, shift: Doubles, to: Lowering
) -> None:
    """`x * scale[c] + shift[c]` in int8; see `per_channel_weights`."""
    assert source.affine is not None
    quantized = per_channel_weights(scale, shift, source.affine)
    values = quantized.values.reshape(1, 1, 1, -1)
    weight, offset = to.int8_weights(node.name, quantized, values, 3, source)
    options = schema.DepthwiseConv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH = options.strideW = 1
    options.depthMultiplier = 1
    to.op(Op.DEPTHWISE_CONV_2D, [source, weight, offset], to.make(node), options)
