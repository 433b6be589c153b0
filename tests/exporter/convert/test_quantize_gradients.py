"""Back-propagation to every tensor, against finite differences and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import target_graphs
from onnx import helper

from exporter.convert.evaluate import to_feed, to_onnx_model
from exporter.convert.graph import (
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Fused,
    Graph,
    MaxPool,
    Mul,
    Sub,
)
from exporter.convert.quantize.ranges.backward import gradient_name
from exporter.convert.quantize.ranges.gradients import LogitGradients, backward_model

KINDS = sorted(target_graphs.CASES | target_graphs.ZOO_CASES)


def gradients(graph: Graph, image: np.ndarray, probe: np.ndarray) -> dict[str, np.ndarray]:
    skipped = {graph.input.name, graph.output} - {graph.logits}
    names = [name for name in graph.tensors() if name not in skipped]
    model = backward_model(graph, names)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = {graph.input.name: to_feed(graph.input, image), "probe": probe}
    found = session.run([gradient_name(name) for name in names], feed)
    return dict(zip(names, found, strict=True))


def moved(graph: Graph, image: np.ndarray, tensor: str, by: np.ndarray) -> np.ndarray:
    """The logits once `by` is added to a tensor, in float32."""
    model = to_onnx_model(graph, [graph.logits])
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.output[0] == tensor:
            node.output[0] = "before"
            nodes.append(helper.make_node("Add", ["before", "by"], [tensor]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.input.append(helper.make_tensor_value_info("by", 1, by.shape))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = {graph.input.name: to_feed(graph.input, image), "by": by.astype(np.float32)}
    return session.run([graph.logits], feed)[0].astype(np.float64)


def check(graph: Graph) -> None:
    """A step along a random direction moves the logits as the derivatives say."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*graph.input.shape[2:], 3), dtype=np.uint8)
    probe = random.choice(np.float32([-1, 1]), graph.shapes[graph.logits])
    for name, found in gradients(graph, image, probe).items():
        assert found.shape == graph.shapes[name]
        step = random.standard_normal(found.shape)
        step *= 1e-3 / np.sqrt(step.size)
        change = (moved(graph, image, name, step) - moved(graph, image, name, -step)) * probe
        expected = 2 * float((found * step).sum())
        scale = 2 * float(np.sqrt(((found * step) ** 2).sum())) + 1e-5
        assert abs(change.sum() - expected) <= 0.15 * scale, name


@pytest.mark.parametrize("name", KINDS)
def test_every_node_kind_against_finite_differences(name: str) -> None:
    sketch = target_graphs.make(name)
    sketch.input = replace(sketch.input, scale=1 / 64, zero_point=128)
    check(sketch.classify())


@pytest.mark.parametrize("kind", ["max", "average", "average with padding", "strided", "sums"])
def test_windows_strides_and_broadcasts_against_finite_differences(kind: str) -> None:
    sketch = target_graphs.Sketch(height=8, width=9, seed=2)
    sketch.input = replace(sketch.input, scale=1 / 64, zero_point=128)
    first = sketch.conv(4, 3)
    if kind == "max":
        sketch.add(MaxPool, kernel=(3, 3), strides=(2, 2), padding=(1, 0, 1, 1))
    elif kind.startswith("average"):
        sketch.add(
            AveragePool,
            kernel=(3, 2),
            strides=(2, 1),
            padding=(1, 1, 1, 1),
            include_padding=kind == "average with padding",
        )
    elif kind == "strided":
        sketch.conv(6, 4, 3, 2, strides=(3, 2), padding=(1, 0, 0, 1), dilations=(1, 2))
        sketch.conv(6, 6, 2, 2, strides=(2, 2), groups=6)
    else:
        small = sketch.add(AveragePool, first, kernel=(8, 9), strides=(1, 1))
        added = sketch.add(Add, first, small, fused=Fused.RELU)
        taken = sketch.add(Sub, small, added)
        sketch.add(Mul, taken, first)
        sketch.add(Concat, sketch.last, first)
    sketch.conv(4, sketch.shape(sketch.last)[1])
    check(sketch.classify())


def test_by_hand() -> None:
    """logits = (2 relu(x0), 3 relu(x0) + x1'): their derivative by relu(x0) is (2, 3).

    J'J of that value is 4 + 9 = 13, less what one probe's signs leave: (2 - 3)^2 or (2 + 3)^2.
    """
    sketch = target_graphs.Sketch(height=1, width=1)
    weight = np.float32([[0.01, 0, 0], [0, -0.01, 0]]).reshape(2, 3, 1, 1)
    first = sketch.add(Conv, weight=weight, bias=np.zeros(2, "f"), fused=Fused.RELU)
    sketch.add(target_graphs.Reshape)
    sketch.add(Dense, weight=np.float32([[2, 0], [3, 1]]), bias=np.zeros(2, "f"))
    graph = sketch.graph()
    image = np.full((1, 1, 3), 100, np.uint8)
    for probe, expected in (([1, 1], 5.0), ([1, -1], -1.0)):
        found = gradients(graph, image, np.float32([probe]))
        assert found[first].reshape(-1).tolist() == [expected, probe[1]]
        assert found[graph.logits].tolist() == [probe]
    many = LogitGradients(graph, [first], probes=400).run(image)
    assert many[first].reshape(-1) == pytest.approx([13.0, 1.0], rel=0.1)


def test_the_same_image_gives_the_same_estimate() -> None:
    graph = target_graphs.make(KINDS[0]).classify()
    names = [graph.nodes[0].output]
    image = np.random.default_rng(0).integers(0, 256, (*graph.input.shape[2:], 3), dtype=np.uint8)
    one, other = (LogitGradients(graph, names).run(image) for _ in range(2))
    assert np.array_equal(one[names[0]], other[names[0]])
    assert one[names[0]].shape == graph.shapes[names[0]] and one[names[0]].min() >= 0


def test_a_tensor_that_the_logits_do_not_see() -> None:
    sketch = target_graphs.Sketch()
    first = sketch.conv(4, 3)
    loose = sketch.add(target_graphs.Relu, first)
    sketch.last = first
    graph = sketch.classify()
    image = np.zeros((*graph.input.shape[2:], 3), np.uint8)
    assert not LogitGradients(graph, [loose]).run(image)[loose].any()
