"""A tiny classifier as ONNX, TFLite and SavedModel files, for the real runtimes."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporter.convert.evaluate import Evaluator, to_onnx_model
from exporter.convert.graph import (
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    GraphInput,
    Normalize,
    Softmax,
)
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.quantize.rounding.weights import quantize_weights
from models.contract import Contract, Label, Preprocessing

SIDE, CLASSES = 16, 5
CONTRACT = Contract(
    tuple(Label(f"species {index}") for index in range(CLASSES)),
    Preprocessing(SIDE, SIDE, SIDE),
    name="tiny",
)


@functools.cache
def graph() -> Graph:
    """Normalization, a convolution, a depthwise one, a dense layer, softmax.

    The dense layer is set so that the logits over the pictures have mean 0 and a
    standard deviation of 2: answers then depend on the picture and on every weight.
    """
    rough = _graph(np.eye(CLASSES, 8, dtype=np.float32), np.zeros(CLASSES, np.float32))
    evaluator = Evaluator(rough, ["c"], threads=1)
    features = np.concatenate([evaluator.run(picture)["c"] for picture in pictures()])
    weight = np.random.default_rng(3).normal(0, 1, (CLASSES, 8)) / features.std(axis=0)
    spread = (features - features.mean(axis=0)) @ weight.T
    weight *= 2 / spread.std(axis=0)[:, None]
    bias = -(weight @ features.mean(axis=0))
    return _graph(weight.astype(np.float32), bias.astype(np.float32))


def _graph(head: np.ndarray, bias: np.ndarray) -> Graph:
    random = np.random.default_rng(2)

    def weights(*shape: int) -> np.ndarray:
        return random.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    half = np.full(3, 127.5, np.float32)
    nodes = (
        Normalize(name="norm", inputs=("image",), output="x", mean=half, scale=1 / half),
        Conv(name="conv", inputs=("x",), output="a", weight=weights(8, 3, 3, 3),
             bias=np.full(8, 3, np.float32), strides=(2, 2), padding=(0, 0, 1, 1),
             fused=Fused.RELU6),
        Conv(name="depthwise", inputs=("a",), output="b", weight=weights(8, 1, 3, 3),
             bias=weights(8), padding=(1, 1, 1, 1), groups=8),
        GlobalAveragePool(name="pool", inputs=("b",), output="c", keep_dims=False),
        Dense(name="dense", inputs=("c",), output="logits", weight=head, bias=bias),
        Softmax(name="softmax", inputs=("logits",), output="probabilities"),
    )  # fmt: skip
    shapes = {
        "image": (1, 3, SIDE, SIDE), "x": (1, 3, SIDE, SIDE), "a": (1, 8, 8, 8),
        "b": (1, 8, 8, 8), "c": (1, 8), "logits": (1, CLASSES), "probabilities": (1, CLASSES),
    }  # fmt: skip
    return Graph(GraphInput("image", (1, 3, SIDE, SIDE)), "probabilities", nodes, shapes)


def pictures(count: int = 12) -> list[np.ndarray]:
    """Blocks of colour with grain, uint8 `[16, 16, 3]`."""
    random = np.random.default_rng(9)
    found = []
    for _ in range(count):
        colours = random.integers(0, 256, 3) + random.integers(-60, 60, (2, 2, 3))
        blocks = colours.repeat(8, 0).repeat(8, 1)
        grain = random.normal(0, 10, (SIDE, SIDE, 3))
        found.append(np.clip(blocks + grain, 0, 255).astype(np.uint8))
    return found


def expected(pixels: np.ndarray) -> np.ndarray:
    """What the graph gives, by onnxruntime on its float32 NCHW form."""
    return Evaluator(graph(), threads=1).run(pixels)["probabilities"][0]


def write_onnx(path: Path, metadata: dict[str, str] | None = None, end: str | None = None) -> None:
    """`model.onnx` as the contract says: uint8 NHWC in, probabilities out."""
    net = graph()
    model = to_onnx_model(net, [end or net.output])
    body = model.graph
    wanted = body.input[0].name
    del body.input[:]
    body.input.append(
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, SIDE, SIDE, 3])
    )
    body.node.insert(0, helper.make_node("Transpose", ["wide"], [wanted], perm=[0, 3, 1, 2]))
    body.node.insert(0, helper.make_node("Cast", ["pixels"], ["wide"], to=TensorProto.FLOAT))
    stored = {"contract": CONTRACT.dumps(), "labels": "\n".join(CONTRACT.names)}
    helper.set_model_props(model, stored if metadata is None else metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def write_tflite(path: Path, precision: str, contract: Contract = CONTRACT) -> None:
    from exporter.convert.targets import tflite

    chosen = plan() if precision == "int8" else None
    tflite.write(graph(), contract, path, precision, chosen)  # type: ignore[arg-type]


def plan() -> QuantizationPlan:
    """Minimum and maximum over the pictures."""
    net = graph()
    names = [name for name in net.tensors() if name != net.output]
    evaluator = Evaluator(net, names, threads=1)
    runs = [evaluator.run(picture) for picture in pictures()]
    activations = {}
    for name in names:
        low = min(0.0, *(float(run[name].min()) for run in runs))
        high = max(0.0, *(float(run[name].max()) for run in runs))
        scale = (high - low) / 255
        activations[name] = Affine(scale, round(-128 - low / scale))
    activations["image"] = Affine(1.0, -128)
    weights = {
        node.name: quantize_weights(
            node.weight, node.bias, activations[node.inputs[0]], activations[node.output]
        )[0]
        for node in net.nodes
        if isinstance(node, Conv | Dense)
    }
    return QuantizationPlan(activations, weights)
