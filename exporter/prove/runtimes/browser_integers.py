"""A quantized file's integers in LiteRT.js, which has no int8 outputs.

It gives the dequantized numbers instead: (integer - zero point) * scale, in float32. Each
integer has a number of its own, so they tell the integers exactly.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.prove.runtimes.base import Integers
from exporter.prove.tflite_integers import with_integer_output

_TENSOR_INDEX = 6  # TensorMap's second field in a flatbuffer's table of offsets


@dataclass(frozen=True)
class Dequantized:
    """A copy of a file that ends with its last DEQUANTIZE.

    Attributes:
        model: the copy's bytes.
        dtype: of the integers.
        scale, zero_point: of the integers.
    """

    model: bytes
    dtype: type[np.int8] | type[np.uint8]
    scale: float
    zero_point: int

    def integers(self, numbers: npt.NDArray[np.float32]) -> Integers:
        """The integers behind dequantized numbers of any shape, flat.

        Raises:
            ValueError: a number is none that an integer stands for.
        """
        found = np.round(numbers.astype(np.float64) / self.scale) + self.zero_point
        exact = ((found - self.zero_point) * np.float32(self.scale)).astype(np.float32)
        limits = np.iinfo(self.dtype)
        inside = (found >= limits.min) & (found <= limits.max)
        if not (inside & np.isclose(exact, numbers, rtol=1e-5, atol=0)).all():
            raise ValueError("the output does not consist of dequantized integers")
        flat = found.reshape(-1)
        return flat.astype(np.uint8) if self.dtype is np.uint8 else flat.astype(np.int8)


def dequantized(model: bytes) -> Dequantized | None:
    """The copy; None where the output does not come from integers."""
    from ai_edge_litert import schema_py_generated as schema

    cut = with_integer_output(model)
    if cut is None:
        return None
    copy = bytearray(cut)
    parsed = schema.Model.GetRootAs(copy, 0)
    graph = parsed.Subgraphs(0)
    outputs = graph.OutputsAsNumpy()
    source = int(outputs[0])
    outputs[0] = _reader_of(graph, source)  # in place, as `with_integer_output` does
    _sign(copy, parsed, int(outputs[0]))
    tensor = graph.Tensors(source)
    quantization = tensor.Quantization()
    unsigned = tensor.Type() == schema.TensorType.UINT8
    return Dequantized(
        bytes(copy),
        np.uint8 if unsigned else np.int8,
        float(quantization.Scale(0)),
        int(quantization.ZeroPoint(0)),
    )


def _sign(copy: bytearray, parsed: Any, tensor: int) -> None:
    """Let the signature's one output, which LiteRT.js reads by, be that tensor too."""
    if parsed.SignatureDefsLength() == 0:
        return
    table = parsed.SignatureDefs(0).Outputs(0)._tab
    field = table.Offset(_TENSOR_INDEX)
    struct.pack_into("<I", copy, table.Pos + field, tensor)


def _reader_of(graph: Any, tensor: int) -> int:
    """The first output of the operator that reads `tensor`: the DEQUANTIZE behind it."""
    for index in range(graph.OperatorsLength()):
        node = graph.Operators(index)
        if tensor in node.InputsAsNumpy():
            return int(node.Outputs(0))
    raise ValueError("nothing reads the integer tensor")
