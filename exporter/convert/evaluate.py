"""Run a graph in onnxruntime, with any of its tensors as outputs.

Calibration reads activations this way, and passes measure with it what they
`ensure`. The graph is written as a plain float32 ONNX model in memory; that is
not an artifact and not evidence, the proving wing never sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

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
from exporter.convert.held_weights import Weights, initializer, open_model

_OPSET = 17
Emit = Callable[[Any, "_Writer"], object]
_EMITTERS: dict[type[Node], Emit] = {}


def _emits(kind: type[Node]) -> Callable[[Emit], Emit]:
    def register(function: Emit) -> Emit:
        _EMITTERS[kind] = function
        return function

    return register


class _Writer:
    """Collects ONNX nodes and initializers."""

    def __init__(self, held: Weights | None = None) -> None:
        self._held = held
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.ArrayLike, dtype: Any = np.float32) -> str:
        self.initializers.append(initializer(name, np.asarray(value, dtype), self._held))
        return name

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def fused(self, node: Any, make: Callable[[str], object]) -> object:
        """Let `make` write its result, followed by the node's fused activation."""
        if node.fused is Fused.NONE:
            return make(node.output)
        raw = node.output + "/raw"
        make(raw)
        return self.clip(raw, node.output, 6.0 if node.fused is Fused.RELU6 else None)

    def clip(self, source: str, output: str, high: float | None) -> str:
        if high is None:
            return self.op("Relu", [source], output)
        low_name = self.constant(output + "/low", 0.0)
        high_name = self.constant(output + "/high", high)
        return self.op("Clip", [source, low_name, high_name], output)


