"""Tiny nets for each node kind, over odd sizes, strides, paddings and dilations.

A case is a name, the pixels' (channels, height, width) and the nodes to add.
`steps` is how far int8 may be from float, in steps of the output's scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.convert.graph import (
    Add,
    AveragePool,
    BatchNorm,
    ChannelShuffle,
    Concat,
    Fused,
    GlobalAveragePool,
    HardSigmoid,
    HardSwish,
    LocalResponseNorm,
    MaxPool,
    Mul,
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
from support.tflite_files import Net


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, int, int]
    build: Callable[[Net], object]
    steps: float = 1.01

    def net(self) -> Net:
        net = Net(*self.shape)
        self.build(net)
        return net


def conv(name: str, shape: tuple[int, int, int], kernel: tuple[int, int], **fields: Any) -> Case:
    outputs = fields.pop("outputs", 5)
    return Case(f"conv {name}", shape, lambda net: net.conv("pixels", outputs, kernel, **fields))


def pool(kind: Any, name: str, shape: tuple[int, int, int], **fields: Any) -> Case:
    return Case(f"{kind.__name__} {name}", shape, lambda net: net.add(kind, **fields))


def one(kind: Any, steps: float = 1.01, **fields: Any) -> Case:
    return Case(kind.__name__, (4, 5, 3), lambda net: net.add(kind, **fields), steps)


def with_constant(kind: Any, name: str, shape: tuple[int, ...], **fields: Any) -> Case:
    def build(net: Net) -> None:
        net.add(kind, "pixels", net.constant("given", net.values(*shape)), **fields)

    return Case(f"{kind.__name__} constant {name}", (4, 5, 3), build, 2.01)


def with_branch(kind: Any, fused: Fused) -> Case:
    def build(net: Net) -> None:
        net.add(kind, "pixels", net.conv("pixels", 4), fused=fused)

    return Case(f"{kind.__name__} two tensors {fused}", (4, 5, 3), build, 4.01)


CONVOLUTIONS = [
    conv("1x1", (3, 5, 7), (1, 1)),
    conv("3x3 as SAME", (3, 7, 9), (3, 3), padding=(1, 1, 1, 1), fused=Fused.RELU),
    conv("stride 2 odd is SAME", (3, 7, 9), (3, 3), padding=(1, 1, 1, 1), strides=(2, 2)),
    conv("stride 2 even needs PAD", (3, 8, 10), (3, 3), padding=(1, 1, 1, 1), strides=(2, 2),
         fused=Fused.RELU6),
    conv("stride 2 odd by even", (3, 7, 10), (3, 3), padding=(1, 1, 1, 1), strides=(2, 2)),
    conv("stride 2 padded as TF does", (3, 8, 10), (3, 3), padding=(0, 0, 1, 1), strides=(2, 2)),
    conv("no padding, rows left over", (3, 8, 9), (3, 2), strides=(2, 3)),
    conv("5x5 stride 3", (3, 11, 8), (5, 5), padding=(2, 2, 2, 2), strides=(3, 3)),
    conv("even kernel", (3, 6, 7), (2, 4), padding=(1, 0, 0, 3)),
    conv("far padding that nothing reaches", (3, 6, 6), (1, 1), padding=(0, 0, 1, 1),
         strides=(2, 2)),
    conv("flat kernel", (2, 5, 9), (1, 7), padding=(0, 3, 0, 3)),
    conv("dilated", (3, 9, 8), (3, 3), padding=(2, 2, 2, 2), dilations=(2, 2)),
    conv("dilated unevenly, PAD", (3, 11, 12), (3, 3), padding=(1, 3, 1, 1), dilations=(3, 2)),
    conv("one channel", (1, 6, 5), (3, 3), padding=(1, 1, 1, 1)),
    conv("depthwise", (6, 7, 6), (3, 3), padding=(1, 1, 1, 1), groups=6, outputs=6,
         fused=Fused.RELU6),
    conv("depthwise stride 2, PAD", (6, 8, 6), (3, 3), padding=(1, 1, 1, 1), strides=(2, 2),
         groups=6, outputs=6),
    conv("depthwise times 2, dilated", (3, 9, 9), (3, 3), padding=(2, 2, 2, 2),
         dilations=(2, 2), groups=3, outputs=6),
    conv("grouped", (6, 5, 7), (3, 3), padding=(1, 1, 1, 1), groups=2, outputs=4),
    conv("grouped, PAD", (4, 6, 6), (3, 3), padding=(1, 1, 1, 1), strides=(2, 2), groups=2,
         outputs=6),
]  # fmt: skip

SAME3 = {"kernel": (3, 3), "strides": (1, 1), "padding": (1, 1, 1, 1)}
POOLS = [
    pool(MaxPool, "valid", (4, 7, 8), kernel=(2, 3), strides=(2, 2)),
    pool(MaxPool, "SAME", (4, 7, 9), **SAME3),
    pool(MaxPool, "PADV2", (4, 8, 8), kernel=(3, 3), strides=(2, 2), padding=(1, 1, 1, 1)),
    Case("MaxPool after ReLU, PAD", (4, 8, 8), lambda net: net.add(
        MaxPool, net.conv("pixels", 4, fused=Fused.RELU),
        kernel=(3, 3), strides=(2, 2), padding=(1, 1, 1, 1)), 2.01),
    pool(AveragePool, "valid", (4, 7, 8), kernel=(2, 3), strides=(2, 2)),
    pool(AveragePool, "SAME", (4, 6, 9), **SAME3),
    pool(AveragePool, "counts its padding", (4, 6, 9), include_padding=True, **SAME3),
    pool(AveragePool, "counts its padding, stride 2", (4, 8, 7), kernel=(3, 3), strides=(2, 2),
         padding=(1, 1, 1, 1), include_padding=True),
    pool(GlobalAveragePool, "kept", (5, 6, 7)),
    pool(GlobalAveragePool, "flat", (5, 6, 7), keep_dims=False),
]  # fmt: skip


def _concat(axis: int) -> Case:
    def build(net: Net) -> None:
        net.add(Concat, "pixels", net.conv("pixels", 4), net.add(Relu), axis=axis)

    return Case(f"Concat {axis}", (4, 5, 3), build, 2.01)


def _flat_dense(net: Net) -> None:
    net.dense(net.add(GlobalAveragePool, keep_dims=False), 7, fused=Fused.RELU)


def _reshape_dense(net: Net) -> None:
    net.dense(net.add(Reshape, channels_last=True), 7)


def _ends_in_softmax(net: Net) -> None:
    net.add(Softmax, net.dense(net.add(GlobalAveragePool, keep_dims=False), 7))


def _ends_in_sigmoid(net: Net) -> None:
    net.add(Sigmoid, net.dense(net.add(GlobalAveragePool, keep_dims=False), 7))


def _sigmoid_inside(net: Net) -> None:
    net.add(MaxPool, net.add(Sigmoid), kernel=(1, 1), strides=(1, 1))


def _gate(net: Net) -> None:
    net.add(Mul, "pixels", net.add(HardSigmoid, net.add(GlobalAveragePool)))


CHANNELS = np.array([2.0, -0.5, 1e-3, 0.0], np.float32)
SHIFTS = np.array([-1.0, 0.25, 3.0, 0.75], np.float32)
OTHERS = [
    Case("Dense", (9, 5, 4), _flat_dense, 2.01),
    Case("Reshape and Dense", (4, 3, 2), _reshape_dense),
    Case("Reshape of one pixel", (6, 1, 1), lambda net: net.add(Reshape)),
    *(with_branch(kind, fused) for kind in (Add, Sub, Mul) for fused in Fused),
    *(with_constant(kind, "per channel", (4, 1, 1)) for kind in (Add, Sub, Mul)),
    with_constant(Add, "scalar", (1,)),
    with_constant(Mul, "whole image", (1, 4, 5, 3)),
    with_constant(Sub, "per row", (5, 1)),
    Case("Sub constant first", (4, 5, 3), lambda net: net.add(
        Sub, net.constant("given", net.values(4, 1, 1)), "pixels"), 2.01),
    *(_concat(axis) for axis in (1, 2, -1)),
    one(Relu), one(Relu6), Case("Sigmoid", (4, 5, 3), _sigmoid_inside, 1.3),
    Case("Sigmoid last", (4, 5, 3), lambda net: net.add(Sigmoid)),
    one(HardSigmoid, 2.5), one(HardSwish, 2.01), one(Silu, 3.01),
    one(BatchNorm, scale=CHANNELS, shift=SHIFTS),
    one(Normalize, mean=SHIFTS, scale=np.abs(CHANNELS)),
    Case("Pad", (4, 5, 3), lambda net: net.add(Pad, padding=(1, 0, 2, 3))),
    Case("Pad with a value", (4, 5, 3), lambda net: net.add(Pad, padding=(0, 2, 1, 0), value=1.5)),
    Case("squeeze and gate", (4, 5, 3), _gate, 4.01),
    Case("ends in Softmax", (6, 5, 4), _ends_in_softmax),
    Case("ends in Sigmoid", (6, 5, 4), _ends_in_sigmoid),
]  # fmt: skip


def _lrn(channels: int, size: int, **fields: float) -> Case:
    """Of a ReLU, as AlexNet has it."""

    def build(net: Net) -> None:
        net.add(LocalResponseNorm, net.add(Relu), size=size, **fields)

    return Case(f"LocalResponseNorm {size} of {channels}", (channels, 5, 3), build, 2.01)


def _slice(axis: int, start: int, stop: int) -> Case:
    def build(net: Net) -> None:
        net.add(Slice, axis=axis, start=start, stop=stop)

    return Case(f"Slice {axis} {start}:{stop}", (6, 5, 7), build)


def _shuffle(channels: int, groups: int) -> Case:
    name = f"ChannelShuffle {channels} by {groups}"
    return Case(name, (channels, 5, 3), lambda net: net.add(ChannelShuffle, groups=groups))


def _slice_flat(net: Net) -> None:
    net.add(Slice, net.add(GlobalAveragePool, keep_dims=False), axis=1, start=2, stop=5)


def _shuffled_unit(net: Net) -> None:
    """As in ShuffleNetV2: halves, one convolved, together again and shuffled."""
    kept = net.add(Slice, axis=1, start=0, stop=3)
    given = net.add(Slice, "pixels", axis=1, start=3, stop=6)
    net.add(Concat, kept, net.conv(given, 3, fused=Fused.RELU))
    net.add(ChannelShuffle, net.nodes[-1].output, groups=2)


MOVES = [
    *(_slice(*each) for each in ((1, 2, 5), (1, 0, 1), (2, 1, 4), (3, 3, 7))),
    Case("Slice flat", (6, 5, 7), _slice_flat, 2.01),
    *(_shuffle(*each) for each in ((6, 2), (6, 3), (4, 4), (9, 3))),
    Case("ShuffleNetV2 unit", (6, 5, 7), _shuffled_unit, 3.01),
]
NORMS = [
    _lrn(7, 5, alpha=0.3, beta=0.75, bias=2.0),
    _lrn(3, 5, alpha=1.0, beta=0.5),
    _lrn(6, 1, alpha=0.7, beta=1.0, bias=2.0),
    Case("Tanh", (4, 5, 3), lambda net: net.add(Tanh), 1.3),
    Case("Tanh of larger values", (4, 5, 3), lambda net: net.add(
        Tanh, net.add(Mul, "pixels", net.constant("given", np.full((1,), 3.0)))), 4.01),
]  # fmt: skip
ALL = CONVOLUTIONS + POOLS + OTHERS + MOVES + NORMS
