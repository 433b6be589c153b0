"""One operator a case, with scales and zero points by hand, for the exact simulation and LiteRT.

Each is a graph of one operator, or of two where it reads two tensors. Odd scales have nothing
in common; `ties` are powers of two, or those times one odd number, so that results fall in
the middle between two steps, exactly or but for float32's own rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

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
    Sub,
    Tanh,
)
from exporter.convert.quantize.exact import ExactSimulator
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.targets.tflite.writer import to_bytes
from support import tflite_files

CHANNELS, HEIGHT, WIDTH = 6, 6, 11
Random = np.random.Generator
Case = tuple[Graph, QuantizationPlan]


class Scales:
    """Draws scales and zero points."""

    def __init__(self, random: Random, ties: bool) -> None:
        self.random, self.ties = random, ties

    def affine(self, near: float = 0.05, spread: float = 0.7) -> Affine:
        scale = near * 10 ** self.random.uniform(-spread, spread)
        if self.ties:
            scale = float(2.0 ** np.round(np.log2(scale))) * self.random.choice([1, 1, 3, 1 / 7])
        zero_point = self.random.choice([-128, 127, 0, self.random.integers(-128, 128)])
        return Affine(float(np.float32(scale)), int(zero_point))

    def following(self, product: float, spread: float = 0.7) -> Affine:
        """Of a result, given what one step of its operands is worth."""
        ratio = 10 ** self.random.uniform(-spread, spread)
        if self.ties:
            ratio = float(2.0 ** np.round(np.log2(ratio)))
        return Affine(float(np.float32(product * ratio)), int(self.random.integers(-128, 128)))


def graph_of(nodes: Sequence[Node], source: Affine, **shapes_of: Any) -> Graph:
    """A graph whose input is full-range int8, with the shape `p` or the usual one."""
    shape = shapes_of.pop("p", (1, CHANNELS, HEIGHT, WIDTH))
    constants = shapes_of.pop("constants", {})
    given = GraphInput("p", shape, source.scale, source.zero_point + 128)
    known = {"p": shape, **{node.output: shapes_of.get(node.output, shape) for node in nodes}}
    return Graph(given, nodes[-1].output, tuple(nodes), known, constants)


def differing(case: Case, random: Random, images: int = 2, simulated: Case | None = None) -> int:
    """How many of all integers differ; `simulated` may be another case than LiteRT runs."""
    graph, plan = case
    _, channels, height, width = graph.input.shape
    pixels = list(random.integers(0, 256, (images, height, width, channels), dtype=np.uint8))
    model = to_bytes(graph, tflite_files.CONTRACT, "int8", plan)
    simulator = ExactSimulator(*(simulated or case), threads=1)
    count = 0
    for image, found in zip(pixels, tflite_files.run(model, pixels), strict=True):
        ours = simulator.run(image)[graph.output]
        assert ours.shape == found.shape
        assert ours.dtype == found.dtype == np.float32
        count += int((ours != found).sum())
    return count


def convolution(scales: Scales, large_bias: bool = False, **fields: Any) -> Case:
    random = scales.random
    outputs, kernel = fields.pop("outputs", 5), fields.pop("kernel", (1, 1))
    source, made = scales.affine(), scales.affine()
    weight = random.integers(-127, 128, (outputs, CHANNELS // fields.get("groups", 1), *kernel))
    typical = 73 * 73 * np.sqrt(weight[0].size)  # of a sum of products
    steps = 60 / typical * 10 ** random.uniform(-0.5, 0.5, outputs)
    bias = random.normal(0, typical, outputs)
    if scales.ties:
        weight, steps = weight // 10, 2.0 ** np.round(np.log2(steps * 10))
    if large_bias:
        bias = np.clip(bias * 10 ** random.uniform(0, 5, outputs), -(2**30), 2**30)
    stored = QuantizedWeights(
        weight.astype(np.int8),
        (steps * made.scale / source.scale).astype(np.float32),
        bias.astype(np.int32),
    )
    node = Conv(
        name="n",
        inputs=("p",),
        output="o",
        weight=weight.astype(np.float32),
        bias=np.zeros(outputs, np.float32),
        **fields,
    )
    # 3x3 kernels come with a padding of 1
    graph = graph_of([node], source, o=(1, outputs, HEIGHT, WIDTH))
    return graph, QuantizationPlan({"p": source, "o": made}, {"n": stored})


def dense(scales: Scales, fused: Fused = Fused.NONE) -> Case:
    inputs, outputs = CHANNELS * HEIGHT * WIDTH, 64
    source, made = scales.affine(), scales.affine()
    weight = scales.random.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    step = np.full(outputs, 3e-4)
    if scales.ties:
        weight, step = weight // 20, np.full(outputs, 2.0**-8)
    stored = QuantizedWeights(
        weight,
        (step * made.scale / source.scale).astype(np.float32),
        scales.random.integers(-(2**14), 2**14, outputs).astype(np.int32),
    )
    nodes = [
        Reshape(name="r", inputs=("p",), output="f", channels_last=True),
        Dense(
            name="n",
            inputs=("f",),
            output="o",
            weight=weight.astype(np.float32),
            bias=np.zeros(outputs, np.float32),
            fused=fused,
        ),
    ]
    plan = QuantizationPlan({"p": source, "f": source, "o": made}, {"n": stored})
    return graph_of(nodes, source, f=(1, inputs), o=(1, outputs)), plan


def second_tensor(scales: Scales, source: Affine, made: Affine) -> tuple[Node, QuantizedWeights]:
    """A convolution that gives the input's channels in reverse, in another scale."""
    weight = (np.eye(CHANNELS)[::-1] * 127).reshape(CHANNELS, CHANNELS, 1, 1)
    step = np.full(CHANNELS, 1 / 127 * made.scale / source.scale, np.float32)
    node = Conv(
        name="c",
        inputs=("p",),
        output="q",
        weight=weight.astype(np.float32),
        bias=np.zeros(CHANNELS, np.float32),
    )
    return node, QuantizedWeights(weight.astype(np.int8), step, np.zeros(CHANNELS, np.int32))


