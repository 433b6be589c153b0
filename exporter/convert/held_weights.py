"""Large weights beside an ONNX model in memory: onnxruntime reads them where they are.

A model with all its weights inside is copied when it is put together, when it is serialized
and when it is parsed: half a gigabyte each time where VGG16 has 553 MB. Here the model says
of a large weight only that it lies elsewhere ("external data"), and the session is given the
array itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

LARGE = 2**16  # values; smaller constants go into the model, where shapes may depend on them
_MOST_AT_ONCE = 2**22  # values in double precision: 32 MB
Weights = dict[str, npt.NDArray[np.float32]]


def initializer(name: str, value: npt.NDArray[Any], held: Weights | None = None) -> TensorProto:
    """A constant of an ONNX model.

    Args:
        held: where a large float32 array is put instead, by its name; None for no such place.
    """
    if held is None or value.dtype != np.float32 or value.size < LARGE:
        return numpy_helper.from_array(value, name)
    held[name] = np.ascontiguousarray(value)
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=value.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    return tensor


def open_model(model: onnx.ModelProto, options: Any, held: Weights | None = None) -> Any:
    """An onnxruntime session on the CPU.

    Args:
        options: onnxruntime's SessionOptions; they are changed.
        held: the weights that the model does not hold itself.
    """
    import onnxruntime

    values = [onnxruntime.OrtValue.ortvalue_from_numpy(one) for one in (held or {}).values()]
    if held:
        options.add_external_initializers(list(held), values)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    session.held = values  # it reads the arrays' own memory, which must not be freed before it
    return session


def row_blocks(array: npt.NDArray[Any], most: int = _MOST_AT_ONCE) -> Iterator[slice]:
    """Slices of the first axis, so that work in double precision needs little memory.

    Args:
        most: values in a block; a block has one row at least.
    """
    step = max(1, most // max(1, array[:1].size))
    for start in range(0, len(array), step):
        yield slice(start, start + step)
