"""What carries a graph over to MIL: names, precisions, weights.

Precision is decided here and not by coremltools' passes: what is written is what
was asked for.

- float32: everything in float32.
- float16: weights and activations in float16. Two things stay in float32: the
  arithmetic on the pixels (a mean such as 123.675 is no float16 number), and the
  final softmax or sigmoid, whose sum would else be off by 2e-4.
- int8: as float16, the weights of Conv and Dense as int8 with one scale per
  output channel (`constexpr_affine_dequantize`, symmetric, zero point 0).

Weights are rounded so that their errors cancel (`quantize/rounding/sum_preserving.py`). On
MobileNetV2 with ImageNet weights and 400 photographs that is worth 44 -> 50 dB of
logits in float16 and 20 -> 28 dB in int8.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.bundle import Precision
from exporter.convert.graph import (
    Add,
    BatchNorm,
    Conv,
    Dense,
    Fused,
    Graph,
    Mul,
    Node,
    Normalize,
    Sigmoid,
    Softmax,
    Sub,
)
from exporter.convert.quantize.rounding.sum_preserving import to_float16, to_int8
from exporter.convert.targets.coreml.floats import Floats
from models.contract import INPUT_NAME
from models.errors import UserError

Var = Any  # a MIL variable
Emit = Callable[[Any, "Emitter", str], Var]
EMITTERS: dict[type[Node], Emit] = {}  # filled by nodes.py
FLOAT_OF: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "int8": np.dtype(np.float16),
}
_MIL_NAME = {np.dtype(np.float32): "fp32", np.dtype(np.float16): "fp16"}


class CoreMLError(UserError):
    """A model that cannot be written as the Core ML file that was asked for."""


@dataclass(frozen=True)
class Style:
    """How a program is written.

    Attributes:
        precision: see the module's docstring.
        neural_network: the older format: operators of iOS 13 only, float32.
        output: what the tensor of probabilities is called.
        w8a8: weights and activations are int8 (`w8a8.py`); `precision` is then that of
            the arithmetic between them.
    """

    precision: Precision
    neural_network: bool = False
    output: str = "probabilities"
    w8a8: bool = False

    @property
    def target(self) -> str:
        """The oldest system that opens the file, as coremltools names it."""
        if self.neural_network:
            return "iOS13"
        return "iOS17" if self.w8a8 else "iOS16"

    @property
    def stored(self) -> Precision:
        """The precision that the file's metadata state."""
        return "int8" if self.w8a8 else self.precision


class Emitter:
    """Carries a graph's nodes over to MIL one by one."""

    def __init__(self, mb: Any, graph: Graph, style: Style, image: Var) -> None:
        self.mb = mb
        self.graph = graph
        self.style = style
        self.dtype = FLOAT_OF[style.precision]  # that of the node at hand
        self._image = image
        self._values: dict[str, Var] = {}
        self._cast: dict[tuple[str, str], Var] = {}
        self._taken: set[str] = {INPUT_NAME, style.output}
        self._front = {graph.input.name}

    def run(self) -> Var:
        self._values[self.graph.input.name] = self._pixels()
        for node in self.graph.nodes:
            self.dtype = self._precision_of(node)
            last = node.output == self.graph.output and self.dtype == np.float32
            name = self.style.output if last else self.unique(node.output)
            self._values[node.output] = EMITTERS[type(node)](node, self, name)
        result = self._values[self.graph.output]
        if self._is_half(result):
            result = self.mb.cast(x=result, dtype="fp32", name=self.style.output)
        return result

    def _pixels(self) -> Var:
        """`scale * (pixel - zero_point)`, in float32."""
        x, source = self._image, self.graph.input
        if source.zero_point:
            x = self.mb.add(x=x, y=np.float32(-source.zero_point), name=self.unique("centred"))
        if source.scale != 1.0:
            x = self.mb.mul(x=x, y=np.float32(source.scale), name=self.unique("scaled"))
        return x

    def _precision_of(self, node: Node) -> np.dtype[Any]:
        """float32 for arithmetic on the pixels and for the final activation."""
        read = [name for name in node.inputs if name not in self.graph.constants]
        on_pixels = isinstance(node, Normalize | BatchNorm | Add | Sub | Mul) and all(
            name in self._front for name in read
        )
        if on_pixels:
            self._front.add(node.output)
        last = node.output == self.graph.output and isinstance(node, Softmax | Sigmoid)
        return np.dtype(np.float32) if on_pixels or last else FLOAT_OF[self.style.precision]

    def unique(self, wanted: str) -> str:
        """A name of letters, digits and underscores that nothing else has."""
        base = re.sub(r"\W", "_", wanted, flags=re.ASCII).lstrip("_") or "tensor"
        base = f"t_{base}" if base[0].isdigit() else base
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name

    def read(self, name: str) -> Any:
        """An input in the precision of the node at hand; casts are shared."""
        if name in self.graph.constants:
            return self.array(self.graph.constants[name], name)
        value, wanted = self._values[name], _MIL_NAME[self.dtype]
        held = "fp16" if self._is_half(value) else "fp32"
        if held == wanted:
            return value
        key = (name, wanted)
        if key not in self._cast:
            label = self.unique(f"{name}_{wanted}")
            self._cast[key] = self.mb.cast(x=value, dtype=wanted, name=label)
        return self._cast[key]

    @staticmethod
    def _is_half(value: Var) -> bool:
        from coremltools.converters.mil.mil import types

        return bool(value.dtype == types.fp16)

    def array(self, value: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
        """Numbers in the precision of the node at hand.

        Raises:
            CoreMLError: one of them is beyond float16.
        """
        exact = np.asarray(value, np.float32)
        with np.errstate(over="ignore"):
            return _finite(exact.astype(self.dtype), exact, what)

    def number(self, value: float) -> Any:
        return self.dtype.type(value)

    def weight(self, node: Conv | Dense) -> Any:
        """The weights, output channels first: numbers, or int8 with scales.

        Raises:
            CoreMLError: one of them is beyond float16.
        """
        what = f"the weight of {node.name}"
        if self.style.precision == "int8":
            values, scales = to_int8(node.weight, self.dtype)
            return self.mb.constexpr_affine_dequantize(
                quantized_data=values,
                zero_point=np.int8(0),
                scale=_finite(scales, node.weight, what),
                axis=np.int32(0),
                name=self.unique(f"{node.output}_weight"),
            )
        if self.dtype == np.float16:
            return _finite(to_float16(node.weight), node.weight, what)
        return node.weight.view(Floats) if self.style.neural_network else node.weight

    def fused(self, node: Any, name: str, make: Callable[[str], Var]) -> Var:
        """What `make` writes, followed by the node's fused activation."""
        if node.fused is Fused.NONE:
            return make(name)
        raw = make(self.unique(f"{node.output}_raw"))
        return self.relu6(raw, name) if node.fused is Fused.RELU6 else self.relu(raw, name)

    def relu(self, x: Var, name: str) -> Var:
        return self.mb.relu(x=x, name=name)

    def relu6(self, x: Var, name: str) -> Var:
        return self.mb.clip(x=x, alpha=self.number(0), beta=self.number(6), name=name)


def _finite(found: npt.NDArray[Any], exact: npt.NDArray[np.float32], what: str) -> Any:
    if not np.isfinite(found).all():
        raise CoreMLError(
            f"{what} holds {np.abs(exact).max():.4g}, which float16 cannot hold.",
            "its largest number is 65504",
            "use the float32 files, or scale that layer down",
        )
    return found
