"""What the tests of the TFLite target share: tiny graphs, plans by hand, a reader of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    Add,
    AveragePool,
    ChannelShuffle,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    GraphInput,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Tanh,
)
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Contract, Label, Preprocessing
from support import nets

CONTRACT = Contract((Label("plain"), Label("banded")), Preprocessing(8, 8, 8))
DELEGATED, PLAIN = OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
SCALE, ZERO_POINT = 1 / 40, 120  # pixels as real numbers from -3 to 3.4


def names_of(enumeration: type) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


OPERATOR_NAMES = names_of(schema.BuiltinOperator)
TYPE_NAMES = names_of(schema.TensorType)


class Net:
    """Builds a graph node by node; output shapes come from onnxruntime."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.input = GraphInput("pixels", (1, channels, height, width), SCALE, ZERO_POINT)
        self.nodes: list[Node] = []
        self.shapes = {"pixels": self.input.shape}
        self.constants: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(7)

    def add(self, kind: type[Node], *inputs: str, **fields: Any) -> str:
        name = f"{kind.__name__.lower()}{len(self.nodes)}"
        node = kind(name=name, inputs=inputs or ("pixels",), output=f"{name}/out", **fields)
        self.nodes.append(node)
        self.shapes[node.output] = (1, 1, 1, 1)
        probe = Evaluator(self.graph(), [node.output], threads=1)
        pixels = np.zeros((*self.input.shape[2:], self.input.shape[1]), np.uint8)
        self.shapes[node.output] = probe.run(pixels)[node.output].shape
        return node.output

    def conv(
        self, source: str, outputs: int, kernel: tuple[int, int] = (1, 1), **fields: Any
    ) -> str:
        inputs = self.shapes[source][1] // fields.get("groups", 1)
        weight = self.values(outputs, inputs, *kernel)
        weight *= np.float32(1 / np.sqrt(weight[0].size))
        weight *= np.geomspace(0.2, 3, outputs, dtype=np.float32).reshape(-1, 1, 1, 1)
        return self.add(Conv, source, weight=weight, bias=self.values(outputs), **fields)

    def dense(self, source: str, outputs: int, **fields: Any) -> str:
        weight = self.values(outputs, self.shapes[source][1])
        return self.add(Dense, source, weight=weight, bias=self.values(outputs), **fields)

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = values.astype(np.float32)
        return name

    def values(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)

    def graph(self) -> Graph:
        return Graph(
            self.input, self.nodes[-1].output, tuple(self.nodes), self.shapes, self.constants
        )


def pixels_for(graph: Graph, count: int = 2) -> list[np.ndarray]:
    """Random images of the graph's size; also the extremes of uint8."""
    _, channels, height, width = graph.input.shape
    rng = np.random.default_rng(3)
    images = list(rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8))
    images[0].reshape(-1)[:2] = (0, 255)
    return images


