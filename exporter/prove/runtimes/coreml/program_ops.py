"""The MIL operations that the evaluator knows: names, defaults and formulas.

Defaults and meanings follow the operation definitions of coremltools
(`converters/mil/mil/ops/defs`, by opset). To add one, write a function that asks the
operation for all it has and returns what computes the result.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from exporter.prove.runtimes.coreml import kernels
from exporter.prove.runtimes.coreml.kernels import Edges, Pair
from exporter.prove.runtimes.coreml.operation import Array, Compute, Operation, handles
from exporter.prove.runtimes.coreml.values import to_precision

_CEIL_PADDINGS = ("valid", "custom")


def _pair(values: tuple[int, ...]) -> Pair:
    return values[0], values[1]


def _edges(op: Operation, size: Pair, kernel: Pair, strides: Pair, dilations: Pair) -> Edges:
    kind = op.text("pad_type", "valid") if op.kind == "conv" else op.text("pad_type")
    pad = op.integers("pad", (0, 0, 0, 0), 4)
    if min(pad) < 0:
        raise op.error(f"its padding is {pad}")
    if kind == "custom":
        return (pad[0], pad[1]), (pad[2], pad[3])
    if any(pad):
        raise op.error(f"it has both pad_type {kind!r} and pad {pad}")
    if kind == "valid":
        return (0, 0), (0, 0)
    if kind == "same" or (kind == "same_lower" and op.opset >= 6):
        low = kind == "same_lower"
        return kernels.same_padding(size, kernel, strides, dilations, low=low)
    raise op.error(f"its pad_type is {kind!r}")


@handles("conv")
def _conv(op: Operation) -> Compute:
    x = op.tensor("x")
    weight, bias = op.weights("weight", 4), op.weights("bias", 1)
    if weight is None or len(x.shape) != 4:
        raise op.error(f"it convolves {x}; images in NCHW are known")
    strides = _pair(op.integers("strides", (1, 1), 2))
    dilations = _pair(op.integers("dilations", (1, 1), 2))
    edges = _edges(op, _pair(x.shape[2:]), _pair(weight.shape[2:]), strides, dilations)
    groups = op.integer("groups", 1)
    return kernels.Convolution(weight, bias, strides, dilations, edges, groups)


@handles("avg_pool", "max_pool")
def _pool(op: Operation) -> Compute:
    x = op.tensor("x")
    if len(x.shape) != 4:
        raise op.error(f"it pools {x}; images in NCHW are known")
    kernel = _pair(op.integers("kernel_sizes", length=2))
    strides = _pair(op.integers("strides", (1, 1), 2))
    edges = _edges(op, _pair(x.shape[2:]), kernel, strides, (1, 1))
    ceil_mode = op.flag("ceil_mode", False)
    if ceil_mode and (op.text("pad_type") not in _CEIL_PADDINGS or _uneven(edges)):
        raise op.error("ceil_mode goes with valid or symmetric custom padding only")
    average = op.kind == "avg_pool"
    kind: Literal["max", "average"] = "average" if average else "max"
    exclude = op.flag("exclude_padding_from_average", False) if average else False
    return lambda x: kernels.pool(
        x, kind, kernel, strides, edges, exclude_padding=exclude, ceil_mode=ceil_mode
    )


def _uneven(edges: Edges) -> bool:
    return any(before != after for before, after in edges)


_BINARY: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "real_div": np.divide,
    "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip


@handles(*_BINARY)
def _binary(op: Operation) -> Compute:
    op.tensor("x")
    op.tensor("y")
    return _BINARY[op.kind]


_UNARY: dict[str, Compute] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": kernels.sigmoid,
    "silu": lambda x: x * kernels.sigmoid(x),
    "tanh": np.tanh,
}


@handles(*_UNARY)
def _unary(op: Operation) -> Compute:
    op.tensor("x")
    return _UNARY[op.kind]


@handles("clip")
def _clip(op: Operation) -> Compute:
    op.tensor("x")
    low, high = np.float32(op.number("alpha")), np.float32(op.number("beta"))
    if not low < high:
        raise op.error(f"it clips to [{low}, {high}]")
    return lambda x: np.minimum(np.maximum(x, low), high)


@handles("sigmoid_hard")
def _sigmoid_hard(op: Operation) -> Compute:
    op.tensor("x")
    alpha, beta = op.number("alpha", 0.2), op.number("beta", 0.5)
    return lambda x: kernels.sigmoid_hard(x, alpha, beta)


@handles("softmax")
def _softmax(op: Operation) -> Compute:
    op.tensor("x")
    axis = op.integer("axis", -1)
    return lambda x: kernels.softmax(x, axis)


@handles("local_response_norm")
def _local_response_norm(op: Operation) -> Compute:
    x = op.tensor("x")
    size = op.integer("size")
    alpha, beta, k = op.number("alpha", 1e-4), op.number("beta", 0.75), op.number("k", 1.0)
    if len(x.shape) != 4 or size < 1 or size % 2 == 0:
        raise op.error(f"a window of {size} channels over {x}; odd ones in NCHW are known")
    return lambda x: kernels.local_response_norm(x, size, alpha, beta, k)


@handles("reduce_mean")
def _reduce_mean(op: Operation) -> Compute:
    op.tensor("x")
    axes = op.integers("axes") if op.has("axes") else None
    keep = op.flag("keep_dims", False)
    return lambda x: x.mean(axis=axes, keepdims=keep, dtype=np.float32)


@handles("linear")
def _linear(op: Operation) -> Compute:
    op.tensor("x")
    weight, bias = op.weights("weight", 2), op.weights("bias", 1)
    if weight is None:
        raise op.error("it lacks its weight")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise op.error(f"bias {bias.shape} for weight {weight.shape}")
    transposed = weight.T  # no copy: those of VGG's first layer would be 0.4 GB
    return lambda x: x @ transposed + (0 if bias is None else bias)


@handles("matmul")
def _matmul(op: Operation) -> Compute:
    for name in ("x", "y"):
        if len(op.tensor(name).shape) < 2:
            raise op.error(f"its {name} is a vector")
    turn_x, turn_y = op.flag("transpose_x", False), op.flag("transpose_y", False)

    def compute(x: Array, y: Array) -> Array:
        return (x.swapaxes(-1, -2) if turn_x else x) @ (y.swapaxes(-1, -2) if turn_y else y)

    return compute


@handles("reshape")
def _reshape(op: Operation) -> Compute:
    op.tensor("x")
    shape = op.integers("shape")
    if 0 in shape or min(shape, default=1) < -1:
        raise op.error(f"it reshapes to {shape}; sizes and one -1 are known")
    return lambda x: x.reshape(shape)


@handles("squeeze")
def _squeeze(op: Operation) -> Compute:
    op.tensor("x")
    axes = op.integers("axes") if op.has("axes") else None
    return lambda x: np.squeeze(x, axis=axes)


@handles("expand_dims")
def _expand_dims(op: Operation) -> Compute:
    op.tensor("x")
    axes = op.integers("axes")
    return lambda x: np.expand_dims(x, axes)


@handles("transpose")
def _transpose(op: Operation) -> Compute:
    op.tensor("x")
    order = op.integers("perm")
    return lambda x: x.transpose(order)


@handles("concat")
def _concat(op: Operation) -> Compute:
    rank = len(op.tensors("values")[0].shape)
    axis = op.integer("axis")
    interleave = op.flag("interleave", False)
    if not -rank <= axis < rank:
        raise op.error(f"its axis is {axis}")

    def compute(*values: Array) -> Array:
        if not interleave:
            return np.concatenate(values, axis=axis)
        place = axis % rank  # element i of every input before element i + 1 of any
        stacked = np.stack(values, axis=place + 1)
        shape = list(values[0].shape)
        shape[place] *= len(values)
        return stacked.reshape(shape)

    return compute


@handles("slice_by_index")
def _slice_by_index(op: Operation) -> Compute:
    """Along each axis from `begin` to `end`, or from the start or to the end where masked."""
    x = op.tensor("x")
    rank = len(x.shape)
    begin, end = op.integers("begin", length=rank), op.integers("end", length=rank)
    strides = op.integers("stride", (1,) * rank, rank)
    masked = {name: op.flags(name, rank) for name in ("begin_mask", "end_mask", "squeeze_mask")}
    if any(masked["squeeze_mask"]) or min(strides) < 1:
        raise op.error("it drops axes or goes backwards")
    parts = []
    for axis, length in enumerate(x.shape):
        start = 0 if masked["begin_mask"][axis] else begin[axis]
        stop = length if masked["end_mask"][axis] else end[axis]
        if not 0 <= start < stop <= length:
            raise op.error(f"it takes {start} to {stop} of {x} along axis {axis}")
        parts.append(slice(start, stop, strides[axis]))
    return lambda x: x[tuple(parts)]


@handles("pad")
def _pad(op: Operation) -> Compute:
    x = op.tensor("x")
    amounts = op.integers("pad")
    mode = op.text("mode", "constant")
    value = op.number("constant_val", 0.0)
    names: dict[str, Literal["constant", "reflect", "edge"]] = {
        "constant": "constant", "reflect": "reflect", "replicate": "edge",
    }  # fmt: skip
    if mode not in names or len(amounts) % 2 or len(amounts) > 2 * len(x.shape):
        raise op.error(f"it pads {x} by {amounts} in mode {mode!r}")
    if min(amounts, default=0) < 0:
        raise op.error(f"it pads by {amounts}")
    if mode != "constant" and value:
        raise op.error(f"it pads in mode {mode!r} and gives a constant")
    front = [(0, 0)] * (len(x.shape) - len(amounts) // 2)
    edges = front + list(zip(amounts[::2], amounts[1::2], strict=True))

    def compute(x: Array) -> Array:
        if mode == "constant":
            return np.pad(x, edges, constant_values=value)
        return np.pad(x, edges, mode=names[mode])

    return compute


@handles("cast")
def _cast(op: Operation) -> Compute:
    op.tensor("x")
    target = {"fp16": "float16", "fp32": "float32"}.get(op.text("dtype"))
    if target is None:
        raise op.error("it casts to something else than fp16 or fp32")
    op.result = target
    return lambda x: to_precision(x, target)
