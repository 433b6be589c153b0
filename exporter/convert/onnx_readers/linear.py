"""Convolutions, dense layers and batch normalization."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from exporter.convert.graph import BatchNorm, Conv, Dense
from exporter.convert.onnx_readers.registry import (
    Reading,
    Unsupported,
    attributes,
    optional,
    reads,
    weights,
)
from exporter.convert.onnx_readers.windows import padding, pair


@reads("Conv")
def _conv(node: onnx.NodeProto, to: Reading) -> None:
    given = attributes(node)
    source = to.tensor(node.input[0])
    weight = weights(to.constant(node.input[1], "weight"), "weight")
    if weight.ndim != 4:
        raise Unsupported(f"it is a {weight.ndim - 2}-D convolution, only 2-D ones are known")
    kernel = (weight.shape[2], weight.shape[3])
    strides = pair(given.get("strides"), "strides")
    dilations = pair(given.get("dilations"), "dilations")
    size = to.shapes[source][2:]
    bias = optional(node, 2)
    to.add(
        Conv(
            name=node.name,
            inputs=(source,),
            output=node.output[0],
            weight=weight,
            bias=np.zeros(len(weight), np.float32)
            if bias is None
            else weights(to.constant(bias, "bias"), "bias"),
            strides=strides,
            padding=padding(given, (size[0], size[1]), kernel, strides, dilations),
            dilations=dilations,
            groups=int(given.get("group", 1)),
        )
    )


@reads("BatchNormalization")
def _batch_norm(node: onnx.NodeProto, to: Reading) -> None:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` as one scale and one shift."""
    given = attributes(node)
    if given.get("training_mode", 0) or len([name for name in node.output if name]) > 1:
        raise Unsupported("it is in training mode")
    gamma, beta, mean, variance = (
        np.asarray(to.constant(name, what), np.float64)
        for name, what in zip(node.input[1:5], ("scale", "B", "mean", "variance"), strict=True)
    )
    spread = variance + float(given.get("epsilon", 1e-5))
    if not (spread > 0).all():
        raise Unsupported("its variance is not positive")
    scale = gamma / np.sqrt(spread)
    to.add(
        BatchNorm(
            name=node.name,
            inputs=(to.tensor(node.input[0]),),
            output=node.output[0],
            scale=weights(scale, "scale"),
            shift=weights(beta - mean * scale, "shift"),
        )
    )


@reads("Gemm")
def _gemm(node: onnx.NodeProto, to: Reading) -> None:
    """`alpha * A @ B + beta * C`; A is the tensor, B and C are constants."""
    given = attributes(node)
    if given.get("transA", 0):
        raise Unsupported("it transposes its first input (transA)")
    weight = to.constant(node.input[1], "weight")
    weight = weight if given.get("transB", 0) else weight.T
    bias = np.zeros(len(weight))
    name = optional(node, 2)
    if name is not None:
        shift = np.asarray(to.constant(name, "bias"), np.float64)
        try:
            bias = np.broadcast_to(shift, (1, len(weight)))[0]
        except ValueError as error:
            raise Unsupported(f"its bias has the shape {list(shift.shape)}") from error
    alpha, beta = float(given.get("alpha", 1.0)), float(given.get("beta", 1.0))
    scaled = weight if alpha == 1.0 else weight.astype(np.float64) * alpha
    _dense(node, to, scaled, bias * beta)


@reads("MatMul")
def _mat_mul(node: onnx.NodeProto, to: Reading) -> None:
    weight = to.constant(node.input[1], "second operand")
    if weight.ndim != 2:
        raise Unsupported(f"its weight has {weight.ndim} axes, 2 are needed")
    _dense(node, to, weight.T, np.zeros(weight.shape[1]))


def _dense(
    node: onnx.NodeProto,
    to: Reading,
    weight: npt.NDArray[Any],
    bias: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    source = to.tensor(node.input[0])
    if len(to.shapes[source]) != 2:
        raise Unsupported(f"its input has the shape {list(to.shapes[source])}, [1, n] is needed")
    to.add(
        Dense(
            name=node.name,
            inputs=(source,),
            output=node.output[0],
            weight=weights(weight, "weight"),
            bias=weights(bias, "bias"),
        )
    )
