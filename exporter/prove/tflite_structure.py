"""What a finished TFLite file says of itself: operators, types, quantization.

It reads the flatbuffer with the schema that comes with LiteRT and knows nothing of
how it was written. The rules are those of the TFLite 8-bit quantization
specification: weights int8, symmetric, a scale for each output channel; bias int32;
activations int8 per tensor.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter.bundle import Precision
from exporter.prove.runtimes.errors import ArtifactError, damaged

# Operators with weights: which input holds them, along which axis the output channels lie.
_WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_ENDINGS = ("SOFTMAX", "LOGISTIC")  # float32 in every file: the contract's activation
_BODY_TYPES = {"INT8", "INT32"}


@dataclass(frozen=True)
class Tensor:
    """One tensor: type name, shape, scales and zero points, and whether it is a constant."""

    name: str
    type: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    constant: bool


@dataclass(frozen=True)
class Operator:
    """One operator with its tensors; absent optional inputs are left out."""

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_operators(path: Path) -> tuple[Operator, ...]:
    """The operators of the file's one subgraph, in order.

    Raises:
        ArtifactError: it cannot be read, or has more than one subgraph.
    """
    from ai_edge_litert import schema_py_generated as schema

    types = _names(schema.TensorType)
    kinds = _names(schema.BuiltinOperator)
    try:
        model = schema.Model.GetRootAs(path.read_bytes(), 0)
        if model.SubgraphsLength() != 1:
            raise ArtifactError(
                f"{path} has {model.SubgraphsLength()} subgraphs.",
                "one is expected",
                "export again",
            )
        graph = model.Subgraphs(0)
        tensors = [
            _tensor(model, graph.Tensors(index), types) for index in range(graph.TensorsLength())
        ]
        return tuple(
            _operator(model, graph.Operators(index), tensors, kinds)
            for index in range(graph.OperatorsLength())
        )
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise damaged(path, "the TFLite schema", error) from error


def _names(enumeration: Any) -> dict[int, str]:
    return {
        value: name
        for name, value in vars(enumeration).items()
        if isinstance(value, int) and not name.startswith("_")
    }


def _tensor(model: Any, tensor: Any, types: dict[int, str]) -> Tensor:
    quantization = tensor.Quantization()
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis = 0
    if quantization is not None and quantization.ScaleLength():
        scales = tuple(np.atleast_1d(quantization.ScaleAsNumpy()).tolist())
        if quantization.ZeroPointLength():
            zero_points = tuple(np.atleast_1d(quantization.ZeroPointAsNumpy()).tolist())
        axis = quantization.QuantizedDimension()
    return Tensor(
        name=tensor.Name().decode(),
        type=types[tensor.Type()],
        shape=tuple(tensor.ShapeAsNumpy().tolist()) if tensor.ShapeLength() else (),
        scales=scales,
        zero_points=zero_points,
        axis=axis,
        constant=model.Buffers(tensor.Buffer()).DataLength() > 0,
    )


def _operator(model: Any, operator: Any, tensors: list[Tensor], kinds: dict[int, str]) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Codes beyond 127 do not fit the older field, which then holds 127 (PLACEHOLDER).
    kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    given = (operator.Inputs(place) for place in range(operator.InputsLength()))
    made = (operator.Outputs(place) for place in range(operator.OutputsLength()))
    return Operator(
        kind,
        tuple(tensors[index] for index in given if index >= 0),
        tuple(tensors[index] for index in made),
    )


def faults(operators: tuple[Operator, ...], precision: Precision) -> list[str]:
    """What breaks the rules of a precision; empty for a sound file."""
    found = [
        f"a TRANSPOSE makes {operator.outputs[0].name}"
        for operator in operators
        if operator.kind == "TRANSPOSE"
    ]
    check = {"float32": _float32, "float16": _float16, "int8": _int8}[precision]
    return found + list(check(operators))


def _float32(operators: tuple[Operator, ...]) -> Iterator[str]:
    for operator in operators:
        for tensor in operator.inputs:
            if tensor.constant and tensor.type in ("FLOAT16", "INT8", "UINT8"):
                yield f"{operator.kind} reads {tensor.name}, {tensor.type}, in a float32 file"


def _float16(operators: tuple[Operator, ...]) -> Iterator[str]:
    widened = {
        operator.outputs[0].name
        for operator in operators
        if operator.kind == "DEQUANTIZE"
        and operator.inputs[0].constant
        and operator.inputs[0].type == "FLOAT16"
    }
    for operator, weight in _weights(operators):
        if weight.name not in widened and weight.type != "FLOAT16":
            yield f"the weights {weight.name} of a {operator.kind} are {weight.type}, not FLOAT16"


def _int8(operators: tuple[Operator, ...]) -> Iterator[str]:
    exits = [operator for operator in operators if operator.kind == "DEQUANTIZE"]
    if len(exits) != 1:
        yield f"{len(exits)} DEQUANTIZE operators; one is expected, after the logits"
    for operator in operators:
        if operator.kind in ("QUANTIZE", "DEQUANTIZE", *_ENDINGS):
            continue
        for tensor in (*operator.inputs, *operator.outputs):
            if tensor.type not in _BODY_TYPES:
                yield f"{operator.kind} computes in {tensor.type} ({tensor.name})"
    if operators and operators[-1].kind not in (*_ENDINGS, "DEQUANTIZE"):
        yield f"the file ends in {operators[-1].kind}"
    for operator, weight in _weights(operators):
        yield from _weight_faults(operator, weight)


def _weights(operators: tuple[Operator, ...]) -> Iterator[tuple[Operator, Tensor]]:
    for operator in operators:
        if operator.kind in _WEIGHTED:
            yield operator, operator.inputs[1]


def _weight_faults(operator: Operator, weight: Tensor) -> Iterator[str]:
    axis = _WEIGHTED[operator.kind]
    where = f"the weights {weight.name} of a {operator.kind}"
    if not weight.constant or weight.type != "INT8":
        yield f"{where} are {weight.type}, not constant INT8"
        return
    channels = weight.shape[axis]
    if len(weight.scales) != channels or (channels > 1 and weight.axis != axis):
        yield f"{where} have {len(weight.scales)} scale(s) for {channels} output channels"
    if any(weight.zero_points):
        yield f"{where} are not symmetric"
    if not all(np.isfinite(weight.scales)) or min(weight.scales, default=0) <= 0:
        yield f"{where} have a scale that is not positive"
    for bias in operator.inputs[2:]:
        if bias.type != "INT32":
            yield f"the bias {bias.name} of a {operator.kind} is {bias.type}, not INT32"
