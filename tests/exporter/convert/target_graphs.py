"""Tiny graphs, one for each thing that a target has to get right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from exporter.convert.evaluate import to_onnx_model
from exporter.convert.graph import (
    Add,
    AveragePool,
    BatchNorm,
    ChannelShuffle,
    Concat,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    GraphInput,
    HardSigmoid,
    HardSwish,
    LocalResponseNorm,
    MaxPool,
    Mul,
    Node,
    Normalize,
    Pad,
    Relu,
    Relu6,
    Reshape,
    Sigmoid,
    Silu,
    Slice,
    Softmax,
    Sub,
    Tanh,
)
from models.contract import Contract, Label, Preprocessing

CLASSES = 5


class Sketch:
    """Nodes one after another; shapes are inferred by onnx when the graph is taken."""

    def __init__(self, height: int = 9, width: int = 11, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.input = GraphInput("image", (1, 3, height, width))
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.last = "image"

    def numbers(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def add(self, kind: type[Any], *inputs: str, **options: Any) -> str:
        name = f"/{kind.__name__.lower()}/{len(self.nodes)}"
        sources = inputs or (self.last,)
        self.nodes.append(kind(name=name, inputs=sources, output=name + ":0", **options))
        self.last = name + ":0"
        return self.last

    def normalize(self) -> str:
        mean = np.float32([123.675, 116.28, 103.53])
        return self.add(Normalize, mean=mean, scale=np.float32([1 / 58.4, 1 / 57.1, 1 / 57.4]))

    def conv(self, out: int, inputs: int, kh: int = 1, kw: int = 1, **options: Any) -> str:
        fan_in = inputs // options.get("groups", 1) * kh * kw
        weight = self.numbers(out, inputs // options.get("groups", 1), kh, kw, scale=fan_in**-0.5)
        return self.add(Conv, weight=weight, bias=self.numbers(out, scale=0.3), **options)

    def constant(self, value: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph().shapes[name]

    def graph(self) -> Graph:
        dummy = dict.fromkeys((n.output for n in self.nodes), (1,))
        graph = Graph(
            self.input,
            self.last,
            tuple(self.nodes),
            {self.input.name: self.input.shape, **dummy},
            self.constants,
        )
        model = onnx.shape_inference.infer_shapes(
            to_onnx_model(graph, ()), strict_mode=True, data_prop=True
        )
        shapes = {
            info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
            for info in model.graph.value_info
        }
        known = {name: shapes[name] for name in dummy}
        return replace(graph, shapes={self.input.name: self.input.shape, **known})

    def classify(self, activation: type[Node] = Softmax) -> Graph:
        """Flatten, a Dense whose logits spread over a few units, and the final activation."""
        shape = self.shape(self.last)
        if len(shape) == 4:
            self.add(Reshape)
        features = int(np.prod(shape))
        weight = self.numbers(CLASSES, features, scale=2 * features**-0.5)
        self.add(Dense, weight=weight, bias=self.numbers(CLASSES))
        self.add(activation)
        return self.graph()


Case = Callable[[Sketch], object]
CASES: dict[str, Case] = {}


def _case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def _conv_case(name: str, **settings: Any) -> None:
    def draw(s: Sketch) -> None:
        options = dict(settings)
        channels = options.pop("channels", 4)
        s.conv(channels, 3)
        s.conv(options.pop("out", 6), channels, options.pop("kh", 3), options.pop("kw", 3),
               **options)  # fmt: skip

    CASES[name] = draw


_conv_case("conv_same", padding=(1, 1, 1, 1), fused=Fused.RELU6)
_conv_case("conv_pointwise", kh=1, kw=1, fused=Fused.RELU)
_conv_case("conv_stride_2_same", strides=(2, 2), padding=(1, 1, 1, 1))
_conv_case("conv_uneven", kw=5, strides=(2, 1), padding=(2, 1, 0, 3))
_conv_case("conv_even_kernel", kh=4, kw=2, strides=(3, 2), padding=(1, 0, 2, 1))
_conv_case("conv_dilated", padding=(2, 1, 2, 1), dilations=(2, 1))
_conv_case("conv_dilated_strided", strides=(2, 2), padding=(2, 2, 2, 2), dilations=(2, 2))
_conv_case("conv_grouped", groups=2, padding=(1, 1, 1, 1))
_conv_case("depthwise", out=4, groups=4, padding=(1, 1, 1, 1), fused=Fused.RELU6)
_conv_case("depthwise_stride_2", out=4, groups=4, strides=(2, 2), padding=(1, 1, 1, 1))
_conv_case("depthwise_multiplier", out=8, groups=4, kh=5, padding=(2, 1, 2, 1))
_conv_case("depthwise_dilated", out=4, groups=4, padding=(2, 2, 2, 2), dilations=(2, 2))
_conv_case("depthwise_dilated_strided", out=4, groups=4, strides=(2, 2), padding=(2, 2, 2, 2),
           dilations=(2, 2))  # fmt: skip
_conv_case("depthwise_uneven_strides", out=4, groups=4, strides=(1, 2), padding=(1, 1, 1, 1))


@_case
def batch_norm(s: Sketch) -> None:
    s.conv(4, 3)
    s.add(BatchNorm, scale=s.numbers(4), shift=s.numbers(4))


@_case
def residual(s: Sketch) -> None:
    x = s.conv(3, 3, 3, 3, padding=(1, 1, 1, 1))
    s.add(Add, x, s.conv(3, 3), fused=Fused.RELU)


@_case
def add_channels(s: Sketch) -> None:
    s.add(Add, s.conv(4, 3), s.constant(s.numbers(4, 1, 1)))


@_case
def subtract_from_number(s: Sketch) -> None:
    x = s.conv(4, 3)
    s.add(Sub, s.constant(0.5), x, fused=Fused.RELU6)


@_case
def subtract_constant(s: Sketch) -> None:
    x = s.conv(4, 3)
    s.add(Sub, x, s.constant(s.numbers(1, 4, 9, 1)))


@_case
def subtract_gate(s: Sketch) -> None:
    x = s.conv(4, 3)
    s.add(GlobalAveragePool)
    s.add(Sub, s.last, x)


@_case
def multiply_columns(s: Sketch) -> None:
    x = s.conv(4, 3)
    s.add(Mul, s.constant(s.numbers(11)), x)


@_case
def squeeze_excite(s: Sketch) -> None:
    x = s.conv(4, 3)
    s.add(GlobalAveragePool)
    s.conv(2, 4, fused=Fused.RELU)
    s.conv(4, 2)
    s.add(HardSigmoid)
    s.add(Mul, x, s.last)


@_case
def concat_channels(s: Sketch) -> None:
    x, y = s.conv(2, 3), s.conv(3, 2)
    s.add(Concat, x, y, x)


@_case
def concat_rows(s: Sketch) -> None:
    x, y = s.conv(3, 3), s.conv(3, 3)
    s.add(Concat, x, y, axis=2)


@_case
def concat_features(s: Sketch) -> None:
    s.conv(4, 3)
    x = s.add(GlobalAveragePool, keep_dims=False)
    y = s.add(Dense, weight=s.numbers(3, 4), bias=s.numbers(3), fused=Fused.RELU)
    s.add(Concat, x, y, axis=1)


def _pool_case(name: str, kind: type[Node], **options: Any) -> None:
    def draw(s: Sketch) -> None:
        s.conv(3, 3)
        s.add(kind, **{"kernel": (3, 3), **options})

    CASES[name] = draw


_pool_case("max_pool", MaxPool, kernel=(2, 2), strides=(2, 2))
_pool_case("max_pool_padded", MaxPool, strides=(2, 2), padding=(1, 1, 1, 1))
_pool_case("max_pool_uneven", MaxPool, kernel=(3, 2), strides=(1, 2), padding=(2, 1, 0, 0))
_pool_case("average_pool", AveragePool, strides=(2, 1))
_pool_case("average_pool_same", AveragePool, strides=(1, 1), padding=(1, 1, 1, 1))
_pool_case("average_pool_included", AveragePool, strides=(2, 2), padding=(1, 1, 1, 1),
           include_padding=True)  # fmt: skip
_pool_case("average_pool_uneven", AveragePool, strides=(2, 3), padding=(2, 1, 0, 1))
CASES["global_average_pool"] = lambda s: (s.conv(6, 3), s.add(GlobalAveragePool))


def _unary_case(kind: type[Node]) -> None:
    def draw(s: Sketch) -> None:
        weight = s.numbers(4, 3, 1, 1, scale=4)
        s.add(Conv, weight=weight, bias=s.numbers(4))
        s.add(kind)

    CASES[kind.__name__.lower()] = draw


for _kind in (Relu, Relu6, Sigmoid, HardSigmoid, HardSwish, Silu):
    _unary_case(_kind)


@_case
def padded_with_value(s: Sketch) -> None:
    s.conv(3, 3)
    s.add(Pad, padding=(1, 0, 2, 3), value=-0.75)


@_case
def flattened_channels_last(s: Sketch) -> None:
    s.conv(4, 3)
    s.add(Reshape, channels_last=True)


ZOO_CASES: dict[str, Case] = {}  # what networks besides MobileNetV2 need, for the file writers


def _zoo_case(name: str, kind: type[Node], channels: int = 6, **options: Any) -> None:
    def draw(s: Sketch) -> None:
        weight = s.numbers(channels, 3, 1, 1, scale=2)
        s.add(Conv, weight=weight, bias=s.numbers(channels))
        s.add(kind, **options)

    ZOO_CASES[name] = draw


_zoo_case("tanh", Tanh)
_zoo_case("local_response", LocalResponseNorm, size=5, alpha=0.9, beta=0.6, bias=1.5)
_zoo_case("local_response_wide", LocalResponseNorm, size=9, alpha=2.0, channels=3)
_zoo_case("slice_channels", Slice, axis=1, start=1, stop=4)
_zoo_case("slice_rows", Slice, axis=2, start=2, stop=7)
_zoo_case("slice_columns", Slice, axis=-1, start=0, stop=6)
_zoo_case("channel_shuffle", ChannelShuffle, groups=2)
_zoo_case("channel_shuffle_3", ChannelShuffle, groups=3)
_zoo_case("max_pool_ceil", MaxPool, kernel=(3, 3), strides=(2, 2), padding=(0, 0, 1, 1))
_zoo_case("average_pool_ceil", AveragePool, kernel=(3, 3), strides=(2, 2), padding=(1, 1, 2, 2))


def _conv_grouped_wide(s: Sketch) -> None:
    s.conv(16, 3)
    s.conv(24, 16, 3, 3, groups=8, padding=(1, 1, 1, 1), strides=(2, 2), fused=Fused.RELU)


def _slice_features(s: Sketch) -> None:
    s.conv(7, 3)
    s.add(GlobalAveragePool, keep_dims=False)
    s.add(Slice, axis=1, start=2, stop=6)


def _shuffle_unit(s: Sketch) -> None:
    """Halves of the channels, one of them convolved, joined again and shuffled."""
    whole = s.conv(8, 3)
    left = s.add(Slice, whole, axis=1, start=0, stop=4)
    s.add(Slice, whole, axis=1, start=4, stop=8)
    right = s.conv(4, 4, 3, 3, padding=(1, 1, 1, 1), groups=4)
    s.add(Concat, left, right)
    s.add(ChannelShuffle, groups=2)


def _excite_swish(s: Sketch) -> None:
    x = s.conv(4, 3)
    x = s.add(Silu)
    s.add(GlobalAveragePool)
    s.conv(2, 4)
    s.add(Silu)
    s.conv(4, 2)
    s.add(Sigmoid)
    s.add(Mul, s.last, x)
    s.add(HardSwish)


ZOO_CASES |= {
    "conv_grouped_wide": _conv_grouped_wide,
    "slice_features": _slice_features,
    "shuffle_unit": _shuffle_unit,
    "excite_swish": _excite_swish,
}


def make(name: str, height: int = 9, width: int = 11) -> Sketch:
    """A case behind the usual normalization, ready for `graph()` or `classify()`."""
    sketch = Sketch(height, width)
    sketch.normalize()
    (CASES | ZOO_CASES)[name](sketch)
    return sketch


def small_contract(height: int = 9, width: int = 11, **options: Any) -> Contract:
    labels = tuple(
        Label(name) for name in ("adder", "boa", "grass snake", "Äskulapnatter", "no snake")
    )
    rule = Preprocessing(height, width, resize_shorter_side=max(height, width))
    return Contract(labels=labels, preprocessing=rule, name="tiny", **options)


def some_pixels(height: int = 9, width: int = 11, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
