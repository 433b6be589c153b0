"""Round weights so that their errors cancel within each output channel.

What a layer reads is mostly smooth and, after a ReLU, never negative. The error of
a dot product is then mostly (sum of the weights' errors) x (mean of the inputs), and
a sum of errors that is nearly zero is worth more than each error being smallest.
A depthwise layer, with nine weights a channel, gains most. No data is needed.

The idea and its proof are those of Guo et al., "SQuant: On-the-Fly Data-Free
Quantization via Diagonal Hessian Approximation", ICLR 2022, here for the whole
output channel and, below it, for each 2-D kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.held_weights import row_blocks

_SORTED_WHOLE = 128  # the longest rows for which sorting is the quicker way
_SETTLED_BY = 32  # weights of a channel that take up the error of all the others


def to_float16(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Weights `[out, ...]` in float16 whose sum over each output channel is kept.

    All weights are rounded to the nearest; then the largest 32 of a channel, from
    large to small, are rounded again with the error so far taken off, so that what
    remains is at most half a unit in the last place of the smallest of them. A
    channel with a weight beyond 65504 comes out not finite.
    """
    channels = weight.reshape(len(weight), -1)
    found = np.empty(channels.shape, np.float16)
    for some in row_blocks(channels):
        found[some] = _to_float16(channels[some].astype(np.float64))
    return found.reshape(weight.shape)


def _to_float16(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore", invalid="ignore"):
        found = rows.astype(np.float16)
        error = (found.astype(np.float64) - rows).sum(axis=1)
        largest = _largest(np.abs(rows))
        channel = np.arange(len(rows))
        for column in largest.T:
            exact = rows[channel, column]
            error -= found[channel, column].astype(np.float64) - exact
            settled = (exact - error).astype(np.float16)
            error += settled.astype(np.float64) - exact
            found[channel, column] = settled
    return found


def _largest(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Where the largest 32 of each row are, from large to small, of equal ones the first.

    What a stable sort of the whole rows gives, NaNs last; of long rows only a few values are
    sorted.
    """
    sizes = np.where(np.isnan(sizes), -np.inf, sizes)
    count = sizes.shape[1]
    if count <= _SETTLED_BY:
        return np.argsort(-sizes, axis=1, kind="stable")
    least = np.partition(sizes, count - _SETTLED_BY, axis=1)[:, count - _SETTLED_BY, None]
    taken = sizes > least
    tied = sizes == least
    taken |= tied & (np.cumsum(tied, axis=1) <= _SETTLED_BY - taken.sum(axis=1, keepdims=True))
    places = np.nonzero(taken)[1].reshape(len(sizes), _SETTLED_BY)
    order = np.argsort(-np.take_along_axis(sizes, places, 1), axis=1, kind="stable")
    return np.take_along_axis(places, order, 1)


def to_int8(
    weight: npt.NDArray[np.float32], scale_dtype: npt.DTypeLike = np.float32
) -> tuple[npt.NDArray[np.int8], npt.NDArray[Any]]:
    """Symmetric int8 per output channel (axis 0): `weight ~ values * scales[channel]`.

    A scale is rounded up to a number of its type before the weights are divided
    by it, so that rounding it costs nothing and no value leaves [-127, 127].

    Args:
        weight: `[out, in, kh, kw]` or `[out, in]`.
        scale_dtype: float16 or float32.

    Returns:
        values int8 of the weight's shape; scales `[out]` of `scale_dtype`.
    """
    scales = _scales(weight, scale_dtype)
    values = np.empty(weight.shape, np.int8)
    for some in row_blocks(weight):
        values[some] = _to_int8(weight[some], scales[some])
    return values, scales


def _to_int8(weight: npt.NDArray[np.float32], scales: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole numbers whose errors cancel in each 2-D kernel, then in each channel."""
    exact = weight.astype(np.float64) / scales.astype(np.float64).reshape(
        (-1,) + (1,) * (weight.ndim - 1)
    )
    kernels = exact.reshape(weight.shape[0] * weight.shape[1], -1)
    values = np.rint(kernels)
    if kernels.shape[1] > 1:
        values = _cancel(kernels, values)
    channels = exact.reshape(len(weight), -1)
    return _cancel(channels, values.reshape(channels.shape)).reshape(weight.shape)


def _scales(weight: npt.NDArray[np.float32], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """(largest magnitude of the channel) / 127, rounded up; 1 for a channel of zeros."""
    wanted = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64) / 127.0
    wanted = np.where(wanted > 0, wanted, 1.0)
    with np.errstate(over="ignore"):
        scales = wanted.astype(dtype)
    above = np.nextafter(scales, np.asarray(np.inf, dtype))
    return np.where(scales.astype(np.float64) < wanted, above, scales)


def _cancel(
    exact: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Move the whole numbers `values` by one step where that brings a row's error near zero.

    Of each row, as many values move as its summed error has whole steps, those first
    that were rounded furthest the wrong way.
    """
    error = values - exact
    total = error.sum(axis=1)
    sign = np.sign(total)[:, None]
    gain = np.where(np.abs(values - sign) <= 127, error * sign, -np.inf)
    moves = _first(gain, np.rint(np.abs(total)).astype(np.int64)) & np.isfinite(gain)
    return values - moves * sign


def _first(gain: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which values of each row are its `counts[row]` largest, of equal ones the first.

    As a stable sort of the rows says; long rows, of which few values move, are not sorted.
    """
    length = gain.shape[1]
    if length <= _SORTED_WHOLE:
        rank = np.argsort(np.argsort(-gain, axis=1, kind="stable"), axis=1, kind="stable")
        return rank < counts[:, None]
    chosen = np.zeros(gain.shape, np.bool_)
    for row in np.flatnonzero(counts):
        values, count = gain[row], min(int(counts[row]), length)
        least = np.partition(values, length - count)[length - count]
        above = values > least
        tied = np.flatnonzero(values == least)[: count - int(above.sum())]
        chosen[row] = above
        chosen[row, tied] = True
    return chosen
