"""The neuralnetwork layers that the evaluator knows, as `NeuralNetwork.proto` defines them.

Channels are axis -3, height -2, width -1 unless a layer says otherwise. To add a
layer, write a function that reads all of its fields and returns what computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from exporter.prove.runtimes.coreml import kernels
from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.kernels import Array, Edges, Pair
from exporter.prove.runtimes.coreml.network_weights import read_weights
from exporter.prove.runtimes.coreml.protos import Fields

Compute = Callable[..., Array]
ND_SINCE = 4  # iOS 13: tensors of any rank


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer to be prepared.

    Attributes:
        fields: its parameters, all of which have to be read.
        inputs: how many tensors it is given.
        version: the file's specification version.
    """

    fields: Fields
    inputs: int
    version: int

    def error(self, why: str) -> CoreMLFileError:
        return CoreMLFileError(f"{self.fields.where} is not sound.", why)

    def weights(self, name: str, *shape: int) -> Array:
        return read_weights(self.fields.sub(name), shape, self.version)

    def want(self, inputs: int) -> None:
        if self.inputs != inputs:
            raise self.error(f"it has {self.inputs} inputs, not {inputs}")


@dataclass(frozen=True)
class Entry:
    """A kind of layer: its handler and the first specification version that has it."""

    handler: Callable[[Layer], Compute]
    since: int


LAYERS: dict[str, Entry] = {}


def layer(
    *kinds: str, since: int = 1
) -> Callable[[Callable[[Layer], Compute]], Callable[[Layer], Compute]]:
    def register(handler: Callable[[Layer], Compute]) -> Callable[[Layer], Compute]:
        for kind in kinds:
            LAYERS[kind] = Entry(handler, since)
        return handler

    return register


def _pair(it: Layer, name: str, default: int) -> Pair:
    values = it.fields.integers(name, (default, default))
    if len(values) != 2 or min(values) < 1:
        raise it.error(f"its {name} is {values}")
    return values[0], values[1]


def border(it: Layer, fields: Fields) -> Edges:
    amounts = [(int(a.startEdgeSize), int(a.endEdgeSize)) for a in fields.take("borderAmounts")]
    if len(amounts) not in (0, 2):
        raise it.error(f"its border is {amounts}")
    return (amounts[0], amounts[1]) if amounts else ((0, 0), (0, 0))


def _edges(it: Layer, oneof: str, kernel: Pair, strides: Pair, dilations: Pair) -> Any:
    """A function from the input's size to the padding."""
    kind = it.fields.choice(oneof)
    if kind == "valid":
        edges = border(it, it.fields.sub("valid").sub("paddingAmounts"))
        return lambda size: edges
    if kind == "same":
        low = it.fields.sub("same").take("asymmetryMode") == 1
        return lambda size: kernels.same_padding(size, kernel, strides, dilations, low=low)
    if kind == "includeLastPixel":
        amounts = it.fields.sub(kind).integers("paddingAmounts", (0, 0))
        both = (amounts[0], amounts[0]), (amounts[1], amounts[1])
        return lambda size: both
    raise it.error("it does not say how it is padded")


@layer("convolution")
def _convolution(it: Layer) -> Compute:
    it.want(1)
    fields = it.fields
    if fields.take("isDeconvolution"):
        raise it.error("deconvolution is not known")
    out, channels = fields.take("outputChannels"), fields.take("kernelChannels")
    groups = fields.take("nGroups") or 1
    kernel = _pair(it, "kernelSize", 3)
    strides, dilations = _pair(it, "stride", 1), _pair(it, "dilationFactor", 1)
    edges = _edges(it, "ConvolutionPaddingType", kernel, strides, dilations)
    weight = it.weights("weights", out, channels, *kernel)
    bias = it.weights("bias", out) if fields.take("hasBias") else None
    prepared: dict[Pair, kernels.Convolution] = {}

    def compute(x: Array) -> Array:
        size: Pair = (x.shape[-2], x.shape[-1])
        if size not in prepared:
            prepared[size] = kernels.Convolution(
                weight, bias, strides, dilations, edges(size), groups
            )
        return prepared[size](x)

    return compute


@layer("pooling")
def _pooling(it: Layer) -> Compute:
    it.want(1)
    fields = it.fields
    kinds: dict[int, Literal["max", "average"]] = {0: "max", 1: "average"}
    kind = kinds.get(fields.take("type"))
    if kind is None:
        raise it.error("L2 pooling is not known")
    exclude = bool(fields.take("avgPoolExcludePadding"))
    if fields.take("globalPooling"):
        for name in ("kernelSize", "stride", "valid", "same", "includeLastPixel"):
            fields.take(name)  # without effect: the window is the whole plane
        if kind == "max":
            return lambda x: x.max(axis=(-2, -1), keepdims=True)
        return lambda x: x.mean(axis=(-2, -1), keepdims=True, dtype=np.float32)
    kernel, strides = _pair(it, "kernelSize", 3), _pair(it, "stride", 1)
    padding = fields.choice("PoolingPaddingType")
    edges = _edges(it, "PoolingPaddingType", kernel, strides, (1, 1))
    return lambda x: kernels.pool(
        x, kind, kernel, strides, edges((x.shape[-2], x.shape[-1])),
        exclude_padding=exclude, ceil_mode=padding == "includeLastPixel",
    )  # fmt: skip