def affine_of(values: Sequence[np.ndarray]) -> Affine:
    """The int8 range that holds all values and zero."""
    low = min(0.0, *(float(v.min()) for v in values))
    high = max(0.0, *(float(v.max()) for v in values))
    scale = float(np.float32(max(high - low, 1e-6) / 255))
    return Affine(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def quantize_weights(node: Any, input_scale: float) -> QuantizedWeights:
    """Symmetric per output channel, by the largest absolute value."""
    rows = node.weight.reshape(len(node.weight), -1)
    scales = np.maximum(np.abs(rows).max(axis=1) / 127, 1e-8).astype(np.float32)
    values = np.round(rows / scales[:, None]).astype(np.int8).reshape(node.weight.shape)
    bias = np.round(node.bias / (scales.astype(np.float64) * input_scale)).astype(np.int32)
    return QuantizedWeights(values, scales, bias)


def plan_for(graph: Graph, images: Sequence[np.ndarray]) -> QuantizationPlan:
    """A plan from the least and largest value of every tensor, by hand."""
    tail = {graph.output} - {graph.logits}
    names = [name for name in graph.tensors() if name not in tail]
    evaluator = Evaluator(graph, names, threads=1)
    found = [evaluator.run(image) for image in images]
    activations = {name: affine_of([one[name] for one in found]) for name in names}
    activations[graph.input.name] = Affine(graph.input.scale, graph.input.zero_point - 128)
    for node in graph.nodes:
        if isinstance(node, MaxPool | AveragePool | Pad | Reshape | Slice | ChannelShuffle):
            activations[node.output] = activations[node.inputs[0]]
        elif isinstance(node, Sigmoid) and node.output not in tail:
            activations[node.output] = Affine(1 / 256, -128)
        elif isinstance(node, Tanh):
            activations[node.output] = Affine(1 / 128, 0)
    weights = {
        node.name: quantize_weights(node, activations[node.inputs[0]].scale)
        for node in graph.nodes
        if isinstance(node, Conv | Dense)
    }
    constants = {}
    for name, values in graph.constants.items():
        affine = affine_of([values])
        levels = np.round(values / affine.scale) + affine.zero_point
        constants[name] = (np.clip(levels, -128, 127).astype(np.int8), affine)
    return QuantizationPlan(activations, weights, constants)


def with_rounded_weights(graph: Graph, plan: QuantizationPlan) -> Graph:
    """The float graph that an int8 file stands for: its weights, biases and constants."""

    def rounded(node: Node) -> Node:
        if not isinstance(node, Conv | Dense):
            return node
        stored = plan.weights[node.name]
        steps = stored.scales.reshape(-1, *[1] * (node.weight.ndim - 1))
        source = plan.activations[node.inputs[0]].scale
        weight = (stored.values * steps).astype(np.float32)
        return replace(node, weight=weight, bias=(stored.bias * stored.scales * source).astype("f"))

    constants = {
        name: ((values.astype(np.float32) - affine.zero_point) * affine.scale).astype(np.float32)
        for name, (values, affine) in plan.constants.items()
    }
    return replace(graph, nodes=tuple(map(rounded, graph.nodes)), constants=constants)


def run(
    model: bytes, images: Sequence[np.ndarray], resolver: OpResolverType = DELEGATED
) -> list[np.ndarray]:
    """What LiteRT gives for each image, as float32 in the graph's NCHW order."""
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=resolver, num_threads=1
    )
    interpreter.allocate_tensors()
    source, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert source["dtype"] is np.uint8
    assert made["dtype"] is np.float32
    results = []
    for image in images:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        result = interpreter.get_tensor(made["index"]).copy()
        results.append(result.transpose(0, 3, 1, 2) if result.ndim == 4 else result)
    return results


@dataclass(frozen=True)
class Operator:
    """One operator of a file, as its flatbuffer says."""

    name: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Any
    input_tensors: tuple[Any, ...]
    output_tensors: tuple[Any, ...]


def model_of(data: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def operators_of(data: bytes) -> list[Operator]:
    """The operators in order, with the types of their tensors."""
    model = model_of(data)
    tensors = model.subgraphs[0].tensors

    def types(indices: Sequence[int]) -> tuple[str, ...]:
        return tuple(TYPE_NAMES[tensors[i].type] for i in indices if i >= 0)

    return [
        Operator(
            OPERATOR_NAMES[model.operatorCodes[one.opcodeIndex].builtinCode],
            model.operatorCodes[one.opcodeIndex].version,
            types(one.inputs),
            types(one.outputs),
            one.builtinOptions,
            tuple(tensors[i] for i in one.inputs if i >= 0),
            tuple(tensors[i] for i in one.outputs),
        )
        for one in model.subgraphs[0].operators
    ]


def kinds_of(data: bytes) -> list[str]:
    return [one.name for one in operators_of(data)]


def float_model(graph: Graph) -> bytes:
    return to_bytes(graph, CONTRACT, "float32")


def classifier(size: int = 32, classes: int = 10) -> Graph:
    """A small classifier whose logits spread over classes and images as a trained one's do."""
    net = Net(3, size, size)
    net.input = replace(net.input, scale=1 / 127.5, zero_point=128)
    made = net.conv("pixels", 12, (3, 3), padding=(1, 1, 1, 1), strides=(2, 2), fused=Fused.RELU6)
    for outputs in (12, 24):
        inner = net.conv(made, 24, fused=Fused.RELU6)
        inner = net.conv(inner, 24, (3, 3), padding=(1, 1, 1, 1), groups=24, fused=Fused.RELU6)
        made = net.conv(inner, outputs)
        if outputs == 12:
            made = net.add(Add, net.nodes[0].output, made)
    net.dense(net.add(GlobalAveragePool, made, keep_dims=False), classes)
    head = net.nodes[-1]
    assert isinstance(head, Dense)
    graph = net.graph()
    evaluator = Evaluator(graph, threads=1)
    logits = np.concatenate([evaluator.run(image)[graph.output] for image in nets.images(16, size)])
    factor = np.float32(2.5 / (logits - logits.mean(axis=0)).std())
    bias = (head.bias - logits.mean(axis=0)) * factor
    net.nodes[-1] = replace(head, weight=head.weight * factor, bias=bias.astype(np.float32))
    net.add(Softmax, head.output)
    return net.graph()