def binary(kind: type[Node], scales: Scales, fused: Fused = Fused.NONE) -> Case:
    source = scales.affine()
    other = scales.affine(source.scale, 1.5)
    unit = source.scale * other.scale * 60 if kind is Mul else max(source.scale, other.scale)
    if scales.ties and kind is Mul:
        unit = source.scale * other.scale * 64
    made = scales.following(unit)
    node, stored = second_tensor(scales, source, other)
    operands = ("p", "q") if scales.random.random() < 0.5 else ("q", "p")
    nodes = [node, kind(name="n", inputs=operands, output="o", fused=fused)]  # type: ignore[call-arg]
    plan = QuantizationPlan({"p": source, "q": other, "o": made}, {"c": stored})
    return graph_of(nodes, source), plan


def with_constant(kind: type[Node], scales: Scales, shape: tuple[int, ...]) -> Case:
    random = scales.random
    source = scales.affine()
    other = scales.affine(source.scale)
    unit = source.scale * other.scale * 64 if kind is Mul else max(source.scale, other.scale)
    operands = ("p", "k") if random.random() < 0.5 else ("k", "p")
    levels = random.integers(-128, 128, shape).astype(np.int8)
    plan = QuantizationPlan({"p": source, "o": scales.following(unit)}, {}, {"k": (levels, other)})
    node = kind(name="n", inputs=operands, output="o")
    return graph_of([node], source, constants={"k": np.zeros(shape, np.float32)}), plan


def unary(kind: type[Node], scales: Scales, spread: float = 0.7, **fields: Any) -> Case:
    """An operator with one input; a pool of one pixel follows a sigmoid, which else is float."""
    shape = fields.pop("shape", (1, CHANNELS, HEIGHT, WIDTH))
    same, made = fields.pop("same", False), fields.pop("made", None)
    source = scales.affine()
    wanted = source if same else made or scales.following(source.scale, spread)
    node = kind(name="n", inputs=("p",), output="o", **fields)
    last = MaxPool(name="z", inputs=("o",), output="y", kernel=(1, 1), strides=(1, 1))
    nodes = [node, last] if kind is Sigmoid else [node]
    plan = QuantizationPlan({"p": source, "o": wanted, "y": wanted}, {})
    return graph_of(nodes, source, o=shape), plan