@layer("innerProduct")
def _inner_product(it: Layer) -> Compute:
    it.want(1)
    inputs, outputs = it.fields.take("inputChannels"), it.fields.take("outputChannels")
    transposed = it.weights("weights", outputs, inputs).T
    bias = it.weights("bias", outputs) if it.fields.take("hasBias") else np.float32(0)

    def compute(x: Array) -> Array:
        if x.ndim <= 3:
            return x @ transposed + bias
        rows = x.reshape(*x.shape[:-3], -1) @ transposed + bias
        return rows[..., None, None]

    return compute


@layer("batchedMatmul", since=ND_SINCE)
def _batched_matmul(it: Layer) -> Compute:
    """Two tensors, or one tensor and a weight matrix that is stored transposed."""
    fields = it.fields
    turn_a, turn_b = bool(fields.take("transposeA")), bool(fields.take("transposeB"))
    if it.inputs == 1:
        rows = fields.take("weightMatrixFirstDimension")
        columns = fields.take("weightMatrixSecondDimension")
        weight = it.weights("weights", columns, rows).T
        bias = it.weights("bias", columns) if fields.take("hasBias") else np.float32(0)
        if turn_a or turn_b:
            raise it.error("it transposes and has its own weights")
        return lambda x: x @ weight + bias
    it.want(2)

    def compute(a: Array, b: Array) -> Array:
        return (a.swapaxes(-1, -2) if turn_a else a) @ (b.swapaxes(-1, -2) if turn_b else b)

    return compute


_ACTIVATIONS: dict[str, tuple[tuple[str, ...], Compute]] = {
    "linear": (("alpha", "beta"), lambda x, a, b: np.float32(a) * x + np.float32(b)),
    "ReLU": ((), lambda x: np.maximum(x, 0)),
    "leakyReLU": (("alpha",), lambda x, a: np.where(x >= 0, x, np.float32(a) * x)),
    "tanh": ((), np.tanh),
    "sigmoid": ((), kernels.sigmoid),
    "sigmoidHard": (("alpha", "beta"), kernels.sigmoid_hard),
}


@layer("activation")
def _activation(it: Layer) -> Compute:
    it.want(1)
    kind = it.fields.choice("NonlinearityType")
    if kind not in _ACTIVATIONS:
        raise it.error(f"the activation {kind} is not known")
    names, function = _ACTIVATIONS[kind]
    chosen = it.fields.sub(kind)
    settings = [chosen.take(name) for name in names]
    return lambda x: function(x, *settings)


_UNARY: dict[int, Callable[[Array, Any, Any], Array]] = {
    0: lambda x, alpha, epsilon: np.sqrt(x),
    1: lambda x, alpha, epsilon: 1 / np.sqrt(x + epsilon),
    2: lambda x, alpha, epsilon: 1 / (x + epsilon),
    3: lambda x, alpha, epsilon: np.power(x, alpha),
    4: lambda x, alpha, epsilon: np.exp(x),
    5: lambda x, alpha, epsilon: np.log(x),
    6: lambda x, alpha, epsilon: np.abs(x),
    7: lambda x, alpha, epsilon: np.maximum(alpha, x),
}


@layer("unary")
def _unary(it: Layer) -> Compute:
    it.want(1)
    function = _UNARY[it.fields.take("type")]
    alpha = np.float32(it.fields.take("alpha"))
    epsilon = np.float32(it.fields.take("epsilon") or 1e-6)
    shift = np.float32(it.fields.take("shift"))
    scale = np.float32(it.fields.take("scale") or 1.0)
    return lambda x: function(scale * x + shift, alpha, epsilon)


@layer("clip", since=ND_SINCE)
def _clip(it: Layer) -> Compute:
    it.want(1)
    low, high = np.float32(it.fields.take("minVal")), np.float32(it.fields.take("maxVal"))
    if not low < high:
        raise it.error(f"it clips to [{low}, {high}]")
    return lambda x: np.minimum(np.maximum(x, low), high)


def _arithmetic(function: Any, *, scalar: bool) -> Callable[[Layer], Compute]:
    def prepare(it: Layer) -> Compute:
        if it.inputs == 1 and scalar:
            alpha = np.float32(it.fields.take("alpha"))
            return lambda x: function(x, alpha)
        if it.inputs < 2:
            raise it.error(f"it has {it.inputs} inputs")

        def compute(*values: Array) -> Array:
            result = values[0]
            for value in values[1:]:
                result = function(result, value)
            return result

        return compute

    return prepare


