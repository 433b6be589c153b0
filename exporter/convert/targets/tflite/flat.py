"""Building blocks of a TFLite file: tensors, operators and buffers, packed as a flatbuffer.

Knows the schema (`tensorflow/lite/schema/schema.fbs`, version 3) and nothing of
classifiers. The same calls in the same order give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from exporter.convert.targets.tflite import versions

_TYPES: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int64): schema.TensorType.INT64,
}
_SCHEMA_VERSION = 3
_IDENTIFIER = b"TFL3"
_BUFFER_ALIGNMENT = 16  # the schema's force_align for Buffer.data
_LAST_OLD_CODE = 127  # OperatorCode.deprecated_builtin_code is one signed byte


@dataclass(frozen=True, eq=False)
class Quantization:
    """Affine quantization: one scale and zero point, or one for each index along `axis`."""

    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    axis: int = 0

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int) -> Quantization:
        return cls(np.array([scale], np.float32), np.array([zero_point], np.int64))

    @classmethod
    def symmetric(cls, scales: npt.ArrayLike, axis: int) -> Quantization:
        """Per channel, zero point 0 (TFLite 8-bit quantization specification)."""
        values = np.asarray(scales, np.float32).reshape(-1)
        return cls(values, np.zeros(values.size, np.int64), axis)


class _AlignedBuffer(schema.BufferT):
    """A buffer whose bytes lie where every kernel can read them in place."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated classes' name
        start = None
        if self.data is not None:
            builder.StartVector(1, len(self.data), _BUFFER_ALIGNMENT)
            builder.head = builder.head - len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            start = builder.EndVector()
        schema.BufferStart(builder)
        if start is not None:
            schema.BufferAddData(builder, start)
        return schema.BufferEnd(builder)


