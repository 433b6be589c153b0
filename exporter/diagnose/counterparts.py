"""Which tensor of the float file an int8 file's tensor stands for.

Both files carry the graph's names. Between them lie:

* equalization: the int8 tensor is the float one times a scale a channel;
* operators that only the writer of one file added (QUANTIZE, PAD, RESHAPE, TRANSPOSE): their
  result is known from their input's;
* the pixels: int8 files take the normalization into the first weights, so that the tensors
  before these hold bare pixels, exactly, and have no counterpart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from exporter.diagnose.cuts import CONVERTERS
from exporter.diagnose.probes import Floats, FloatTensors
from exporter.diagnose.tflite_file import Operator, TfliteFile

MOVERS = (*CONVERTERS, "PAD", "RESHAPE", "TRANSPOSE")  # they change no value
_LAST = (*MOVERS, "SOFTMAX", "LOGISTIC")
Scales = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Counterpart:
    """How to get the float tensor of one int8 tensor.

    Attributes:
        name: the float file's tensor to start from.
        steps: operators of the int8 file that are still to be done to it, in order.
        scale: equalization, float32 `[C]`, or of the whole tensor's shape where it was moved;
            None for 1.
    """

    name: str
    steps: tuple[Operator, ...]
    scale: Floats | None


class Counterparts:
    """All of a file's.

    Args:
        scales: equalization by tensor name; None where the file was equalized and nobody
            wrote down how: then only what follows the last weights has a counterpart.
    """

    def __init__(
        self,
        file: TfliteFile,
        names: Collection[str],
        scales: Scales | None,
        channels_first: bool,
    ) -> None:
        self._file, self._names, self._scales = file, frozenset(names), scales
        self._channels_first = channels_first
        self.pixels = _pixels(file)
        self._known = _tail(file) if scales is None else None
        self._found = {o.output: self._find(o.output) for o in file.operators}

    def of(self, index: int) -> Counterpart | None:
        """The counterpart of a tensor; None where there is none."""
        return self._found.get(index)

    def floats(self, index: int, source: FloatTensors) -> Floats:
        """The values of a tensor's counterpart in the last run, in the int8 tensor's shape."""
        found = self._found[index]
        assert found is not None
        values = source.get(found.name)
        for step in found.steps:
            values = self._moved(values, step, "constant")
        return values

    def _moved(self, values: Floats, step: Operator, pad: Literal["constant", "edge"]) -> Floats:
        """What an operator that changes no value makes of them."""
        if step.kind == "RESHAPE":
            return values.reshape(self._file.tensors[step.output].shape)
        if step.kind not in ("PAD", "TRANSPOSE"):
            return values
        given = self._file.tensors[step.inputs[1]].constant
        assert given is not None
        if step.kind == "TRANSPOSE":
            return values.transpose([int(axis) for axis in given])
        return np.pad(values, [(int(a), int(b)) for a, b in given], pad)

    def scale(self, index: int) -> Floats | None:
        found = self._found[index]
        return None if found is None else found.scale

    def _find(self, index: int) -> Counterpart | None:
        if index in self.pixels or (self._known is not None and index not in self._known):
            return None
        tensor, producer = self._file.tensors[index], self._file.producers.get(index)
        if producer is None:
            return None
        moved = producer.kind in MOVERS
        # an ONNX file flattens channels first: take the order from the int8 file's input
        by_name = tensor.name in self._names and not (
            self._channels_first and producer.kind == "RESHAPE"
        )
        if by_name:
            return Counterpart(tensor.name, (), self._scale(index))
        if (stored := self._stored_as(index)) is not None:
            return Counterpart(self._file.tensors[stored].name, (), self._scale(stored))
        source = self._find(producer.inputs[0]) if moved else None
        if source is None:
            return None
        return Counterpart(source.name, (*source.steps, producer), self._scale(index))

    def _stored_as(self, index: int) -> int | None:
        """Under which of the float file's names what is computed in float is rounded to int8."""
        for operator in self._file.operators:
            name = self._file.tensors[operator.output].name
            if operator.kind == "QUANTIZE" and operator.inputs[0] == index and name in self._names:
                return operator.output if self._file.tensors[index].dtype is np.float32 else None
        return None

    def _scale(self, index: int) -> Floats | None:
        """The tensor's own scale, else that of what it was moved from, moved with it."""
        tensor, producer = self._file.tensors[index], self._file.producers.get(index)
        if tensor.name in (scales := self._scales or {}):
            return scales[tensor.name]
        if producer is None or producer.kind not in MOVERS:
            return None
        source = self._scale(producer.inputs[0])
        if source is None or producer.kind in CONVERTERS:
            return source
        full = np.broadcast_to(source, self._file.tensors[producer.inputs[0]].shape)
        return self._moved(full, producer, "edge")


def _pixels(file: TfliteFile) -> frozenset[int]:
    """The input, and what QUANTIZE, PAD and their like make of it."""
    found = {file.input}
    for operator in file.operators:
        if operator.kind in MOVERS and operator.inputs[0] in found:
            found.add(operator.output)
    return frozenset(found)


def _tail(file: TfliteFile) -> frozenset[int]:
    """The logits and what follows them, which are never scaled."""
    found, index = {file.output}, file.output
    while (producer := file.producers.get(index)) is not None and producer.kind in _LAST:
        index = producer.inputs[0]
        found.add(index)
    return frozenset(found)
