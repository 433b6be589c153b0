"""MIL's compressed constants: operations that stand for weights, resolved when a file opens.

Up to opset CoreML7 their parameters are attributes, from CoreML8 on they are inputs;
`Operation` reads both alike.
"""

from __future__ import annotations

import numpy as np

from exporter.prove.runtimes.coreml.kernels import unpack_bits
from exporter.prove.runtimes.coreml.operation import Array, Compute, Operation, handles
from exporter.prove.runtimes.coreml.values import FLOATS, Constant

_INTEGERS = ("int8", "uint8", "int4", "uint4")


def _known(value: Array) -> Compute:
    return lambda: value


@handles("constexpr_affine_dequantize", since=6)
def _affine_dequantize(op: Operation) -> Compute:
    """scale * (data - zero_point), scale and zero point scalars or along one axis."""
    data = op.array("quantized_data", "int8", "uint8")
    scale = op.array("scale", *FLOATS)
    zero_point = op.array("zero_point", "int8", "uint8", "float32")
    axis = op.integer("axis")
    if zero_point.type.dtype != "float32" and zero_point.type.dtype != data.type.dtype:
        raise op.error(f"zero point {zero_point.type} for data {data.type}")
    if not -len(data.type.shape) <= axis < len(data.type.shape):
        raise op.error(f"its axis is {axis}")

    def spread(values: Constant) -> Array:
        if not values.type.shape:
            return values.value
        if values.type.shape != (data.type.shape[axis],):
            raise op.error(f"{values.type} along axis {axis} of {data.type}")
        shape = [1] * len(data.type.shape)
        shape[axis] = -1
        return values.value.reshape(shape)

    op.result = scale.type.dtype
    values = data.value.astype(np.float32)  # changed in place: VGG16's take 0.4 GB in one layer
    values -= spread(zero_point).astype(np.float32)
    values *= spread(scale)
    return _known(values)


@handles("constexpr_blockwise_shift_scale", since=8)
def _blockwise_shift_scale(op: Operation) -> Compute:
    """scale * (data - offset), each scale and offset over one block of the data."""
    data = op.array("data", *_INTEGERS)
    scale = op.array("scale", *FLOATS)
    offset = op.array("offset", data.type.dtype, *FLOATS) if op.has("offset") else None
    if offset is not None and offset.type.shape != scale.type.shape:
        raise op.error(f"offset {offset.type} and scale {scale.type}")

    def spread(values: Constant) -> Array:
        shape, blocks = data.type.shape, values.type.shape
        if len(shape) != len(blocks) or any(s % b for s, b in zip(shape, blocks, strict=True)):
            raise op.error(f"{values.type} does not divide {data.type} into blocks")
        spread_out = values.value
        for axis, (size, count) in enumerate(zip(shape, blocks, strict=True)):
            spread_out = np.repeat(spread_out, size // count, axis)
        return spread_out.astype(np.float32)

    op.result = scale.type.dtype
    values = data.value.astype(np.float32)
    if offset is not None:
        values = values - spread(offset)
    return _known(spread(scale) * values)


@handles("constexpr_lut_to_dense", since=6)
def _lut_to_dense(op: Operation) -> Compute:
    """Values looked up by index: one table (CoreML6), or a table for each block (CoreML8)."""
    if op.has("shape"):
        indices = op.array("indices", "uint8")
        lut = op.array("lut", "int8", "uint8", *FLOATS)
        shape = tuple(int(size) for size in op.array("shape", "uint32").value)
        bits = lut.type.size.bit_length() - 1
        if lut.type.shape != (1 << bits,) or not 1 <= bits <= 8 or len(indices.type.shape) != 1:
            raise op.error(f"indices {indices.type} and table {lut.type}")
        count = int(np.prod(shape, dtype=np.int64))
        op.result = lut.type.dtype
        return _known(lut.value[unpack_bits(indices.value.tobytes(), bits, count, "little")]
                      .reshape(shape))  # fmt: skip
    indices = op.array("indices", "uint1", "uint2", "uint3", "uint4", "uint6", "uint8")
    lut = op.array("lut", "int8", "uint8", *FLOATS)
    *blocks, palettes, vector = lut.type.shape
    shape = indices.type.shape
    if vector != 1 or op.has("vector_axis"):
        raise op.error("it looks up vectors; single values are known")
    if palettes != 1 << int(indices.type.dtype.removeprefix("uint")):
        raise op.error(f"indices {indices.type} and table {lut.type}")
    if len(blocks) != len(shape) or any(s % b for s, b in zip(shape, blocks, strict=True)):
        raise op.error(f"the tables {lut.type} do not divide {indices.type} into blocks")
    places = np.indices(shape)
    which = tuple(
        place // (size // count) for place, size, count in zip(places, shape, blocks, strict=True)
    )
    op.result = lut.type.dtype
    return _known(lut.value[(*which, indices.value, 0)])


@handles("constexpr_cast", since=6)
def _constexpr_cast(op: Operation) -> Compute:
    """float16 weights as float32."""
    source = op.array("source_val", "float16")
    if op.text("output_dtype") != "fp32":
        raise op.error("it casts to something else than fp32")
    op.result = "float32"
    return _known(source.value)
