"""Copies of a file with every wire cut: each operator reads inputs that the caller gives.

    pixels -> A -> x -> B -> y          x'  -> B -> y
                                 =>     pixels' -> A -> x

All operators still lie in one graph and run in one call, by the same kernels, but no error
passes from one to the next: what comes out is what each does to the input it was given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.diagnose.tflite_file import Operator, Tensor, TfliteFile, Values, pack

CONVERTERS = ("QUANTIZE", "DEQUANTIZE")  # change how a number is stored, and nothing else
_BIASED = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2}  # where the bias stands


def cut(file: TfliteFile) -> tuple[bytes, dict[int, int]]:
    """The file with every wire cut.

    Returns:
        The copy, whose outputs are the results of all operators; and for each computed
        tensor that some operator reads, the index of the input that stands for it.
    """
    model = file.model()
    given = _cut(file, model)
    model.subgraphs[0].outputs = np.array([o.output for o in file.operators], np.int32)
    return pack(model), given


def cut_in_float(file: TfliteFile) -> tuple[bytes, dict[int, int]]:
    """The same in float arithmetic: dequantized weights, no activation rounded or clipped.

    QUANTIZE and DEQUANTIZE, which change no real number, are left out, and so are their
    results. Returns as `cut`.
    """
    model = in_float(file)
    graph = model.subgraphs[0]
    kept = computing(file)
    given = _cut(file, model)
    read = {i for o in kept for i in file.computed(o)}
    given = {index: stand_in for index, stand_in in given.items() if index in read}
    graph.operators = [graph.operators[o.index] for o in kept]
    graph.inputs = np.array(list(given.values()), np.int32)
    graph.outputs = np.array([o.output for o in kept], np.int32)
    return pack(model), given


def computing(file: TfliteFile) -> list[Operator]:
    """The operators that do more than store numbers in another way."""
    return [o for o in file.operators if o.kind not in CONVERTERS]


def in_float(file: TfliteFile) -> Any:
    """The file's objects with every int8 tensor in float; QUANTIZE and DEQUANTIZE still stand."""
    model = file.model()
    graph = model.subgraphs[0]
    for operator in computing(file):
        _biases_to_float(file, operator, graph, model)
    for tensor in file.tensors:
        if tensor.dtype in (np.int8, np.uint8) and tensor.scales.size:
            _to_float(tensor, graph, model)
    return model


def _cut(file: TfliteFile, model: Any) -> dict[int, int]:
    graph = model.subgraphs[0]
    given: dict[int, int] = {}
    for operator in file.operators:
        for index in file.computed(operator):
            if index not in given:
                graph.tensors.append(_stand_in(graph.tensors[index]))
                given[index] = len(graph.tensors) - 1
        found = graph.operators[operator.index]
        found.inputs = np.array([given.get(int(i), int(i)) for i in found.inputs], np.int32)
    graph.inputs = np.array(list(given.values()), np.int32)
    return given


def _stand_in(tensor: Any) -> Any:
    copy = schema.TensorT()
    copy.name = tensor.name + b"/given"
    copy.shape, copy.type, copy.hasRank = tensor.shape, tensor.type, tensor.hasRank
    copy.quantization, copy.buffer = tensor.quantization, 0
    return copy


def _to_float(tensor: Tensor, graph: Any, model: Any) -> None:
    changed = graph.tensors[tensor.index]
    changed.type, changed.quantization = schema.TensorType.FLOAT32, None
    if tensor.constant is not None:
        changed.buffer = _stored(dequantized(tensor), model)


def _biases_to_float(file: TfliteFile, operator: Operator, graph: Any, model: Any) -> None:
    """A bias is int32 in steps of the input's scale times each weight's."""
    place = _BIASED.get(operator.kind)
    if place is None or len(operator.inputs) <= place:
        return
    source, weight, bias = (file.tensors[i] for i in (*operator.inputs[:2], operator.inputs[place]))
    if bias.dtype is not np.int32 or bias.constant is None:
        return
    steps = source.scales.astype(np.float64) * weight.scales
    changed = graph.tensors[bias.index]
    changed.type, changed.quantization = schema.TensorType.FLOAT32, None
    changed.buffer = _stored(bias.constant * steps, model)


def dequantized(tensor: Tensor) -> Values:
    """The real values of a constant, float32."""
    assert tensor.constant is not None
    shape = [1] * len(tensor.shape)
    if tensor.scales.size > 1:
        shape[tensor.axis] = -1
    scales = tensor.scales.reshape(shape) if shape else tensor.scales[0]
    return ((tensor.constant.astype(np.float64) - tensor.zero_point) * scales).astype(np.float32)


def _stored(values: Values, model: Any) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1
