"""From the graph to a MIL program, coremltools' intermediate language.

One function a node kind, registered by `_emits`. Precision is decided here and
not by coremltools' passes: what is written is what was asked for.

- float32: everything in float32.
- float16: weights and activations in float16. Three things stay in float32: the
  arithmetic on the pixels (a mean such as 123.675 is no float16 number), and the
  final softmax or sigmoid, whose output a person reads.
- int8: as float16, the weights of Conv and Dense as int8 with one scale per
  output channel (`constexpr_affine_dequantize`, symmetric, zero point 0).
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
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    HardSigmoid,
    HardSwish,
    MaxPool,
    Mul,
    Node,
    Normalize,
    Pad,
    Padding,
    Relu,
    Relu6,
    Reshape,
    Sigmoid,
    Silu,
    Softmax,
    Sub,
)
from models.contract import INPUT_NAME
from models.errors import UserError

Var = Any  # a MIL variable
Emit = Callable[[Any, "Emitter", str], Var]
_EMITTERS: dict[type[Node], Emit] = {}
_FLOAT = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16),
          "int8": np.dtype(np.float16)}  # fmt: skip
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
    """

    precision: Precision
    neural_network: bool = False
    output: str = "probabilities"


def _emits(kind: type[Node]) -> Callable[[Emit], Emit]:
    def register(function: Emit) -> Emit:
        _EMITTERS[kind] = function
        return function

    return register


def supported_kinds() -> frozenset[type[Node]]:
    """The node kinds that both Core ML formats can say."""
    return frozenset(_EMITTERS)


def build_program(ct: Any, graph: Graph, style: Style) -> Any:
    """Write the graph as a MIL program.

    Args:
        ct: the coremltools module.
        graph: what to write.
        style: how.

    Returns:
        A `coremltools.converters.mil.Program` with the input `image` (float32
        `[1, 3, H, W]`, pixels 0..255) and the output `style.output`
        (float32 `[1, classes]`).

    Raises:
        CoreMLError: node kinds that Core ML has no operator for, all at once; a
            weight too large for float16.
    """
    unknown = [n for n in graph.nodes if type(n) not in _EMITTERS]
    if unknown:
        raise CoreMLError(
            "The model cannot be written for Core ML.",
            "no operator for: " + ", ".join(f"{type(n).__name__} ({n.name})" for n in unknown),
            "leave the Core ML formats out with --formats, or replace those layers",
        )
    from coremltools.converters.mil.mil import Builder, Function, Program

    opset = ct.target.iOS13 if style.neural_network else ct.target.iOS16
    pixels = {INPUT_NAME: Builder.placeholder(shape=graph.input.shape, name=INPUT_NAME)}
    with Function(pixels, opset_version=opset) as function:
        result = Emitter(Builder, graph, style, function.inputs[INPUT_NAME]).run()
        function.set_outputs([result])
    program = Program()
    program.add_function("main", function)
    return program


class Emitter:
    """Carries a graph's nodes over to MIL one by one."""

    def __init__(self, mb: Any, graph: Graph, style: Style, image: Var) -> None:
        self.mb = mb
        self.graph = graph
        self.style = style
        self.dtype = _FLOAT[style.precision]
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
            self._values[node.output] = _EMITTERS[type(node)](node, self, name)
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
        return np.dtype(np.float32) if on_pixels or last else _FLOAT[self.style.precision]

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
            found = exact.astype(self.dtype)
        if not np.isfinite(found).all():
            raise CoreMLError(
                f"{what} holds {np.abs(exact).max():.4g}, which float16 cannot hold.",
                "its largest number is 65504",
                "use the float32 files, or scale that layer down",
            )
        return found

    def number(self, value: float) -> Any:
        return self.dtype.type(value)

    def weight(self, node: Conv | Dense) -> Any:
        """The weights, output channels first: numbers, or int8 with scales."""
        if self.style.precision != "int8":
            return self.array(node.weight, f"the weight of {node.name}")
        values, scales = quantize_weight(node.weight, self.dtype)
        return self.mb.constexpr_affine_dequantize(
            quantized_data=values,
            zero_point=np.int8(0),
            scale=self.array(scales, f"the scale of {node.name}"),
            axis=np.int32(0),
            name=self.unique(f"{node.output}_weight"),
        )

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


