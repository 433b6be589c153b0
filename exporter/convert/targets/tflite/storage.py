"""What a file stores: weights, biases and constants, each at the precision of its node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from exporter.convert.graph import Array, Graph, GraphError, Node, Shape
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.rounding.sum_preserving import to_float16
from exporter.convert.quantize.rounding.weights import dequantize_weights
from exporter.convert.targets.tflite import layout
from exporter.convert.targets.tflite.flat import FlatModel, Quantization

Op = schema.BuiltinOperator
Precision = Literal["float32", "float16", "int8"]


class Refusal(Exception):  # noqa: N818 - it becomes a line of UnloweredNodesError
    """Raised by an operator's function: the reason why its node cannot be written."""


@dataclass(frozen=True)
class Value:
    """A tensor of the file.

    Attributes:
        index: in the subgraph.
        shape: NHWC.
        affine: its int8 quantization; None for float32.
        non_negative: known never to be below zero.
    """

    index: int
    shape: Shape
    affine: Affine | None = None
    non_negative: bool = False


@dataclass
class Storage:
    """The constants of one file in the making.

    Attributes:
        graph: what is written.
        precision: of weights and activations.
        plan: the quantization; present exactly when the precision is int8.
        flat: the flatbuffer that fills up.
    """

    graph: Graph
    precision: Precision
    plan: QuantizationPlan | None = None
    flat: FlatModel = field(default_factory=FlatModel)
    _stored: dict[tuple[Any, ...], Value] = field(default_factory=dict)

    @property
    def is_int16(self) -> bool:
        return self.plan is not None and self.plan.activation_type == "int16"

    def is_dynamic(self, node: Node) -> bool:
        """Whether the runtime quantizes what a node reads."""
        return self.plan is not None and node.name in self.plan.dynamic_nodes

    def temporary(
        self, name: str, shape: Shape, affine: Affine | None, non_negative: bool = False
    ) -> Value:
        """Declare a tensor that only this file knows; float32 without `affine`."""
        if affine is None:
            index = self.flat.tensor(name, shape, np.float32)
            return Value(index, shape, None, non_negative)
        if not (affine.scale > 0 and -128 <= affine.zero_point <= 127):
            raise GraphError(f"the plan quantizes {name!r} as {affine}, which int8 cannot hold")
        if self.is_int16 and affine.zero_point:
            raise GraphError(f"the plan gives the int16 tensor {name!r} a zero point")
        quantization = Quantization.per_tensor(affine.scale, affine.zero_point)
        index = self.flat.tensor(name, shape, np.int16 if self.is_int16 else np.int8, quantization)
        return Value(index, shape, affine, non_negative)

    def op(
        self, kind: int, inputs: Sequence[Value | int], output: Value, options: Any = None
    ) -> Value:
        """Append an operator; gives its output."""
        indices = [one.index if isinstance(one, Value) else one for one in inputs]
        self.flat.operator(kind, indices, [output.index], options)
        return output

    def integers(self, values: npt.ArrayLike) -> int:
        """The tensor index of an int32 constant; equal ones are stored once."""
        array = np.asarray(values, np.int32)
        key = ("integers", array.shape, array.tobytes())
        if key not in self._stored:
            name = "constant/" + "_".join(str(v) for v in array.reshape(-1))
            self._stored[key] = Value(self.flat.constant(name, array), array.shape)
        return self._stored[key].index

    def floats(self, name: str, values: Array) -> Value:
        """A float constant; float16 files keep it in half and DEQUANTIZE it."""
        array = np.ascontiguousarray(values, np.float32)
        if self.precision != "float16":
            return Value(self.flat.constant(name, array), array.shape)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.all(np.isfinite(half) | ~np.isfinite(array)):
            raise Refusal(f"{name} has values beyond float16's largest, 65504")
        stored = self.flat.constant(f"{name}/half", half)
        made = self.temporary(name, array.shape, None)
        return self.op(Op.DEQUANTIZE, [stored], made)

    def _rounded(self, weight: Array) -> Array:
        """The weights as a float16 file will hold them, their errors cancelling."""
        if self.precision != "float16":
            return weight
        rounded = to_float16(weight).astype(np.float32)
        return rounded if np.isfinite(rounded).all() else weight  # which `floats` refuses

    def weights(self, node: Any, source: Value, depthwise: bool) -> tuple[Value, Value]:
        """Weight and bias of a Conv or Dense that reads `source`, in TFLite's layout."""
        name, axis = node.name, 0
        arrange: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = layout.conv_weight
        if depthwise:
            arrange, axis = layout.depthwise_weight, 3
        elif node.weight.ndim == 2:
            arrange = layout.dense_weight
        if self.plan is None or not self.plan.keeps_int8_weights(name):
            weight = self.floats(f"{name}/weight", arrange(self._rounded(node.weight)))
            return weight, self.floats(f"{name}/bias", node.bias)
        quantized = self.plan.weights.get(name)
        if quantized is None:
            raise GraphError(f"the plan has no weights for {name!r}")
        if quantized.values.shape != node.weight.shape:
            raise GraphError(f"the plan's weights for {name!r} have another shape")
        if source.affine is not None:
            return self.int8_weights(name, quantized, arrange(quantized.values), axis, source)
        step = self.plan.activations[node.inputs[0]]
        bias = self.floats(f"{name}/bias", dequantize_weights(quantized, step)[1])
        return self._int8_for_float(name, quantized, arrange(quantized.values), axis), bias

    def _int8_for_float(
        self, name: str, quantized: QuantizedWeights, arranged: npt.NDArray[np.int8], axis: int
    ) -> Value:
        """int8 weights that a float operator reads: as they are where it quantizes its input."""
        assert self.plan is not None
        steps = Quantization.symmetric(_checked_scales(name, quantized), axis)
        if name in self.plan.dynamic_nodes:
            if axis != 0:
                raise GraphError(f"{name!r} is depthwise and cannot quantize its input itself")
            return Value(self.flat.constant(f"{name}/weight", arranged, steps), arranged.shape)
        stored = self.flat.constant(f"{name}/weight/int8", arranged, steps)
        made = self.temporary(f"{name}/weight", arranged.shape, None)
        return self.op(Op.DEQUANTIZE, [stored], made)

    def int8_weights(
        self,
        name: str,
        quantized: QuantizedWeights,
        arranged: npt.NDArray[np.int8],
        axis: int,
        source: Value,
    ) -> tuple[Value, Value]:
        """int8 weight, and bias with scale `input scale * weight scale`, zero point 0.

        The bias is int32, or int64 where activations are int16.
        """
        assert source.affine is not None
        scales = _checked_scales(name, quantized)
        weight = self.flat.constant(
            f"{name}/weight", arranged, Quantization.symmetric(scales, axis)
        )
        bias = self.flat.constant(
            f"{name}/bias",
            np.asarray(quantized.bias, np.int64 if self.is_int16 else np.int32),
            Quantization.symmetric(np.float32(source.affine.scale) * scales, 0),
        )
        return Value(weight, arranged.shape), Value(bias, quantized.bias.shape)

    def _operand(self, name: str, rank: int, int8: bool) -> Value:
        key = ("operand", name, rank, int8)
        if key not in self._stored:
            self._stored[key] = self._store_operand(name, rank, int8)
        return self._stored[key]

    def _store_operand(self, name: str, rank: int, int8: bool) -> Value:
        if not int8:
            return self.floats(name, layout.operand(self.graph.constants[name], rank))
        assert self.plan is not None
        if name not in self.plan.constants:
            raise GraphError(f"the plan has no int8 values for the constant {name!r}")
        values, affine = self.plan.constants[name]
        return self.int8_constant(name, layout.operand(values, rank), affine)

    def int8_constant(self, name: str, values: npt.NDArray[np.int8], affine: Affine) -> Value:
        """An int8 constant with one scale."""
        quantization = Quantization.per_tensor(affine.scale, affine.zero_point)
        index = self.flat.constant(name, np.asarray(values, np.int8), quantization)
        return Value(index, values.shape, affine)


def _checked_scales(name: str, quantized: QuantizedWeights) -> npt.NDArray[np.float32]:
    scales = np.asarray(quantized.scales, np.float32)
    if not (np.all(np.isfinite(scales)) and np.all(scales > 0)):
        raise GraphError(f"the plan's weight scales for {name!r} are not all positive")
    return scales
