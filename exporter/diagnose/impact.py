"""What each layer's own noise does to the logits, one layer at a time.

A copy of the int8 file in float arithmetic gets, behind every operator, an input of noise:

    x -> A -> y          x -> A -> (+) -> y
                     =>             ^
                                  noise

All noises are zero but one: what comes out at the end is what that layer alone costs. A
tensor's own SNR cannot say that: a few huge values that the network hardly looks at may be
clipped badly, and the answer stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.diagnose.cuts import CONVERTERS, in_float
from exporter.diagnose.probes import Floats, Probe
from exporter.diagnose.tally import decibels, power
from exporter.diagnose.tflite_file import Operator, TfliteFile, pack
from exporter.prove.runtimes.base import Pixels

_LAST = ("SOFTMAX", "LOGISTIC", "RESHAPE", *CONVERTERS)


class Impact:
    """Adds up over images."""

    def __init__(self, file: TfliteFile) -> None:
        self._file = file
        self._logits, self._centred = _logits(file)
        model, self._noises = with_noise(file, self._logits)
        self._probe = Probe(model, file.path)
        self._zeros = {
            index: np.zeros(file.tensors[index].shape, np.float32) for index in self._noises
        }
        self._signal = 0.0
        self._noise: dict[int, float] = {}
        self.images = 0

    def add(self, pixels: Pixels, noises: Mapping[int, Floats]) -> None:
        """Take one image.

        Args:
            noises: each layer's own error by its tensor's index, as the int8 file scales it.
        """
        source = self._file.tensors[self._file.input]
        silence = {self._noises[index]: zeros for index, zeros in self._zeros.items()}
        self._probe.run({self._file.input: source.real(pixels[None]), **silence})
        clean = self._answer()
        self.images += 1
        self._signal += power(clean)
        for index, noise in noises.items():
            if index not in self._noises:
                continue
            cost = 0.0
            if noise.any():
                self._probe.run({self._noises[index]: np.ascontiguousarray(noise)})
                cost = power(self._answer() - clean)
                self._probe.set(self._noises[index], self._zeros[index])
            self._noise[index] = self._noise.get(index, 0.0) + cost

    def _answer(self) -> Floats:
        logits: Floats = self._probe.get(self._logits).copy()
        return logits - logits.mean() if self._centred else logits

    def decibels(self, index: int) -> float | None:
        """SNR of the logits with one layer's own noise; None where it was never added."""
        if index not in self._noise:
            return None
        return decibels(self._signal, self._noise[index])


def with_noise(file: TfliteFile, logits: int) -> tuple[bytes, dict[int, int]]:
    """The float copy that ends in the logits, and the index of each tensor's noise input."""
    model = in_float(file)
    graph = model.subgraphs[0]
    alias = _stored_as(file)
    model.operatorCodes.append(_add_code())
    noises: dict[int, int] = {}
    operators: list[Any] = []
    for operator in _up_to(file, logits):
        if operator.output in alias:
            continue
        noises[operator.output] = _tensor(graph, operator.output, b"/noise")
        clean = alias.get(operator.inputs[0], operator.inputs[0])
        if operator.kind not in CONVERTERS:
            found = graph.operators[operator.index]
            found.inputs = np.array([alias.get(int(i), int(i)) for i in found.inputs], np.int32)
            clean = _tensor(graph, operator.output, b"/clean")
            found.outputs = np.array([clean], np.int32)
            operators.append(found)
        operators.append(_sum(model, clean, noises[operator.output], operator.output))
    graph.operators = operators
    graph.inputs = np.array([file.input, *noises.values()], np.int32)
    graph.outputs = np.array([logits], np.int32)
    return pack(model), noises


def _up_to(file: TfliteFile, logits: int) -> list[Operator]:
    last = file.producers[logits].index
    return [operator for operator in file.operators if operator.index <= last]


def _stored_as(file: TfliteFile) -> dict[int, int]:
    """What DEQUANTIZE makes, and QUANTIZE of the pixels, as the tensor that it is made of.

    Any other QUANTIZE rounds, so it has a noise of its own and stays, as a sum.
    """
    found: dict[int, int] = {}
    for operator in file.operators:
        source = operator.inputs[0]
        if operator.kind == "DEQUANTIZE" or (operator.kind, source) == ("QUANTIZE", file.input):
            found[operator.output] = found.get(source, source)
    return found


def _logits(file: TfliteFile) -> tuple[int, bool]:
    """The tensor that the last activation reads, and whether that is a softmax."""
    index, centred = file.output, False
    while (producer := file.producers[index]).kind in _LAST:
        centred |= producer.kind == "SOFTMAX"
        index = producer.inputs[0]
    return index, centred


def _tensor(graph: Any, like: int, suffix: bytes) -> int:
    made = schema.TensorT()
    made.name = graph.tensors[like].name + suffix
    made.shape, made.hasRank = graph.tensors[like].shape, True
    made.type, made.buffer = schema.TensorType.FLOAT32, 0
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def _add_code() -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    return code


def _sum(model: Any, first: int, second: int, output: int) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex = len(model.operatorCodes) - 1
    made.inputs, made.outputs = np.array([first, second], np.int32), np.array([output], np.int32)
    made.builtinOptionsType = schema.BuiltinOptions.AddOptions
    made.builtinOptions = schema.AddOptionsT()
    return made
