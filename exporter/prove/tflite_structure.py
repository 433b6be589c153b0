"""What a finished TFLite file says of itself: operators, types, quantization.

It reads the flatbuffer with the schema that comes with LiteRT and knows nothing of
how it was written. The rules that it has to keep are in `tflite_schemes`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter.prove.runtimes.errors import ArtifactError, damaged

# Operators with weights: which input holds them, along which axis the output channels lie.
WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_SHORT = 32  # bytes of a constant whose numbers are read


@dataclass(frozen=True)
class Tensor:
    """One tensor: type name, shape, scales and zero points, and whether it is a constant.

    `values` are the numbers of a short int32 constant, such as an order of axes.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    constant: bool
    values: tuple[int, ...] = ()


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
    kind = types[tensor.Type()]
    data = model.Buffers(tensor.Buffer())
    short = kind == "INT32" and 0 < data.DataLength() <= _SHORT
    return Tensor(
        name=tensor.Name().decode(),
        type=kind,
        shape=tuple(tensor.ShapeAsNumpy().tolist()) if tensor.ShapeLength() else (),
        scales=scales,
        zero_points=zero_points,
        axis=axis,
        constant=data.DataLength() > 0,
        values=tuple(data.DataAsNumpy().view(np.int32).tolist()) if short else (),
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


def weighted(operators: tuple[Operator, ...]) -> Iterator[tuple[Operator, Tensor]]:
    """The operators with weights, each with the tensor that holds them."""
    for operator in operators:
        if operator.kind in WEIGHTED:
            yield operator, operator.inputs[1]