def mean(scales: Scales, height: int, width: int) -> Case:
    """Over a count that leaves ties, where `ties` are wanted, whatever it is."""
    source, keep = scales.affine(), bool(scales.random.integers(2))
    odd = height * width / 2.0 ** np.round(np.log2(height * width))
    made = scales.following(source.scale / odd if scales.ties else source.scale, 1.5)
    node = GlobalAveragePool(name="n", inputs=("p",), output="o", keep_dims=keep)
    shape = (1, 64, 1, 1) if keep else (1, 64)
    graph = graph_of([node], source, p=(1, 64, height, width), o=shape)
    return graph, QuantizationPlan({"p": source, "o": made}, {})


def per_channel(kind: type[Node], scales: Scales) -> Case:
    source = scales.affine()
    one, other = scales.random.normal(size=(2, CHANNELS)).astype(np.float32)
    fields = {"scale": one, ("mean" if kind is Normalize else "shift"): other * 9}
    node = kind(name="n", inputs=("p",), output="o", **fields)
    plan = QuantizationPlan({"p": source, "o": scales.following(source.scale)}, {})
    return graph_of([node], source), plan


def concat(scales: Scales) -> Case:
    source, other = scales.affine(), scales.affine()
    node, stored = second_tensor(scales, source, other)
    made = scales.following(max(source.scale, other.scale))
    nodes = [node, Concat(name="n", inputs=("p", "q", "p"), output="o")]
    plan = QuantizationPlan({"p": source, "q": other, "o": made}, {"c": stored})
    return graph_of(nodes, source, o=(1, 3 * CHANNELS, HEIGHT, WIDTH)), plan


POOLED = (1, CHANNELS, 3, 6)
SAME3 = {"kernel": (3, 3), "padding": (1, 1, 1, 1)}
CASES: dict[str, Callable[[Scales], Case]] = {
    "conv_1x1": lambda s: convolution(s),
    "conv_relu": lambda s: convolution(s, **SAME3, fused=Fused.RELU),
    "conv_relu6": lambda s: convolution(s, **SAME3, fused=Fused.RELU6),
    "conv_grouped": lambda s: convolution(s, outputs=4, groups=2, **SAME3),
    "conv_large_bias": lambda s: convolution(s, large_bias=True, **SAME3),
    "depthwise": lambda s: convolution(s, outputs=6, groups=6, **SAME3),
    "depthwise_multiplier": lambda s: convolution(s, outputs=12, groups=6, **SAME3),
    "depthwise_large_bias": lambda s: convolution(s, outputs=6, groups=6, large_bias=True),
    "dense": dense,
    "dense_relu6": lambda s: dense(s, Fused.RELU6),
    "add": lambda s: binary(Add, s),
    "add_relu6": lambda s: binary(Add, s, Fused.RELU6),
    "sub": lambda s: binary(Sub, s),
    "sub_relu": lambda s: binary(Sub, s, Fused.RELU),
    "mul": lambda s: binary(Mul, s),
    "mul_relu6": lambda s: binary(Mul, s, Fused.RELU6),
    "add_channels": lambda s: with_constant(Add, s, (CHANNELS, 1, 1)),
    "sub_number": lambda s: with_constant(Sub, s, (1,)),
    "mul_columns": lambda s: with_constant(Mul, s, (WIDTH,)),
    "mul_rows": lambda s: with_constant(Mul, s, (1, CHANNELS, HEIGHT, 1)),
    "concat": concat,
    "quantize": lambda s: unary(MaxPool, s, 3.5, kernel=(1, 1), strides=(1, 1)),
    "max_pool": lambda s: unary(
        MaxPool, s, shape=POOLED, same=True, strides=(2, 2), kernel=(3, 3), padding=(1, 1, 1, 1)
    ),
    "average_pool": lambda s: unary(
        AveragePool, s, shape=(1, CHANNELS, 3, 5), same=True, kernel=(2, 2), strides=(2, 2)
    ),
    "average_pool_same": lambda s: unary(AveragePool, s, same=True, strides=(1, 1), **SAME3),
    "average_pool_included": lambda s: unary(
        AveragePool, s, same=True, strides=(1, 1), include_padding=True, **SAME3
    ),
    "mean": lambda s: mean(s, 4, 8),
    "mean_7x7": lambda s: mean(s, 7, 7),
    "pad": lambda s: unary(Pad, s, same=True, padding=(1, 0, 2, 3), shape=(1, 6, 9, 14)),
    "reshape": lambda s: unary(Reshape, s, shape=(1, 396), same=True, channels_last=True),
    "relu": lambda s: unary(Relu, s, 1.5),
    "relu6": lambda s: unary(Relu6, s, 1.5),
    "sigmoid": lambda s: unary(Sigmoid, s, made=Affine(1 / 256, -128)),
    "sigmoid_rescaled": lambda s: unary(Sigmoid, s, made=Affine(1 / 300, -100)),
    "tanh": lambda s: unary(Tanh, s, made=Affine(1 / 128, 0)),
    "tanh_rescaled": lambda s: unary(Tanh, s, made=Affine(1 / 100, 5)),
    "slice_channels": lambda s: unary(
        Slice, s, same=True, axis=1, start=1, stop=4, shape=(1, 3, HEIGHT, WIDTH)
    ),
    "slice_rows": lambda s: unary(
        Slice, s, axis=2, start=2, stop=HEIGHT, shape=(1, CHANNELS, HEIGHT - 2, WIDTH)
    ),
    "shuffle": lambda s: unary(ChannelShuffle, s, same=True, groups=3),
    "hard_swish": lambda s: unary(HardSwish, s),
    "silu": lambda s: unary(Silu, s),
    "hard_sigmoid": lambda s: unary(HardSigmoid, s, made=Affine(1 / 255, -128)),
    "normalize": lambda s: per_channel(Normalize, s),
    "batch_norm": lambda s: per_channel(BatchNorm, s),
}


