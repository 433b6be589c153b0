"""The weights of a neuralnetwork layer: float32, float16, or quantized to 1 to 8 bits.

Quantized values lie in `rawValue`, packed without gaps, the first one at the most
significant bit. Linear: `scale * q + bias`, one pair for all or one per output
channel (the first axis). Lookup table: `table[q]` with `2 ** bits` entries.
"""

from __future__ import annotations

import numpy as np

from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.kernels import Array, unpack_bits
from exporter.prove.runtimes.coreml.protos import Fields

_HALF_SINCE, _QUANTIZED_SINCE = 2, 3  # specification versions


def read_weights(fields: Fields, shape: tuple[int, ...], version: int) -> Array:
    """One `WeightParams` as float32 of the given shape.

    Args:
        fields: the message.
        shape: as the layer's other fields imply it.
        version: the file's specification version.

    Raises:
        CoreMLFileError: no values, two kinds of them, another number than the shape
            holds, or a kind that the specification version does not have.
    """
    count = int(np.prod(shape, dtype=np.int64))
    fields.take("isUpdatable")
    floats, half, raw = (fields.take(n) for n in ("floatValue", "float16Value", "rawValue"))
    kinds = [
        name
        for name, values in (("float32", floats), ("float16", half), ("quantized", raw))
        if len(values)
    ]
    if len(kinds) != 1:
        raise CoreMLFileError(f"{fields.where} holds {kinds or 'no'} values; {count} are needed.")
    needed = {"float32": 1, "float16": _HALF_SINCE, "quantized": _QUANTIZED_SINCE}[kinds[0]]
    if version < needed:
        raise CoreMLFileError(
            f"{fields.where} is {kinds[0]}, the file has specification version {version}.",
            f"{kinds[0]} weights need version {needed}",
        )
    if kinds == ["quantized"]:
        return _quantized(fields.sub("quantization"), bytes(raw), shape, count)
    if fields.take("quantization").ByteSize():
        raise CoreMLFileError(f"{fields.where} is {kinds[0]} and says how it is quantized.")
    values = np.array(floats, np.float32) if len(floats) else _half(bytes(half), fields.where)
    if values.size != count:
        raise CoreMLFileError(f"{fields.where} holds {values.size} values; {count} are needed.")
    return values.reshape(shape)


def _half(data: bytes, where: str) -> Array:
    if len(data) % 2:
        raise CoreMLFileError(f"{where} holds {len(data)} bytes of float16.")
    return np.frombuffer(data, "<f2").astype(np.float32)


def _quantized(fields: Fields, raw: bytes, shape: tuple[int, ...], count: int) -> Array:
    bits = fields.take("numberOfBits")
    if not 1 <= bits <= 8:
        raise CoreMLFileError(f"{fields.where} has {bits} bits.")
    try:
        values = unpack_bits(raw, bits, count, "big").reshape(shape)
    except ValueError as error:
        raise CoreMLFileError(f"{fields.where} does not fit its layer.", str(error)) from error
    kind = fields.choice("QuantizationType")
    if kind == "lookupTableQuantization":
        table = np.array(fields.sub(kind).take("floatValue"), np.float32)
        if table.size != 1 << bits:
            raise CoreMLFileError(f"{fields.where} has {table.size} entries for {bits} bits.")
        return table[values]
    if kind != "linearQuantization":
        raise CoreMLFileError(f"{fields.where} does not say how it is quantized.")
    linear = fields.sub(kind)
    scale = np.array(linear.take("scale"), np.float32)
    bias = np.array(linear.take("bias"), np.float32)
    if scale.size not in (1, shape[0]) or bias.size not in (0, 1, shape[0]):
        raise CoreMLFileError(
            f"{fields.where} has {scale.size} scales and {bias.size} biases "
            f"for {shape[0]} channels."
        )
    spread = (-1,) + (1,) * (len(shape) - 1)
    result = values.astype(np.float32) * scale.reshape(spread)
    return result + bias.reshape(spread) if bias.size else result
