"""From the graph's nodes to MIL operators: one function a node kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import (
    Add,
    AveragePool,
    BatchNorm,
    ChannelShuffle,
    Concat,
    Conv,
    Dense,
    GlobalAveragePool,
    HardSigmoid,
    HardSwish,
    LocalResponseNorm,
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
    Slice,
    Softmax,
    Sub,
    Tanh,
)
from exporter.convert.targets.coreml.emitter import EMITTERS, Emit, Emitter, Var


def _emits(kind: type[Node]) -> Callable[[Emit], Emit]:
    def register(function: Emit) -> Emit:
        EMITTERS[kind] = function
        return function

    return register


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


EMITTERS[Add] = _binary("add")
EMITTERS[Sub] = _binary("sub")
EMITTERS[Mul] = _binary("mul")


@_emits(Concat)
def _concat(node: Concat, to: Emitter, name: str) -> Var:
    return to.mb.concat(values=[to.read(n) for n in node.inputs], axis=node.axis, name=name)


@_emits(Slice)
def _slice(node: Slice, to: Emitter, name: str) -> Var:
    """`slice_by_index`; the axes that stay whole are masked and not counted out."""
    x, shape = to.read(node.inputs[0]), to.graph.shapes[node.inputs[0]]
    axis = node.axis % len(shape)
    stop = min(node.stop, shape[axis])
    whole = [i != axis for i in range(len(shape))]
    return to.mb.slice_by_index(
        x=x,
        begin=[0 if masked else node.start for masked in whole],
        end=[0 if masked else stop for masked in whole],
        begin_mask=whole,
        end_mask=whole,
        name=name,
    )


@_emits(ChannelShuffle)
def _channel_shuffle(node: ChannelShuffle, to: Emitter, name: str) -> Var:
    """With height and width as one axis, so that no tensor has more than four."""
    _, channels, height, width = shape = to.graph.shapes[node.inputs[0]]
    split = [1, node.groups, channels // node.groups, height * width]
    x = to.mb.reshape(x=to.read(node.inputs[0]), shape=split, name=to.unique(f"{name}_groups"))
    x = to.mb.transpose(x=x, perm=[0, 2, 1, 3], name=to.unique(f"{name}_shuffled"))
    return to.mb.reshape(x=x, shape=list(shape), name=name)


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


@_emits(Tanh)
def _tanh(node: Tanh, to: Emitter, name: str) -> Var:
    return to.mb.tanh(x=to.read(node.inputs[0]), name=name)


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


@_emits(LocalResponseNorm)
def _local_response_norm(node: LocalResponseNorm, to: Emitter, name: str) -> Var:
    """`local_response_norm`, whose alpha is divided by the size as the node's is."""
    return to.mb.local_response_norm(
        x=to.read(node.inputs[0]),
        size=node.size,
        alpha=to.number(node.alpha),
        beta=to.number(node.beta),
        k=to.number(node.bias),
        name=name,
    )


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