_ARITHMETIC: dict[str, tuple[Any, bool, int]] = {  # function, takes a scalar, since
    "add": (np.add, True, 1),
    "multiply": (np.multiply, True, 1),
    "max": (np.maximum, False, 1),
    "min": (np.minimum, False, 1),
    "addBroadcastable": (np.add, False, ND_SINCE),
    "multiplyBroadcastable": (np.multiply, False, ND_SINCE),
    "subtractBroadcastable": (np.subtract, False, ND_SINCE),
    "divideBroadcastable": (np.divide, False, ND_SINCE),
    "maxBroadcastable": (np.maximum, False, ND_SINCE),
    "minBroadcastable": (np.minimum, False, ND_SINCE),
}
for _name, (_function, _scalar, _since) in _ARITHMETIC.items():
    LAYERS[_name] = Entry(_arithmetic(_function, scalar=_scalar), _since)


@layer("reduceMean", since=ND_SINCE)
def _reduce_mean(it: Layer) -> Compute:
    it.want(1)
    axes = it.fields.integers("axes", ())
    keep, every = bool(it.fields.take("keepDims")), bool(it.fields.take("reduceAll"))
    if every == bool(axes):
        raise it.error(f"it reduces axes {axes} and reduceAll is {every}")
    return lambda x: x.mean(axis=axes or None, keepdims=keep, dtype=np.float32)


_REDUCE_AXES: dict[int, tuple[int, ...]] = {0: (-3, -2, -1), 1: (-2, -1), 2: (-3,), 3: (-2,),
                                            4: (-1,)}  # fmt: skip


@layer("reduce")
def _reduce(it: Layer) -> Compute:
    it.want(1)
    mode, axes = it.fields.take("mode"), _REDUCE_AXES[it.fields.take("axis")]
    it.fields.take("epsilon")  # used by the mode LOGSUM only, which is not known
    functions: dict[int, Any] = {0: np.sum, 1: np.mean, 7: np.max}
    if mode not in functions:
        raise it.error(f"reduction number {mode} is not known")
    return lambda x: functions[mode](x, axis=axes, keepdims=True)


@layer("softmax")
def _softmax(it: Layer) -> Compute:
    it.want(1)
    return lambda x: kernels.softmax(x, -3)


@layer("softmaxND", since=ND_SINCE)
def _softmax_nd(it: Layer) -> Compute:
    it.want(1)
    axis = it.fields.take("axis")
    return lambda x: kernels.softmax(x, axis)


@layer("lrn")
def _local_response_norm(it: Layer) -> Compute:
    """What `NeuralNetwork.proto` calls C in alpha / C is `localSize`; see the kernel."""
    it.want(1)
    alpha, beta, k = (it.fields.take(name) for name in ("alpha", "beta", "k"))
    size = it.fields.take("localSize")
    if size % 2 == 0:
        raise it.error(f"a window of {size} channels; odd ones are known")
    return lambda x: kernels.local_response_norm(x, size, alpha, beta, k)


@layer("tanh", since=ND_SINCE)
def _tanh(it: Layer) -> Compute:
    it.want(1)
    return np.tanh


def _vector(values: Array, shape: tuple[int, ...]) -> Array:
    """A per-channel or `[C, H, W]` operand, to be broadcast over axes -3, -2, -1."""
    return values.reshape(-1, 1, 1) if len(shape) == 1 else values


@layer("bias")
def _bias(it: Layer) -> Compute:
    it.want(1)
    shape = it.fields.integers("shape", ())
    bias = _vector(it.weights("bias", *shape), shape)
    return lambda x: x + bias


@layer("scale")
def _scale(it: Layer) -> Compute:
    it.want(1)
    shape = it.fields.integers("shapeScale", ())
    scale = _vector(it.weights("scale", *shape), shape)
    if not it.fields.take("hasBias"):
        return lambda x: x * scale
    shape = it.fields.integers("shapeBias", ())
    bias = _vector(it.weights("bias", *shape), shape)
    return lambda x: x * scale + bias


@layer("batchnorm")
def _batch_norm(it: Layer) -> Compute:
    it.want(1)
    fields, channels = it.fields, it.fields.take("channels")
    if fields.take("computeMeanVar") or fields.take("instanceNormalization"):
        raise it.error("statistics computed from the input are not known")
    names = ("gamma", "beta", "mean", "variance")
    gamma, beta, mean, variance = (it.weights(n, channels).reshape(-1, 1, 1) for n in names)
    scale = gamma / np.sqrt(variance + np.float32(fields.take("epsilon") or 1e-5))
    return lambda x: (x - mean) * scale + beta
