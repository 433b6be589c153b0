"""What each node kind computes, in torch: float32, NCHW, any batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

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


def run_node(
    node: Node, sources: Sequence[Tensor], weights: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """The result of one node before its fused activation.

    Args:
        sources: what it reads, float32, NCHW or `[N, features]`; constants as they are.
        weights: those of a Conv or Dense with its bias; None for any other kind.
    """
    if isinstance(node, Conv):
        assert weights is not None
        return _conv(node, sources[0], *weights)
    if isinstance(node, Dense):
        assert weights is not None
        return functional.linear(sources[0], *weights)
    return _KINDS[type(node)](node, *sources)


def activate(values: Tensor, fused: Fused) -> Tensor:
    """The fused activation."""
    if fused is Fused.RELU:
        return functional.relu(values)
    return values.clamp(0.0, 6.0) if fused is Fused.RELU6 else values


def fused_of(node: Node) -> Fused:
    """The activation fused into a node."""
    return node.fused if isinstance(node, Conv | Dense | Add | Sub | Mul) else Fused.NONE


def to_tensors(constants: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Tensor]:
    """Constants as tensors, copied."""
    return {name: torch.from_numpy(np.array(value)) for name, value in constants.items()}


def _conv(node: Conv, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    top, left, bottom, right = node.padding
    padding = (top, left)
    if (top, left) != (bottom, right):
        values, padding = _padded(values, node.padding), (0, 0)
    return functional.conv2d(
        values, weight, bias, node.strides, padding, node.dilations, node.groups
    )


def _padded(values: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    top, left, bottom, right = padding
    return functional.pad(values, (left, right, top, bottom), value=value)


def _max_pool(node: MaxPool, values: Tensor) -> Tensor:
    padded = _padded(values, node.padding, float("-inf"))
    return functional.max_pool2d(padded, node.kernel, node.strides)


def _average_pool(node: AveragePool, values: Tensor) -> Tensor:
    pooled = functional.avg_pool2d(_padded(values, node.padding), node.kernel, node.strides)
    if node.include_padding or not any(node.padding):
        return pooled
    counted = _padded(torch.ones_like(values[:1, :1]), node.padding)
    return pooled / functional.avg_pool2d(counted, node.kernel, node.strides)


def _reshape(node: Reshape, values: Tensor) -> Tensor:
    if node.channels_last and values.dim() == 4:
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)


def _per_channel(values: npt.NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(values)).reshape(1, -1, 1, 1)


_KINDS: dict[type[Node], Callable[..., Any]] = {
    Normalize: lambda n, x: (x - _per_channel(n.mean)) * _per_channel(n.scale),
    BatchNorm: lambda n, x: x * _per_channel(n.scale) + _per_channel(n.shift),
    Add: lambda _, x, y: x + y,
    Sub: lambda _, x, y: x - y,
    Mul: lambda _, x, y: x * y,
    LocalResponseNorm: lambda n, x: functional.local_response_norm(
        x, n.size, n.alpha, n.beta, n.bias
    ),
    Slice: lambda n, x: x.narrow(n.axis, n.start, n.stop - n.start),
    ChannelShuffle: lambda n, x: functional.channel_shuffle(x, n.groups),
    Concat: lambda n, *parts: torch.cat(parts, n.axis),
    MaxPool: _max_pool,
    AveragePool: _average_pool,
    GlobalAveragePool: lambda n, x: x.mean((2, 3), keepdim=n.keep_dims),
    Relu: lambda _, x: functional.relu(x),
    Relu6: lambda _, x: x.clamp(0.0, 6.0),
    Sigmoid: lambda _, x: torch.sigmoid(x),
    Tanh: lambda _, x: torch.tanh(x),
    HardSigmoid: lambda _, x: (x / 6.0 + 0.5).clamp(0.0, 1.0),
    HardSwish: lambda _, x: functional.hardswish(x),
    Silu: lambda _, x: functional.silu(x),
    Softmax: lambda _, x: torch.softmax(x, -1),
    Reshape: _reshape,
    Pad: lambda n, x: _padded(x, n.padding, n.value),
}
