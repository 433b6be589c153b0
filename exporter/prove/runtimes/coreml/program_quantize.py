"""Rounding of activations to 8-bit integers: `quantize` and `dequantize`, of opset CoreML7.

    quantize:   clip(round(input / scale) + zero_point) to the integers' range
    dequantize: scale * (input - zero_point)

(coremltools' definitions, `converters/mil/mil/ops/defs/iOS17/quantization_ops.py`.) A
scale is a scalar, without an axis, or a vector along an axis; the zero point is absent,
for zero, or of the scale's shape and the integers' type. Halves are rounded to even, as
coremltools' own computation in numpy does; Apple does not write down what its devices do.
The quotient is taken in float32 whatever the type, like all arithmetic here.
"""

from __future__ import annotations

import numpy as np

from exporter.prove.runtimes.coreml.operation import Array, Compute, Operation, handles
from exporter.prove.runtimes.coreml.values import Constant, TensorType

INTEGERS = ("int8", "uint8")


@handles("quantize", since=7)
def _quantize(op: Operation) -> Compute:
    x = op.tensor("input")
    target = op.text("output_dtype")
    if target not in INTEGERS:
        raise op.error(f"it quantizes to {target!r}; int8 and uint8 are known")
    scale, zero_point = _parameters(op, x, x.dtype, target)
    limits = np.iinfo(target)
    op.result = target

    def compute(x: Array) -> Array:
        if np.isnan(x).any():
            raise ValueError("not a number has no integer")
        steps = np.rint(x / scale) + zero_point
        return np.clip(steps, limits.min, limits.max).astype(target)

    return compute


@handles("dequantize", since=7)
def _dequantize(op: Operation) -> Compute:
    x = op.tensor("input", INTEGERS)
    result = op.array("scale", "float16", "float32").type.dtype
    scale, zero_point = _parameters(op, x, result, x.dtype)
    op.result = result
    return lambda x: scale * (x.astype(np.float32) - zero_point)


def _parameters(op: Operation, x: TensorType, real: str, integer: str) -> tuple[Array, Array]:
    """Scale and zero point, float32, in a shape that broadcasts against the input.

    Args:
        real: element type that the scale has to have.
        integer: the zero point's.
    """
    scale = op.array("scale", real)
    zero_point = op.array("zero_point", integer) if op.has("zero_point") else None
    if len(scale.type.shape) > 1:
        raise op.error(f"its scale is {scale.type}, neither a scalar nor a vector")
    if not (np.isfinite(scale.value).all() and (scale.value > 0).all()):
        raise op.error("its scale is not a positive number")
    if zero_point is not None and zero_point.type.shape != scale.type.shape:
        raise op.error(f"zero point {zero_point.type} for scale {scale.type}")
    if bool(scale.type.shape) != op.has("axis"):
        raise op.error("a vector of scales goes with an axis, a single scale with none")
    shape = _along(op, x, scale) if scale.type.shape else ()
    zero = np.float32(0) if zero_point is None else zero_point.value.astype(np.float32)
    return scale.value.reshape(shape), np.broadcast_to(zero, scale.type.shape).reshape(shape)


def _along(op: Operation, x: TensorType, scale: Constant) -> tuple[int, ...]:
    axis = op.array("axis", "int32")
    if axis.type.shape:
        raise op.error(f"its axis is {axis.type}, not a scalar")
    place, rank = int(axis.value), len(x.shape)
    if not -rank <= place < rank or scale.type.shape != (x.shape[place],):
        raise op.error(f"scale {scale.type} along axis {place} of {x}")
    return tuple(-1 if i == place % rank else 1 for i in range(rank))