def beyond_float32() -> Case:
    """Sums of products up to 2^27 that the bias brings back to a few hundred."""
    channels, source, made = 4096, Affine(0.05, -128), Affine(1.0, 3)
    random = np.random.default_rng(4)
    weight = random.integers(100, 128, (8, channels, 1, 1)).astype(np.int8)
    bias = -(weight.astype(np.int64).sum(axis=(1, 2, 3)) * 127.5).astype(np.int32)
    stored = QuantizedWeights(weight, np.full(8, 20 / 2**11, np.float32), bias)
    node = Conv(
        name="n",
        inputs=("p",),
        output="o",
        weight=weight.astype(np.float32),
        bias=np.zeros(8, np.float32),
    )
    graph = graph_of([node], source, p=(1, channels, 4, 4), o=(1, 8, 4, 4))
    return graph, QuantizationPlan({"p": source, "o": made}, {"n": stored})


def capped(kind: type[Node], made: Affine) -> Case:
    """A fused or single RELU6 of values that reach the cap."""
    source = Affine(1.0, -128)
    stored = QuantizedWeights(
        np.full((CHANNELS, 1, 1, 1), 127, np.int8),
        np.full(CHANNELS, made.scale, np.float32),
        np.zeros(CHANNELS, np.int32),
    )
    weights, constants, fields = {}, {}, {"inputs": ("p",), "fused": Fused.RELU6}
    if kind is Conv:
        weight, bias = stored.values.astype(np.float32), np.zeros(CHANNELS, np.float32)
        fields |= {"weight": weight, "bias": bias, "groups": CHANNELS}
        weights = {"n": stored}
    elif kind is Relu6:
        del fields["fused"]
    else:
        fields["inputs"] = ("p", "k")
        constants = {"k": (np.array([127], np.int8), Affine(1.0, 0))}
    plan = QuantizationPlan({"p": source, "o": made}, weights, constants)
    floats = {name: np.zeros(1, np.float32) for name in constants}
    return graph_of([kind(name="n", output="o", **fields)], source, constants=floats), plan