class _Builder(flatbuffers.Builder):
    """A builder that stores equal number vectors once."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._offsets: dict[tuple[str, bytes], int] = {}

    def shared(self, values: npt.NDArray[Any]) -> int:
        """The offset of a vector, written now or before."""
        key = (values.dtype.str, values.tobytes())
        if key not in self._offsets:
            self._offsets[key] = int(self.CreateNumpyVector(values))
        return self._offsets[key]


class _SharingQuantization(schema.QuantizationParametersT):
    """Scales and zero points; a thousand channels' zeros are there once in a file, not per layer.

    The runtime wants a zero point for every scale, 8 bytes each; readers follow offsets
    and do not mind where they lead.
    """

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated classes' name
        scale, zero_point = builder.shared(self.scale), builder.shared(self.zeroPoint)
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, zero_point)
        schema.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
        return schema.QuantizationParametersEnd(builder)


class FlatModel:
    """A model with one subgraph, filled from first operator to last."""

    def __init__(self) -> None:
        self._buffers: list[schema.BufferT] = [_AlignedBuffer()]  # 0 means 'no data'
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: dict[int, int] = {}  # operator kind -> index, in order of appearance
        self._versions: dict[int, int] = {}
        self._runtimes: set[str] = set()

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        quantization: Quantization | None = None,
    ) -> int:
        """Declare a tensor that is computed; gives its index."""
        tensor = schema.TensorT()
        tensor.name = name.encode("utf-8")
        tensor.shape = np.array(shape, np.int32)
        tensor.type = _TYPES[np.dtype(dtype)]
        tensor.hasRank = True
        if quantization is not None:
            tensor.quantization = _SharingQuantization()
            tensor.quantization.scale = quantization.scales
            tensor.quantization.zeroPoint = quantization.zero_points
            tensor.quantization.quantizedDimension = quantization.axis
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(
        self, name: str, values: npt.NDArray[Any], quantization: Quantization | None = None
    ) -> int:
        """Store an array; gives its tensor's index."""
        index = self.tensor(name, values.shape, values.dtype, quantization)
        content = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._tensors[index].buffer = self._buffer(memoryview(content))  # type: ignore[arg-type]
        return index

    def _buffer(self, data: bytes | memoryview) -> int:
        buffer = _AlignedBuffer()
        buffer.data = data
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def operator(
        self, kind: int, inputs: Sequence[int], outputs: Sequence[int], options: Any = None
    ) -> None:
        """Append an operator; `options` is an object of the schema's options classes."""
        operator = schema.OperatorT()
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = _options_type(options)
        operator.opcodeIndex = self._codes.setdefault(kind, len(self._codes))
        self._operators.append(operator)
        signature = self._signature(kind, inputs, outputs, options)
        version = versions.operator_version(signature)
        self._versions[kind] = max(version, self._versions.get(kind, 1))
        self._runtimes.add(versions.first_runtime(signature))

    def _signature(
        self, kind: int, inputs: Sequence[int], outputs: Sequence[int], options: Any
    ) -> versions.Signature:
        read = [self._tensors[index] for index in inputs]
        grouped = kind == schema.BuiltinOperator.CONV_2D and read[0].shape[3] != read[1].shape[3]
        dilations = (
            getattr(options, "dilationHFactor", 1),
            getattr(options, "dilationWFactor", 1),
        )
        rescale = 0.0
        if kind == schema.BuiltinOperator.MUL and read[0].quantization is not None:
            made = self._tensors[outputs[0]].quantization
            rescale = float(
                read[0].quantization.scale[0] * read[1].quantization.scale[0] / made.scale[0]
            )
        weight = read[min(1, len(read) - 1)].quantization
        return versions.Signature(
            kind,
            tuple(tensor.type for tensor in read),
            output=self._tensors[outputs[0]].type,
            grouped=grouped,
            dilated=dilations != (1, 1),
            per_channel=weight is not None and len(weight.scale) > 1,
            rescale=rescale,
        )

    def minimum_runtime(self) -> str:
        """The first TensorFlow Lite release that has every operator so far."""
        return versions.highest(self._runtimes)

    def serialize(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        description: str,
        metadata: Mapping[str, bytes],
    ) -> bytes:
        """The file's bytes.

        Args:
            inputs: tensor index by the name that callers of the signature use.
            outputs: likewise.
            description: of the model, one line.
            metadata: named blobs; `min_runtime_version` is added.
        """
        release = self.minimum_runtime().encode("ascii").ljust(versions.METADATA_BYTES, b"\0")
        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = description.encode("utf-8")
        model.operatorCodes = [self._operator_code(kind) for kind in self._codes]
        model.metadata = []
        for key, blob in {versions.METADATA_KEY: release, **metadata}.items():
            entry = schema.MetadataT()
            entry.name = key.encode("utf-8")
            entry.buffer = self._buffer(blob)
            model.metadata.append(entry)
        graph = schema.SubGraphT()
        graph.name = b"main"
        graph.tensors = self._tensors
        graph.operators = self._operators
        graph.inputs = np.array(list(inputs.values()), np.int32)
        graph.outputs = np.array(list(outputs.values()), np.int32)
        model.subgraphs = [graph]
        model.signatureDefs = [_signature_def(inputs, outputs)]
        model.buffers = self._buffers
        size = sum(len(buffer.data) for buffer in self._buffers if buffer.data is not None)
        builder = _Builder(size + size // 64 + (1 << 16))
        builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(memoryview(builder.Bytes)[builder.head :])

    def _operator_code(self, kind: int) -> Any:
        code = schema.OperatorCodeT()
        code.builtinCode = kind
        code.deprecatedBuiltinCode = min(kind, _LAST_OLD_CODE)
        code.version = self._versions[kind]
        return code


def _options_type(options: Any) -> int:
    name = type(options).__name__.removesuffix("T")
    return int(getattr(schema.BuiltinOptions, name))


def _signature_def(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    def maps(tensors: Mapping[str, int]) -> list[Any]:
        made = []
        for name, index in tensors.items():
            entry = schema.TensorMapT()
            entry.name = name.encode("utf-8")
            entry.tensorIndex = index
            made.append(entry)
        return made

    signature = schema.SignatureDefT()
    signature.signatureKey = b"serving_default"
    signature.inputs = maps(inputs)
    signature.outputs = maps(outputs)
    return signature
