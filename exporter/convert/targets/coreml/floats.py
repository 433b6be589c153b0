"""Large weights of a neural network file, past coremltools.

Its builder hands every number to protobuf as a Python object, and copies the whole message
with all of them. Here it is given one number in place of a large array, and the array's
bytes are put into the finished message: protobuf keeps a packed field as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

LARGE = 2**16  # numbers
_AT_ONCE = 1 << 16  # numbers as Python objects at a time
_PACKED_FIELD_1 = b"\x0a"  # WeightParams.floatValue: field 1, of a length that follows
_waiting: list[npt.NDArray[np.float32]] = []  # by the number that stands for each, from 1 on


class Floats(np.ndarray):
    """Weights for coremltools' neural network builder.

    Iterated over when flat, a large array gives one number, which `put_back` knows. Others
    give Python's own floats, some at a time: cheaper to make and to read than numpy's.
    """

    def __iter__(self) -> Iterator[Any]:
        if self.ndim != 1:
            return super().__iter__()
        if len(self) >= LARGE:
            _waiting.append(self.view(np.ndarray))
            return iter([float(len(_waiting))])
        parts = (self[start : start + _AT_ONCE] for start in range(0, len(self), _AT_ONCE))
        return itertools.chain.from_iterable(part.tolist() for part in parts)


def forget() -> None:
    """Begin anew, whatever a program that was not finished has left."""
    _waiting.clear()


def put_back(spec: Any) -> None:
    """Fill in the large weights of a Core ML `Model` with a neural network.

    Raises:
        RuntimeError: a number stands for weights of another size, or some are left over.
    """
    found = 0
    for layer in spec.neuralNetworkClassifier.layers:
        kind = layer.WhichOneof("layer")
        params = getattr(layer, kind)
        count = _count(kind, params)
        if count is None or len(params.weights.floatValue) == count:
            continue
        place = int(params.weights.floatValue[0]) - 1
        if len(params.weights.floatValue) != 1 or _waiting[place].size != count:
            raise RuntimeError(f"the layer {layer.name} has other weights than its size says")
        raw = _waiting[place].astype("<f4", copy=False).tobytes()
        del params.weights.floatValue[:]
        params.weights.MergeFromString(b"".join((_PACKED_FIELD_1, _varint(len(raw)), raw)))
        found += 1
    if found != len(_waiting):
        raise RuntimeError(f"{len(_waiting)} weights were held back, {found} were asked for")
    _waiting.clear()


def _count(kind: str, params: Any) -> int | None:
    """How many weights a layer has; None where it is of a kind without large ones."""
    if kind == "convolution":
        each = math.prod(params.kernelSize) * params.kernelChannels
        return int(each * params.outputChannels)
    if kind == "innerProduct":
        return int(params.inputChannels * params.outputChannels)
    return None


def _varint(value: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    digits = []
    while True:
        value, low = value >> 7, value & 0x7F
        digits.append(low | 0x80 if value else low)
        if not value:
            return bytes(digits)
