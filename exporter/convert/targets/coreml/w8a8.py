"""int8 weights and int8 activations (W8A8): the program of iOS 17 that a plan asks for.

    before: x ------------------------> conv(weight) -> relu6 -> next
    after:  quantize -> dequantize ---> conv(constexpr_affine_dequantize(int8 weight))
                                          -> relu6 -> quantize -> dequantize -> next

Every tensor of the plan is rounded once, right after it was made and after its fused
activation; so what reads it reads a `dequantize`, the pattern that coremltools makes of
a network whose activations were quantized. Operators in between are the float ones.

- The pixels are whole numbers 0..255: `quantize` with scale 1 holds them exactly, and
  the `dequantize` behind it carries the plan's input scale and zero point. No arithmetic
  on pixels is left, and padding is the same as in the int8 TFLite file.
- Zero points: -128 is written as uint8 without a zero point, 0 as int8 without one; the
  numbers are the same, and coremltools does so because zero points cost time
  (`nullify_redundant_quantization_zero_point`). Others stay int8 with theirs.
- A ReLU6 is the operator `relu6` and not `clip`: of the two, coremltools knows only
  `relu6` as an activation inside the pattern.
- The softmax reads the logits through a `dequantize` into float32.
- Scales have the type of the arithmetic (MIL asks for that), float16 unless asked
  otherwise; each is rounded to it once, for the `quantize` and the `dequantize` alike.
  Biases are the plan's int32 ones times their scales, in the same type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Conv, Dense, Graph
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.quantize.simulate import dequantized_graph
from exporter.convert.targets.coreml.emitter import (
    EMITTERS,
    FLOAT_OF,
    CoreMLError,
    Emitter,
    Style,
    Var,
)

_MOVED = 2.0**-9  # by how much float16 may move a weight scale before its integers follow
_LARGEST = 65504.0 / 255.0  # the largest scale whose 255 steps float16 still holds


class QuantizingEmitter(Emitter):
    """Carries a graph over with its plan: int8 weights, and rounded tensors.

    Args:
        graph: the one that the plan is for.
        plan: what is rounded to what; all nodes up to the logits in int8.
    """

    def __init__(
        self, mb: Any, graph: Graph, style: Style, image: Var, plan: QuantizationPlan
    ) -> None:
        if plan.float_nodes or plan.activation_type != "int8":
            raise ValueError("W8A8 has neither nodes in float nor 16-bit activations")
        super().__init__(mb, dequantized_graph(graph, plan), style, image)
        self._plan = plan
        self._rounded: dict[str, Var] = {}  # what `quantize` made, by the tensor's name

    def run(self) -> Var:
        self._round_pixels(self.graph.input.name)
        for node in self.graph.nodes:
            self.dtype = self._precision_of(node)
            last = node.output == self.graph.output and node.output not in self._plan.activations
            name = self.style.output if last else self.unique(node.output)
            made = EMITTERS[type(node)](node, self, name)
            if node.output in self._plan.activations:
                self._round(node.output, made)
            else:
                self._values[node.output] = made
        if self.graph.output in self._rounded:
            self.dtype = np.dtype(np.float32)
            return self._dequantized(self.graph.output, self.style.output)
        return self._values[self.graph.output]

    def _round_pixels(self, name: str) -> None:
        """The image as uint8, which changes no pixel; float16 holds 0..255 exactly."""
        image, one = self._image, FLOAT_OF[self.style.precision].type(1)
        if one.dtype == np.float16:
            image = self.mb.cast(x=image, dtype="fp16", name=self.unique(f"{name}_fp16"))
        self._rounded[name] = self.mb.quantize(
            input=image, scale=one, output_dtype="uint8", name=self.unique(f"{name}_quantized")
        )

    def _round(self, name: str, made: Var) -> None:
        affine = self._plan.activations[name]
        kind, zero_point = _steps(affine)
        self._rounded[name] = self.mb.quantize(
            input=made,
            scale=self._scale(name, affine),
            output_dtype=kind,
            name=self.unique(f"{name}_quantized"),
            **zero_point,
        )

    def read(self, name: str) -> Any:
        """An input in the precision of the node at hand; a `dequantize` is shared."""
        if name not in self._rounded:
            return super().read(name)
        key = (name, self.dtype.name)
        if key not in self._cast:
            suffix = "dequantized" if self.dtype == np.float16 else "dequantized_fp32"
            self._cast[key] = self._dequantized(name, self.unique(f"{name}_{suffix}"))
        return self._cast[key]

    def _dequantized(self, name: str, label: str) -> Var:
        affine = self._plan.activations[name]
        if name == self.graph.input.name:
            pixel = affine.zero_point + 128
            zero_point = {"zero_point": np.uint8(pixel)} if pixel else {}
        else:
            _, zero_point = _steps(affine)
        scale = self._scale(name, affine)
        return self.mb.dequantize(input=self._rounded[name], scale=scale, name=label, **zero_point)

    def _scale(self, name: str, affine: Affine) -> Any:
        """The scale as the node at hand holds it, after the file's arithmetic has rounded it."""
        if self.style.precision == "float32":
            return self.dtype.type(affine.scale)
        with np.errstate(over="ignore"):
            held = np.float16(affine.scale)
        if not 0 < held <= _LARGEST:
            raise CoreMLError(
                f"The tensor {name} has the scale {affine.scale:.4g}, which float16 cannot hold.",
                f"scales from 6e-8 to {_LARGEST:.4g} fit",
                "take the float32 files, or scale that layer",
            )
        return self.dtype.type(held)

    def weight(self, node: Conv | Dense) -> Any:
        weights = self._plan.weights[node.name]
        values, scales = weights.values, weights.scales
        if self.dtype == np.float16:
            values, scales = half_scales(values, scales, node.name)
        return self.mb.constexpr_affine_dequantize(
            quantized_data=values,
            zero_point=np.int8(0),
            scale=scales.astype(self.dtype),
            axis=np.int32(0),
            name=self.unique(f"{node.output}_weight"),
        )

    def relu6(self, x: Var, name: str) -> Var:
        return self.mb.relu6(x=x, name=name)


