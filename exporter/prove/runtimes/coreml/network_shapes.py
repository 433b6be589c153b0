"""The neuralnetwork layers that move values without changing them."""

from __future__ import annotations

import numpy as np

from exporter.prove.runtimes.coreml import kernels
from exporter.prove.runtimes.coreml.kernels import Array
from exporter.prove.runtimes.coreml.network_layers import (
    ND_SINCE,
    Compute,
    Layer,
    border,
    layer,
)


@layer("loadConstant")
def _load_constant(it: Layer) -> Compute:
    it.want(0)
    shape = it.fields.integers("shape", ())
    value = it.weights("data", *shape).reshape(1, 1, *shape)
    return lambda: value


@layer("loadConstantND", since=ND_SINCE)
def _load_constant_nd(it: Layer) -> Compute:
    it.want(0)
    value = it.weights("data", *it.fields.integers("shape", ()))
    return lambda: value


@layer("concat")
def _concat(it: Layer) -> Compute:
    axis = -5 if it.fields.take("sequenceConcat") else -3
    return lambda *values: np.concatenate(values, axis=axis)


@layer("concatND", since=ND_SINCE)
def _concat_nd(it: Layer) -> Compute:
    axis = it.fields.take("axis")
    if it.fields.take("interleave"):
        raise it.error("interleaved concatenation is not known")
    return lambda *values: np.concatenate(values, axis=axis)


@layer("slice")
def _slice(it: Layer) -> Compute:
    """`startIndex <= index < endIndex`; -1 is the last index and not the end."""
    it.want(1)
    start, stop = it.fields.take("startIndex"), it.fields.take("endIndex")
    stride, place = it.fields.take("stride"), it.fields.take("axis")
    if not 0 <= start < stop or stride < 1:
        raise it.error(f"it takes {start} to {stop} by steps of {stride}")

    def compute(x: Array) -> Array:
        axis = x.ndim - 3 + place
        if axis < 0 or stop > x.shape[axis]:
            raise ValueError(f"up to {stop} along axis {place - 3} of {x.shape}")
        return x[(slice(None),) * axis + (slice(start, stop, stride),)]

    return compute


@layer("flatten")
def _flatten(it: Layer) -> Compute:
    it.want(1)
    if it.fields.take("mode"):
        return lambda x: np.moveaxis(x, -3, -1).reshape(*x.shape[:-3], -1, 1, 1)
    return lambda x: x.reshape(*x.shape[:-3], -1, 1, 1)


@layer("flattenTo2D", since=ND_SINCE)
def _flatten_to_2d(it: Layer) -> Compute:
    it.want(1)
    axis = it.fields.take("axis")
    return lambda x: x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


@layer("reshape")
def _reshape(it: Layer) -> Compute:
    it.want(1)
    target = it.fields.integers("targetShape", ())
    if len(target) != 3 or it.fields.take("mode"):
        raise it.error(f"it reshapes to {target}; three sizes in channel-first order are known")
    return lambda x: x.reshape(*x.shape[:-3], *target)


@layer("reshapeStatic", since=ND_SINCE)
def _reshape_static(it: Layer) -> Compute:
    it.want(1)
    target = it.fields.integers("targetShape", ())
    if 0 in target or min(target, default=1) < -1:
        raise it.error(f"it reshapes to {target}; sizes and one -1 are known")
    return lambda x: x.reshape(target)


@layer("rankPreservingReshape", since=ND_SINCE)
def _rank_preserving_reshape(it: Layer) -> Compute:
    it.want(1)
    target = it.fields.integers("targetShape", ())

    def compute(x: Array) -> Array:
        if len(target) != x.ndim:
            raise ValueError(f"a tensor of rank {x.ndim} is reshaped to {target}")
        return x.reshape([size or x.shape[axis] for axis, size in enumerate(target)])

    return compute


@layer("squeeze", since=ND_SINCE)
def _squeeze(it: Layer) -> Compute:
    it.want(1)
    axes, every = it.fields.integers("axes", ()), bool(it.fields.take("squeezeAll"))
    if every == bool(axes):
        raise it.error(f"it squeezes axes {axes} and squeezeAll is {every}")
    return lambda x: np.squeeze(x, axis=axes or None)


@layer("expandDims", since=ND_SINCE)
def _expand_dims(it: Layer) -> Compute:
    it.want(1)
    axes = it.fields.integers("axes", ())
    return lambda x: np.expand_dims(x, axes)


@layer("transpose", since=ND_SINCE)
def _transpose(it: Layer) -> Compute:
    it.want(1)
    axes = it.fields.integers("axes", ())
    return lambda x: x.transpose(axes)


@layer("permute")
def _permute(it: Layer) -> Compute:
    """Of sequence, channel, height and width; the batch (axis -4) stays."""
    it.want(1)
    axes = it.fields.integers("axis", (0, 1, 2, 3))
    full = (0, 2, 3, 4)
    order = [full[axis] for axis in axes]

    def compute(x: Array) -> Array:
        if x.ndim != 5:
            raise ValueError(f"a tensor of rank {x.ndim}, not 5")
        return x.transpose(order[0], 1, *order[1:])

    return compute


@layer("padding")
def _padding(it: Layer) -> Compute:
    it.want(1)
    edges = border(it, it.fields.sub("paddingAmounts"))
    kind = it.fields.choice("PaddingType")
    if kind == "constant":
        value = it.fields.sub("constant").take("value")
        return lambda x: kernels.pad_plane(x, edges, value)
    if kind in ("reflection", "replication"):
        it.fields.sub(kind)
        reflect = kind == "reflection"

        def compute(x: Array) -> Array:
            around = [(0, 0)] * (x.ndim - 2) + list(edges)
            return np.pad(x, around, mode="reflect" if reflect else "edge")

        return compute
    raise it.error("it does not say with what it pads")


@layer("constantPad", since=ND_SINCE)
def _constant_pad(it: Layer) -> Compute:
    it.want(1)
    value = it.fields.take("value")
    amounts = it.fields.integers("padAmounts", ())
    if it.fields.take("padToGivenOutputSizeMode") or len(amounts) % 2:
        raise it.error(f"it pads by {amounts}; a start and an end for each axis are known")

    def compute(x: Array) -> Array:
        around = list(zip(amounts[::2], amounts[1::2], strict=True))
        return np.pad(x, [(0, 0)] * (x.ndim - len(around)) + around, constant_values=value)

    return compute
