"""The arithmetic of a small convolutional network in numpy: float32, NCHW.

Sums run in float32; what a file's own number format does to a result is applied by
the evaluators afterwards. Convolution is cross-correlation. A depthwise convolution
is a sum of shifted products, computed a few channels at a time so that they stay in
the processor's cache; any other is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Pair = tuple[int, int]
Edges = tuple[Pair, Pair]  # (top, bottom), (left, right)
_CACHE_FLOATS = 1 << 16  # a quarter of a megabyte of accumulators at a time


def same_padding(
    size: Pair, kernel: Pair, strides: Pair, dilations: Pair = (1, 1), *, low: bool = False
) -> Edges:
    """Padding that makes the output `ceil(size / stride)`.

    Args:
        low: put the odd pixel at the top and left; otherwise at the bottom and right.
    """
    edges = []
    for length, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        reach = (taps - 1) * dilation + 1
        total = max(0, (-(-length // stride) - 1) * stride + reach - length)
        small, large = total // 2, total - total // 2
        edges.append((large, small) if low else (small, large))
    return edges[0], edges[1]


def pad_plane(x: Array, edges: Edges, value: float = 0.0) -> Array:
    """`x` with constant borders on its last two axes (no copy when there are none)."""
    if not any(edges[0] + edges[1]):
        return x
    (top, bottom), (left, right) = edges
    *front, height, width = x.shape
    padded = np.full((*front, height + top + bottom, width + left + right), value, np.float32)
    padded[..., top : top + height, left : left + width] = x
    return padded


def _taps(
    kernel: Pair, strides: Pair, dilations: Pair, out: Pair
) -> Iterator[tuple[int, int, slice, slice]]:
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilations[0], j * dilations[1]
            rows = slice(top, top + (out[0] - 1) * strides[0] + 1, strides[0])
            columns = slice(left, left + (out[1] - 1) * strides[1] + 1, strides[1])
            yield i, j, rows, columns


def _out_size(size: Sequence[int], kernel: Pair, strides: Pair, dilations: Pair) -> Pair:
    found = [
        (length - (taps - 1) * dilation - 1) // stride + 1
        for length, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True)
    ]
    if min(found) < 1:
        raise ValueError(f"a kernel of {kernel} does not fit into {tuple(size)}")
    return found[0], found[1]


class Convolution:
    """2-D convolution with its weights prepared once.

    Args:
        weight: `[out, in / groups, kh, kw]`.
        bias: `[out]` or None.
        edges: zero padding.

    Raises:
        ValueError: sizes do not fit together.
    """

    def __init__(
        self, weight: Array, bias: Array | None, strides: Pair, dilations: Pair,
        edges: Edges, groups: int,
    ) -> None:  # fmt: skip
        if weight.ndim != 4 or groups < 1 or weight.shape[0] % groups:
            raise ValueError(f"weight {weight.shape} in {groups} groups")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"bias {bias.shape} for {weight.shape[0]} output channels")
        if min(strides + dilations) < 1:
            raise ValueError(f"strides {strides}, dilations {dilations}")
        self.kernel: Pair = (weight.shape[2], weight.shape[3])
        self.strides, self.dilations, self.edges, self.groups = strides, dilations, edges, groups
        self.channels = weight.shape[1] * groups
        self.out = weight.shape[0]
        self.depthwise = weight.shape[1] == 1 and groups > 1
        self.weight = np.ascontiguousarray(weight, dtype=np.float32)
        self.bias = None if bias is None else bias.reshape(-1, 1, 1)

    def __call__(self, x: Array) -> Array:
        """`x` is `[N, in, H, W]`; leading axes beyond four count as batch."""
        batch = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        if x.shape[1] != self.channels:
            raise ValueError(f"the input has {x.shape[1]} channels, not {self.channels}")
        x = pad_plane(x, self.edges)
        height, width = _out_size(x.shape[-2:], self.kernel, self.strides, self.dilations)
        out = np.empty((len(x), self.out, height, width), np.float32)
        compute = self._depthwise if self.depthwise else self._matrix
        for image, result in zip(x, out, strict=True):
            compute(image, result)
        if self.bias is not None:
            out += self.bias
        return out.reshape(*batch, self.out, height, width)

    def _depthwise(self, x: Array, out: Array) -> None:
        multiplier = self.out // self.channels
        if multiplier > 1:
            x = np.repeat(x, multiplier, axis=0)
        size: Pair = (out.shape[1], out.shape[2])
        step = max(1, _CACHE_FLOATS // (size[0] * size[1]))
        product = np.empty((min(step, self.out), *size), np.float32)
        for start in range(0, self.out, step):
            block = slice(start, min(start + step, self.out))
            total, scratch = out[block], product[: block.stop - start]
            weight = self.weight[block, 0, :, :, None, None]
            taps = _taps(self.kernel, self.strides, self.dilations, size)
            for index, (i, j, rows, columns) in enumerate(taps):
                target = scratch if index else total
                np.multiply(x[block, rows, columns], weight[:, i, j], out=target)
                if index:
                    total += scratch

    def _matrix(self, x: Array, out: Array) -> None:
        size: Pair = (out.shape[1], out.shape[2])
        pixels = size[0] * size[1]
        columns = self._columns(x, size).reshape(self.groups, -1, pixels)
        weight = self.weight.reshape(self.groups, self.out // self.groups, -1)
        np.matmul(weight, columns, out=out.reshape(self.groups, -1, pixels))

    def _columns(self, x: Array, size: Pair) -> Array:
        if self.kernel == (1, 1):
            return np.ascontiguousarray(x[:, :: self.strides[0], :: self.strides[1]])
        columns = np.empty((len(x), *self.kernel, *size), np.float32)
        for i, j, rows, across in _taps(self.kernel, self.strides, self.dilations, size):
            columns[:, i, j] = x[:, rows, across]
        return columns


def pool(
    x: Array, kind: Literal["max", "average"], kernel: Pair, strides: Pair, edges: Edges,
    *, exclude_padding: bool = False, ceil_mode: bool = False,
) -> Array:  # fmt: skip
    """Maximum or mean over windows.

    Padding never wins a maximum. In a mean it counts as zeros, and in the divisor
    unless `exclude_padding`. With `ceil_mode` the last window may reach past the
    padding, but has to start inside the input or its leading padding; what lies
    beyond the padding never counts in the divisor (as in PyTorch's `AvgPool2d`).

    Raises:
        ValueError: a window does not fit, or holds nothing but padding.
    """
    size: Pair = (x.shape[-2], x.shape[-1])
    spill = [0, 0]
    if ceil_mode:
        for axis in (0, 1):
            before, after = edges[axis]
            padded = size[axis] + before + after
            count = -(-(padded - kernel[axis]) // strides[axis]) + 1
            if (before or after) and (count - 1) * strides[axis] >= size[axis] + before:
                count -= 1
            spill[axis] = max(0, (count - 1) * strides[axis] + kernel[axis] - padded)
    far: Edges = ((0, spill[0]), (0, spill[1]))
    all_edges: Edges = (
        (edges[0][0], edges[0][1] + spill[0]),
        (edges[1][0], edges[1][1] + spill[1]),
    )
    if kind == "max":
        return _windows(x, all_edges, kernel, strides, -np.inf, np.maximum)
    total = _windows(x, all_edges, kernel, strides, 0.0, np.add)
    ones = np.ones((1, 1, *size), np.float32)
    if exclude_padding:
        counts = _windows(ones, all_edges, kernel, strides, 0.0, np.add)
    else:
        counts = _windows(pad_plane(ones, edges, 1.0), far, kernel, strides, 0.0, np.add)
    if not counts.all():
        raise ValueError("a pooling window holds nothing but padding")
    return total / counts


def _windows(
    x: Array, edges: Edges, kernel: Pair, strides: Pair, border: float,
    combine: Callable[..., Array],
) -> Array:  # fmt: skip
    padded = pad_plane(x, edges, border)
    out = _out_size(padded.shape[-2:], kernel, strides, (1, 1))
    total: Array | None = None
    for _, _, rows, columns in _taps(kernel, strides, (1, 1), out):
        part = padded[..., rows, columns]
        total = part.copy() if total is None else combine(total, part, out=total)
    assert total is not None
    return total


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along an axis, shifted by the maximum."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, np.float32(1), small) / (1 + small)


def sigmoid_hard(x: Array, alpha: float, beta: float) -> Array:
    """min(max(alpha * x + beta, 0), 1)."""
    return np.clip(np.float32(alpha) * x + np.float32(beta), 0, 1)


def local_response_norm(x: Array, size: int, alpha: float, beta: float, bias: float) -> Array:
    """x / (bias + alpha / size * sum of x^2 over `size` channels around)^beta.

    alpha is divided by the size of the window and not by the number of channels:
    coremltools' own conversion of TensorFlow's operator, which does not divide, multiplies
    alpha by the size, and the numbers that its tests expect of a device say the same.

    Args:
        x: `[..., C, H, W]`.
        size: odd, the channels in a window; those beyond the first and last count as 0.

    Raises:
        ValueError: fewer than three axes, or a size that is not odd.
    """
    if x.ndim < 3 or size < 1 or size % 2 == 0:
        raise ValueError(f"a window of {size} channels over {x.shape}")
    reach, channels = size // 2, x.shape[-3]
    squares = x * x
    total = squares.copy()
    for step in range(1, min(reach, channels - 1) + 1):
        total[..., step:, :, :] += squares[..., :-step, :, :]
        total[..., :-step, :, :] += squares[..., step:, :, :]
    return x * (np.float32(bias) + np.float32(alpha / size) * total) ** np.float32(-beta)


def unpack_bits(
    data: bytes | memoryview, bits: int, count: int, order: Literal["little", "big"]
) -> npt.NDArray[np.uint8]:
    """`count` unsigned integers of `bits` bits (1 to 8) each, packed without gaps.

    Args:
        order: 'little' when the first element starts at the least significant bit
            (MIL), 'big' when it starts at the most significant (neuralnetwork).

    Raises:
        ValueError: the length is not the one that holds `count` elements.
    """
    if len(data) != -(-bits * count // 8):
        raise ValueError(f"{len(data)} bytes for {count} elements of {bits} bits")
    raw = np.frombuffer(data, np.uint8)
    if bits == 8:
        return raw
    digits = np.unpackbits(raw, bitorder=order)[: bits * count].reshape(count, bits)
    places = np.arange(bits) if order == "little" else np.arange(bits)[::-1]
    return (digits << places.astype(np.uint8)).sum(axis=1, dtype=np.uint8)