def quantize_weight(
    weight: npt.NDArray[np.float32], scale_dtype: npt.DTypeLike
) -> tuple[npt.NDArray[np.int8], npt.NDArray[Any]]:
    """Symmetric int8 per output channel (axis 0): `weight ~ values * scales[channel]`.

    A scale is rounded up to a number of its type before the weights are divided
    by it, so that rounding it costs nothing and no value leaves [-127, 127].

    Returns:
        values int8 of the weight's shape; scales `[out]` of `scale_dtype`.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    wanted = np.abs(rows).max(axis=1) / 127.0
    wanted = np.where(wanted > 0, wanted, 1.0)  # a channel of zeros
    scales = wanted.astype(scale_dtype)
    above = np.nextafter(scales, np.asarray(np.inf, scale_dtype))
    scales = np.where(scales.astype(np.float64) < wanted, above, scales)
    values = np.rint(rows / scales.astype(np.float64)[:, None])
    return values.astype(np.int8).reshape(weight.shape), scales


def _pads(padding: Padding) -> dict[str, Any]:
    """Padding as MIL takes it: top, bottom, left, right."""
    top, left, bottom, right = padding
    if not any(padding):
        return {"pad_type": "valid"}
    return {"pad_type": "custom", "pad": [top, bottom, left, right]}


def _per_channel(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values.reshape(1, -1, 1, 1)


@_emits(Normalize)
def _normalize(node: Normalize, to: Emitter, name: str) -> Var:
    mean = to.array(_per_channel(-node.mean), f"the mean of {node.name}")
    scale = to.array(_per_channel(node.scale), f"the scale of {node.name}")
    centred = to.mb.add(x=to.read(node.inputs[0]), y=mean, name=to.unique(f"{name}_centred"))
    return to.mb.mul(x=centred, y=scale, name=name)


@_emits(BatchNorm)
def _batch_norm(node: BatchNorm, to: Emitter, name: str) -> Var:
    scale = to.array(_per_channel(node.scale), f"the scale of {node.name}")
    shift = to.array(_per_channel(node.shift), f"the shift of {node.name}")
    scaled = to.mb.mul(x=to.read(node.inputs[0]), y=scale, name=to.unique(f"{name}_scaled"))
    return to.mb.add(x=scaled, y=shift, name=name)


@_emits(Conv)
def _conv(node: Conv, to: Emitter, name: str) -> Var:
    return to.fused(
        node,
        name,
        lambda label: to.mb.conv(
            x=to.read(node.inputs[0]),
            weight=to.weight(node),
            bias=to.array(node.bias, f"the bias of {node.name}"),
            strides=list(node.strides),
            dilations=list(node.dilations),
            groups=node.groups,
            name=label,
            **_pads(node.padding),
        ),
    )


@_emits(Dense)
def _dense(node: Dense, to: Emitter, name: str) -> Var:
    return to.fused(
        node,
        name,
        lambda label: to.mb.linear(
            x=to.read(node.inputs[0]),
            weight=to.weight(node),
            bias=to.array(node.bias, f"the bias of {node.name}"),
            name=label,
        ),
    )


def _binary(operator: str) -> Emit:
    def emit(node: Any, to: Emitter, name: str) -> Var:
        x, y = (to.read(source) for source in node.inputs)
        make = getattr(to.mb, operator)
        return to.fused(node, name, lambda label: make(x=x, y=y, name=label))

    return emit


_EMITTERS[Add] = _binary("add")
_EMITTERS[Sub] = _binary("sub")
_EMITTERS[Mul] = _binary("mul")


@_emits(Concat)
def _concat(node: Concat, to: Emitter, name: str) -> Var:
    return to.mb.concat(values=[to.read(n) for n in node.inputs], axis=node.axis, name=name)


@_emits(MaxPool)
def _max_pool(node: MaxPool, to: Emitter, name: str) -> Var:
    return to.mb.max_pool(
        x=to.read(node.inputs[0]),
        kernel_sizes=list(node.kernel),
        strides=list(node.strides),
        name=name,
        **_pads(node.padding),
    )


@_emits(AveragePool)
def _average_pool(node: AveragePool, to: Emitter, name: str) -> Var:
    return to.mb.avg_pool(
        x=to.read(node.inputs[0]),
        kernel_sizes=list(node.kernel),
        strides=list(node.strides),
        exclude_padding_from_average=not node.include_padding,
        name=name,
        **_pads(node.padding),
    )


@_emits(GlobalAveragePool)
def _global_average_pool(node: GlobalAveragePool, to: Emitter, name: str) -> Var:
    x = to.read(node.inputs[0])
    return to.mb.reduce_mean(x=x, axes=[2, 3], keep_dims=node.keep_dims, name=name)


@_emits(Relu)
def _relu(node: Relu, to: Emitter, name: str) -> Var:
    return to.relu(to.read(node.inputs[0]), name)


@_emits(Relu6)
def _relu6(node: Relu6, to: Emitter, name: str) -> Var:
    return to.relu6(to.read(node.inputs[0]), name)


@_emits(Sigmoid)
def _sigmoid(node: Sigmoid, to: Emitter, name: str) -> Var:
    return to.mb.sigmoid(x=to.read(node.inputs[0]), name=name)


def _hard_gate(x: Var, to: Emitter, name: str) -> Var:
    alpha, beta = to.number(1 / 6), to.number(0.5)
    return to.mb.sigmoid_hard(x=x, alpha=alpha, beta=beta, name=name)


@_emits(HardSigmoid)
def _hard_sigmoid(node: HardSigmoid, to: Emitter, name: str) -> Var:
    return _hard_gate(to.read(node.inputs[0]), to, name)


@_emits(HardSwish)
def _hard_swish(node: HardSwish, to: Emitter, name: str) -> Var:
    x = to.read(node.inputs[0])
    return to.mb.mul(x=x, y=_hard_gate(x, to, to.unique(f"{name}_gate")), name=name)


@_emits(Silu)
def _silu(node: Silu, to: Emitter, name: str) -> Var:
    x = to.read(node.inputs[0])
    if not to.style.neural_network:
        return to.mb.silu(x=x, name=name)
    gate = to.mb.sigmoid(x=x, name=to.unique(f"{name}_gate"))
    return to.mb.mul(x=x, y=gate, name=name)


@_emits(Softmax)
def _softmax(node: Softmax, to: Emitter, name: str) -> Var:
    return to.mb.softmax(x=to.read(node.inputs[0]), axis=-1, name=name)


@_emits(Reshape)
def _reshape(node: Reshape, to: Emitter, name: str) -> Var:
    x = to.read(node.inputs[0])
    shape = to.graph.shapes[node.inputs[0]]
    if node.channels_last and len(shape) == 4 and shape[2:] != (1, 1) and shape[1] != 1:
        x = to.mb.transpose(x=x, perm=[0, 2, 3, 1], name=to.unique(f"{name}_nhwc"))
    return to.mb.reshape(x=x, shape=list(to.graph.shapes[node.output]), name=name)


@_emits(Pad)
def _pad(node: Pad, to: Emitter, name: str) -> Var:
    top, left, bottom, right = node.padding
    return to.mb.pad(
        x=to.read(node.inputs[0]),
        pad=[0, 0, 0, 0, top, bottom, left, right],
        mode="constant",
        constant_val=to.number(node.value),
        name=name,
    )
