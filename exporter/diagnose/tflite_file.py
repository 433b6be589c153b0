"""A .tflite file as its flatbuffer says: tensors, operators, and copies with other edges."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from exporter.prove.runtimes.errors import damaged
from exporter.prove.runtimes.litert import require_tflite

_IDENTIFIER = b"TFL3"
_DTYPES: dict[int, type[np.generic]] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.BOOL: np.bool_,
}
_OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
Values = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the first subgraph.

    Attributes:
        shape: channels last.
        dtype: of its elements; None for types that no file of ours has.
        scales: float32, one or one a channel; empty where it is not quantized.
        zero_point: of the first scale.
        axis: which dimension the scales run along.
        constant: its values, or None for one that is computed.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: type[np.generic] | None
    scales: npt.NDArray[np.float32]
    zero_point: int
    axis: int
    constant: Values | None

    @property
    def int8(self) -> bool:
        """Whether it holds int8 activations with one scale."""
        return self.dtype is np.int8 and self.scales.size == 1 and self.constant is None

    @property
    def scale(self) -> float:
        return float(self.scales[0])

    @property
    def low(self) -> float:
        """The real value of the lowest level."""
        return self.scale * (-128 - self.zero_point)

    @property
    def high(self) -> float:
        """The real value of the highest level."""
        return self.scale * (127 - self.zero_point)

    def quantized(self, real: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
        """Real values on this tensor's grid: rounded half to even, clipped."""
        levels = np.rint(real * np.float32(1 / self.scale)) + np.float32(self.zero_point)
        return np.clip(levels, -128, 127).astype(np.int8)

    def real(self, stored: Values) -> npt.NDArray[np.float32]:
        """The real values that stored numbers stand for; floats are returned as they are."""
        if self.scales.size != 1:
            return stored.astype(np.float32, copy=False)
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * self.scales[0]


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        kind: 'CONV_2D' ...
        inputs: the tensors that it reads; absent ones are left out.
        output: its result.
        cap: no result is larger, by its fused activation; None without one.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    output: int
    cap: float | None


class TfliteFile:
    """A file that is read once.

    Raises:
        UserError: no such file, or no TFLite flatbuffer, or one that is damaged.
    """

    def __init__(self, path: Path) -> None:
        require_tflite(path)
        self._data = Path(path).read_bytes()
        self.path = Path(path)
        try:
            self._root = self.model().subgraphs[0]
        except (struct.error, ValueError, IndexError, TypeError) as error:
            raise damaged(path, "flatbuffers", error) from error

    def model(self) -> Any:
        """A fresh, changeable copy as the schema's objects, without signatures and metadata."""
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(self._data, 0))
        model.signatureDefs, model.metadata = [], []
        return model

    @functools.cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        buffers = self.model().buffers
        return tuple(
            _tensor(index, each, buffers[each.buffer].data)
            for index, each in enumerate(self._root.tensors)
        )

    @functools.cached_property
    def operators(self) -> tuple[Operator, ...]:
        codes = self.model().operatorCodes
        return tuple(
            Operator(
                index,
                kind_of(codes[each.opcodeIndex]),
                _present(each.inputs),
                int(each.outputs[0]),
                _cap(each.builtinOptions),
            )
            for index, each in enumerate(self._root.operators)
        )

    @functools.cached_property
    def by_name(self) -> dict[str, Tensor]:
        return {tensor.name: tensor for tensor in self.tensors}

    @functools.cached_property
    def producers(self) -> dict[int, Operator]:
        """Who makes each tensor, by index."""
        return {operator.output: operator for operator in self.operators}

    @property
    def input(self) -> int:
        return int(self._root.inputs[0])

    @property
    def output(self) -> int:
        return int(self._root.outputs[0])

    def computed(self, operator: Operator) -> tuple[int, ...]:
        """The inputs of an operator that are no constants."""
        return tuple(i for i in operator.inputs if self.tensors[i].constant is None)

    def with_all_outputs(self) -> bytes:
        """A copy in which every operator's result is an output; nothing else differs.

        A tensor inside a delegated graph has no memory of its own, an output has. So the
        delegate's own kernels, XNNPACK's, can be watched.
        """
        model = self.model()
        model.subgraphs[0].outputs = np.array([o.output for o in self.operators], np.int32)
        return pack(model)


def kind_of(code: Any) -> str:
    """An operator code's kind; files older than schema 3a have it in the byte-sized field."""
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return _OPERATOR_NAMES.get(number, str(number))


def pack(model: Any) -> bytes:
    """The schema's objects as a file."""
    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(size + size // 8 + (1 << 16))
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _cap(options: Any) -> float | None:
    fused = getattr(options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
    return 6.0 if fused == schema.ActivationFunctionType.RELU6 else None


def _present(indices: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(index) for index in indices if index >= 0)


def _tensor(index: int, given: Any, data: Values | None) -> Tensor:
    quantization = given.quantization
    scales = quantization.scale if quantization is not None else None
    zero_points = quantization.zeroPoint if scales is not None else None
    shape = tuple(int(size) for size in given.shape) if given.shape is not None else ()
    dtype = _DTYPES.get(given.type)
    constant = None
    if data is not None and len(data) and dtype is not None:
        constant = np.asarray(data, np.uint8).view(dtype).reshape(shape)
    return Tensor(
        index,
        given.name.decode("utf-8"),
        shape,
        dtype,
        np.asarray([] if scales is None else scales, np.float32),
        int(zero_points[0]) if zero_points is not None and len(zero_points) else 0,
        int(quantization.quantizedDimension) if quantization is not None else 0,
        constant,
    )