def half_scales(
    values: npt.NDArray[np.int8], scales: npt.NDArray[np.float32], what: str
) -> tuple[npt.NDArray[np.int8], npt.NDArray[Any]]:
    """Weights whose scales are float16 numbers.

    A scale is rounded to the nearest. Where that moves it by more than 1/512, which
    happens below 6e-5 only, it is rounded up and the channel's integers are rounded again.

    Args:
        values: int8 `[out, ...]`.
        scales: float32 `[out]`, positive.
        what: the layer's name, for messages.

    Returns:
        values int8 of the same shape, in [-127, 127]; scales float16 `[out]`.

    Raises:
        CoreMLError: a scale beyond float16.
    """
    with np.errstate(over="ignore"):
        held: npt.NDArray[Any] = scales.astype(np.float16)
    if not np.isfinite(held).all():
        raise CoreMLError(
            f"The layer {what} has weights of {127 * scales.max():.4g}, beyond float16.",
            "its largest number is 65504",
            "take the float32 files, or scale that layer down",
        )
    exact = scales.astype(np.float64)
    moved = np.abs(held.astype(np.float64) / exact - 1) > _MOVED
    above = np.nextafter(held, np.float16(np.inf))
    held = np.where(moved & (held.astype(np.float64) < exact), above, held)
    ratio = np.where(moved, exact / held.astype(np.float64), 1.0)
    shaped = ratio.reshape((-1,) + (1,) * (values.ndim - 1))
    return np.rint(values * shaped).astype(np.int8), held


def _steps(affine: Affine) -> tuple[str, dict[str, Any]]:
    """Which integers hold a tensor, and the zero point where one is needed."""
    if affine.zero_point == -128:
        return "uint8", {}
    if affine.zero_point == 0:
        return "int8", {}
    return "int8", {"zero_point": np.int8(affine.zero_point)}