def _per_channel(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values.reshape(1, -1, 1, 1)


@_emits(Normalize)
def _normalize(node: Normalize, to: _Writer) -> None:
    mean = to.constant(node.output + "/mean", _per_channel(node.mean))
    scale = to.constant(node.output + "/scale", _per_channel(node.scale))
    to.op("Sub", [node.inputs[0], mean], node.output + "/centred")
    to.op("Mul", [node.output + "/centred", scale], node.output)


@_emits(BatchNorm)
def _batch_norm(node: BatchNorm, to: _Writer) -> None:
    scale = to.constant(node.output + "/scale", _per_channel(node.scale))
    shift = to.constant(node.output + "/shift", _per_channel(node.shift))
    to.op("Mul", [node.inputs[0], scale], node.output + "/scaled")
    to.op("Add", [node.output + "/scaled", shift], node.output)


@_emits(Conv)
def _conv(node: Conv, to: _Writer) -> None:
    weight = to.constant(node.output + "/weight", node.weight)
    bias = to.constant(node.output + "/bias", node.bias)
    to.fused(
        node,
        lambda output: to.op(
            "Conv",
            [node.inputs[0], weight, bias],
            output,
            strides=list(node.strides),
            pads=list(node.padding),
            dilations=list(node.dilations),
            group=node.groups,
        ),
    )


@_emits(Dense)
def _dense(node: Dense, to: _Writer) -> None:
    weight = to.constant(node.output + "/weight", node.weight)
    bias = to.constant(node.output + "/bias", node.bias)
    to.fused(
        node,
        lambda output: to.op("Gemm", [node.inputs[0], weight, bias], output, transB=1),
    )


def _binary(kind: str) -> Emit:
    def emit(node: Any, to: _Writer) -> object:
        return to.fused(node, lambda output: to.op(kind, node.inputs, output))

    return emit


for _kind in (Add, Sub, Mul):
    _EMITTERS[_kind] = _binary(_kind.__name__)
for _unary in (Relu, Sigmoid, HardSwish, Tanh):
    _EMITTERS[_unary] = lambda node, to: to.op(type(node).__name__, node.inputs, node.output)


@_emits(Concat)
def _concat(node: Concat, to: _Writer) -> None:
    to.op("Concat", node.inputs, node.output, axis=node.axis)


@_emits(Slice)
def _slice(node: Slice, to: _Writer) -> None:
    parts = {"start": node.start, "stop": node.stop, "axis": node.axis}
    bounds = [to.constant(f"{node.output}/{k}", [v], np.int64) for k, v in parts.items()]
    to.op("Slice", [node.inputs[0], *bounds], node.output)


@_emits(ChannelShuffle)
def _channel_shuffle(node: ChannelShuffle, to: _Writer) -> None:
    """The groups are laid beside each other on a new axis, behind that of the channels."""
    groups = [f"{node.output}/group{index}" for index in range(node.groups)]
    to.nodes.append(helper.make_node("Split", list(node.inputs), groups, axis=1))
    axis = to.constant(node.output + "/axis", [2], np.int64)
    thin = [to.op("Unsqueeze", [name, axis], name + "/thin") for name in groups]
    to.op("Concat", thin, node.output + "/beside", axis=2)
    to.op("Shape", node.inputs, node.output + "/shape")
    to.op("Reshape", [node.output + "/beside", node.output + "/shape"], node.output)


@_emits(LocalResponseNorm)
def _local_response_norm(node: LocalResponseNorm, to: _Writer) -> None:
    to.op("LRN", node.inputs, node.output, size=node.size, alpha=node.alpha, beta=node.beta,
          bias=node.bias)  # fmt: skip


@_emits(MaxPool)
def _max_pool(node: MaxPool, to: _Writer) -> None:
    to.op("MaxPool", node.inputs, node.output, kernel_shape=list(node.kernel),
          strides=list(node.strides), pads=list(node.padding))  # fmt: skip


@_emits(AveragePool)
def _average_pool(node: AveragePool, to: _Writer) -> None:
    to.op("AveragePool", node.inputs, node.output, kernel_shape=list(node.kernel),
          strides=list(node.strides), pads=list(node.padding),
          count_include_pad=int(node.include_padding))  # fmt: skip


@_emits(GlobalAveragePool)
def _global_average_pool(node: GlobalAveragePool, to: _Writer) -> None:
    to.op("ReduceMean", node.inputs, node.output, axes=[2, 3], keepdims=int(node.keep_dims))


@_emits(Relu6)
def _relu6(node: Relu6, to: _Writer) -> None:
    to.clip(node.inputs[0], node.output, 6.0)


@_emits(HardSigmoid)
def _hard_sigmoid(node: HardSigmoid, to: _Writer) -> None:
    to.op("HardSigmoid", node.inputs, node.output, alpha=1.0 / 6.0, beta=0.5)


@_emits(Silu)
def _silu(node: Silu, to: _Writer) -> None:
    to.op("Sigmoid", node.inputs, node.output + "/gate")
    to.op("Mul", [node.inputs[0], node.output + "/gate"], node.output)


@_emits(Softmax)
def _softmax(node: Softmax, to: _Writer) -> None:
    to.op("Softmax", node.inputs, node.output, axis=-1)


@_emits(Reshape)
def _reshape(node: Reshape, to: _Writer) -> None:
    source = node.inputs[0]
    if node.channels_last:
        source = to.op("Transpose", [source], node.output + "/nhwc", perm=[0, 2, 3, 1])
    to.op("Flatten", [source], node.output, axis=1)


@_emits(Pad)
def _pad(node: Pad, to: _Writer) -> None:
    top, left, bottom, right = node.padding
    pads = to.constant(node.output + "/pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    value = to.constant(node.output + "/value", node.value)
    to.op("Pad", [node.inputs[0], pads, value], node.output)


class Evaluator:
    """A graph ready to run.

    Args:
        graph: what to run.
        outputs: the tensors to give, the graph's output unless told otherwise.
        threads: onnxruntime's intra-op threads; 0 lets it choose.
    """

    def __init__(
        self, graph: Graph, outputs: Sequence[str] | None = None, threads: int = 0
    ) -> None:
        import onnxruntime

        self.outputs = tuple(outputs if outputs is not None else (graph.output,))
        self._input = graph.input
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        held: Weights = {}
        self._session = open_model(to_onnx_model(graph, self.outputs, held), options, held)

    def run(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """One image, uint8 `[H, W, 3]`, to the asked tensors (float32, NCHW) by name."""
        return run_session(self._session, self._input, pixels, self.outputs)


def to_feed(source: GraphInput, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """One image, uint8 `[H, W, 3]`, as the graph reads it: float32 `[1, 3, H, W]`."""
    values = (pixels.astype(np.float32) - source.zero_point) * np.float32(source.scale)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def run_session(
    session: Any, source: GraphInput, pixels: npt.NDArray[np.uint8], outputs: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """One image through an onnxruntime session of a graph; the asked tensors by name.

    The graph's input may be among them, though a session cannot give it back.
    """
    feed = to_feed(source, pixels)
    wanted = [name for name in outputs if name != source.name]
    found = session.run(wanted, {source.name: feed}) if wanted else []
    results = dict(zip(wanted, found, strict=True))
    if source.name in outputs:
        results[source.name] = feed
    return results


def to_onnx_model(
    graph: Graph, outputs: Sequence[str], held: Weights | None = None
) -> onnx.ModelProto:
    """The graph as a float32 ONNX model from dequantized NCHW pixels to `outputs`.

    Args:
        held: where large weights are put, for `open_model`; None puts them into the model.
    """
    writer = _Writer(held)
    for name, value in graph.constants.items():
        writer.constant(name, value)
    for node in graph.nodes:
        _EMITTERS[type(node)](node, writer)
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(graph.shapes[name]))
        for name in outputs
        if name != graph.input.name
    ]
    source = helper.make_tensor_value_info(
        graph.input.name, TensorProto.FLOAT, list(graph.input.shape)
    )
    body = helper.make_graph(writer.nodes, "graph", [source], made, writer.initializers)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
