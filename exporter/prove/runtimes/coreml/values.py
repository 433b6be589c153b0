"""MIL types and values: what a program says about a tensor, and its constants as numpy.

Float tensors are held as float32 arrays whatever their declared type, together with
the name of that type; a float16 tensor holds only values that float16 can express.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.prove.runtimes.coreml.blobs import BlobFile
from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.kernels import unpack_bits
from exporter.prove.runtimes.coreml.package import ModelFile

_MODEL_PATH = "@model_path/"
_DTYPES = {
    1: "bool", 2: "string", 10: "float16", 11: "float32", 12: "float64", 21: "int8",
    22: "int16", 23: "int32", 24: "int64", 25: "int4", 31: "uint8", 32: "uint16",
    33: "uint32", 34: "uint64", 35: "uint4", 36: "uint2", 37: "uint1", 38: "uint6",
    39: "uint3",
}  # fmt: skip
_PACKED = {"int4": 4, "uint4": 4, "uint3": 3, "uint2": 2, "uint1": 1, "uint6": 6}
FLOATS = ("float16", "float32")


@dataclass(frozen=True)
class TensorType:
    """Element type and shape; a scalar has the shape ()."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Constant:
    """A value known before anything runs.

    Attributes:
        type: its declared type; for a list of strings the type of one element.
        value: a numpy array (float32 for float types), a string, or a tuple of strings.
    """

    type: TensorType
    value: Any


def read_type(message: Any, where: str) -> TensorType:
    """A `ValueType` that is a tensor of fixed shape.

    Raises:
        CoreMLFileError: it is something else, or of a type that is not known.
    """
    if message.WhichOneof("type") != "tensorType":
        raise CoreMLFileError(f"{where} is a {message.WhichOneof('type')}, not a tensor.")
    tensor = message.tensorType
    if tensor.attributes or tensor.dataType not in _DTYPES:
        raise CoreMLFileError(f"{where} has the data type number {tensor.dataType}.")
    if any(d.WhichOneof("dimension") != "constant" for d in tensor.dimensions):
        raise CoreMLFileError(f"{where} has no fixed shape.", "every size has to be known")
    shape = tuple(int(d.constant.size) for d in tensor.dimensions)
    if tensor.rank != len(shape):
        raise CoreMLFileError(f"{where} has rank {tensor.rank} and {len(shape)} dimensions.")
    return TensorType(_DTYPES[tensor.dataType], shape)


def to_precision(values: Any, dtype: str) -> npt.NDArray[Any]:
    """Round float32 results to a declared float type (ties to even; overflow to infinity)."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(np.float16).astype(np.float32)
    if dtype == "float32":
        return np.asarray(values, dtype=np.float32)
    return np.asarray(values)


class Storage:
    """Reads the values of a program, inline or in its weight files.

    Args:
        model: the opened file.
    """

    def __init__(self, model: ModelFile) -> None:
        self._model = model
        self._files: dict[Path, BlobFile] = {}

    def constant(self, message: Any, where: str) -> Constant:
        """A `Value` as a constant.

        Raises:
            CoreMLFileError: the value and its type contradict each other.
        """
        kind = message.WhichOneof("value")
        if message.type.WhichOneof("type") == "listType":
            return self._strings(message, where)
        declared = read_type(message.type, where)
        if kind == "blobFileValue":
            return Constant(declared, self._blob(message.blobFileValue, declared, where))
        if kind != "immediateValue" or message.immediateValue.WhichOneof("value") != "tensor":
            raise CoreMLFileError(f"{where} holds no value.")
        return Constant(declared, _immediate(message.immediateValue.tensor, declared, where))

    def finish(self) -> None:
        """Let go of the weight files; raise when one holds what the program never read."""
        for file in self._files.values():
            file.finish()
        self._files.clear()

    def _strings(self, message: Any, where: str) -> Constant:
        listed = message.type.listType
        element = read_type(listed.type, where)
        items = message.immediateValue.list.values
        if element != TensorType("string", ()):
            raise CoreMLFileError(f"{where} is a list of {element}, not of names.")
        if listed.length.constant.size != len(items):
            raise CoreMLFileError(
                f"{where} is declared to hold {listed.length.constant.size} names, "
                f"it holds {len(items)}."
            )
        names = tuple(
            _immediate(item.immediateValue.tensor, read_type(item.type, where), where)
            for item in items
        )
        return Constant(element, names)

    def _blob(self, message: Any, declared: TensorType, where: str) -> npt.NDArray[Any]:
        name = message.fileName
        if not name.startswith(_MODEL_PATH) or ".." in Path(name).parts:
            raise CoreMLFileError(f"{where} reads {name!r}.", f"weights lie below {_MODEL_PATH}")
        path = self._model.folder / name.removeprefix(_MODEL_PATH)
        if not any(path == item or item in path.parents for item in self._model.items):
            raise CoreMLFileError(f"{where} reads {name!r}, which Manifest.json does not list.")
        if path not in self._files:
            self._files[path] = BlobFile(path)
        blob, data = self._files[path].read(message.offset, where)
        if blob.dtype != declared.dtype:
            raise CoreMLFileError(
                f"{where} is declared {declared}, its blob at offset {message.offset} "
                f"of {path.name} holds {blob.dtype}."
            )
        return _from_bytes(data, declared, where, blob.padding_bits)


def _immediate(tensor: Any, declared: TensorType, where: str) -> Any:
    field = tensor.WhichOneof("value")
    values: Any = getattr(tensor, field).values if field else ()
    if declared.dtype == "string":
        if field != "strings" or declared.shape or len(values) != 1:
            raise CoreMLFileError(f"{where} is declared a string and holds {field}.")
        return values[0]
    if field == "bytes":
        return _from_bytes(values, declared, where)
    expected = {"float32": "floats", "bool": "bools", "int32": "ints"}.get(declared.dtype)
    if field != expected:
        raise CoreMLFileError(f"{where} is declared {declared} and holds {field}.")
    if len(values) != declared.size:
        raise CoreMLFileError(f"{where} is declared {declared} and holds {len(values)} values.")
    return np.array(values, dtype=declared.dtype).reshape(declared.shape)


def _from_bytes(
    data: bytes | memoryview, declared: TensorType, where: str, padding_bits: int = 0
) -> npt.NDArray[Any]:
    dtype = declared.dtype
    try:
        if dtype in _PACKED:
            bits = _PACKED[dtype]
            if padding_bits != -bits * declared.size % 8:
                raise ValueError(f"{padding_bits} bits of padding")
            values: npt.NDArray[Any] = unpack_bits(data, bits, declared.size, "little")
            if dtype == "int4":
                values = ((values ^ 8).astype(np.int8) - 8).astype(np.int8)
            return values.reshape(declared.shape)
        if dtype == "bool" or padding_bits:
            raise ValueError("not a type for raw bytes")
        values = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
        if values.size != declared.size:
            raise ValueError(f"{values.size} elements")
    except (ValueError, TypeError) as error:
        raise CoreMLFileError(
            f"{where} is declared {declared}, its {len(data)} bytes do not fit.", str(error)
        ) from error
    held = np.dtype(np.float32 if dtype in FLOATS else dtype)
    return values.reshape(declared.shape).astype(held, copy=False)
