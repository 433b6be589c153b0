"""Each node kind in TensorFlow against onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from target_graphs import CASES, ZOO_CASES, Sketch, make, some_pixels

from exporter.convert import graph as graph_module
from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Graph, Node, Normalize, Relu
from exporter.convert.targets.input_scale import fold_input_scale
from exporter.convert.targets.saved_model.nodes import build, same_padding, supported_kinds

tf = pytest.importorskip("tensorflow")


def in_tensorflow(graph: Graph, pixels: np.ndarray) -> np.ndarray:
    """The graph's output as the graph has it, NCHW."""
    found = build(tf, graph)(tf.constant(pixels[None])).numpy()
    return found.transpose(0, 3, 1, 2) if found.ndim == 4 else found


def in_onnxruntime(graph: Graph, pixels: np.ndarray) -> np.ndarray:
    return Evaluator(graph, threads=1).run(pixels)[graph.output]


def test_every_node_kind_is_there() -> None:
    kinds = {
        kind
        for kind in vars(graph_module).values()
        if isinstance(kind, type) and issubclass(kind, Node) and kind is not Node
    }
    assert supported_kinds() == kinds


@pytest.mark.parametrize("size", [(9, 11), (12, 8)], ids=["odd", "even"])
@pytest.mark.parametrize("name", [*CASES, *ZOO_CASES])
def test_node_equals_onnxruntime(name: str, size: tuple[int, int]) -> None:
    if size == (12, 8) and name in ("subtract_constant", "multiply_columns"):
        pytest.skip("the constant has the other size")
    graph = make(name, *size).graph()
    pixels = some_pixels(*size)
    found, wanted = in_tensorflow(graph, pixels), in_onnxruntime(graph, pixels)
    assert found.shape == wanted.shape
    assert np.ptp(wanted) > 0.05  # a constant answer would prove nothing
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-5)


def test_input_scale_and_zero_point() -> None:
    sketch = Sketch()
    sketch.conv(4, 3, 3, 3, padding=(1, 1, 1, 1))
    graph = sketch.graph()
    graph = replace(graph, input=replace(graph.input, scale=1 / 127.5, zero_point=127))
    folded = fold_input_scale(graph)
    assert folded.input.scale == 1.0
    assert folded.input.zero_point == 127
    pixels = some_pixels()
    wanted = in_onnxruntime(graph, pixels)
    for candidate in (graph, folded):
        np.testing.assert_allclose(in_tensorflow(candidate, pixels), wanted, atol=2e-5)


def test_input_scale_before_a_normalization() -> None:
    sketch = Sketch()
    sketch.add(Normalize, mean=np.float32([0.1, 0, -0.2]), scale=np.float32([1, 1.1, 0.9]))
    graph = sketch.graph()
    graph = replace(graph, input=replace(graph.input, scale=1 / 57.6, zero_point=116))
    folded = fold_input_scale(graph)
    assert (folded.input.scale, folded.input.zero_point) == (1.0, 0)
    pixels = some_pixels()
    wanted = in_onnxruntime(graph, pixels)
    for candidate in (graph, folded):
        np.testing.assert_allclose(in_tensorflow(candidate, pixels), wanted, atol=2e-6)


def test_input_scale_stays_where_something_else_reads_the_pixels() -> None:
    sketch = Sketch()
    sketch.add(Relu)
    graph = sketch.graph()
    graph = replace(graph, input=replace(graph.input, scale=0.5))
    assert fold_input_scale(graph) is graph


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [(9, 3, 1, 1), (9, 3, 2, 1), (8, 3, 2, 1), (8, 2, 3, 1), (9, 3, 1, 2), (7, 1, 2, 1)],
)
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int, dilation: int) -> None:
    """A picture of ones under a kernel of ones counts what lies inside: it must agree."""
    x: Any = np.ones((1, size, size, 1), np.float32)
    weight = np.ones((kernel, kernel, 1, 1), np.float32)
    top, left, bottom, right = same_padding(
        (size, size), (kernel, kernel), (stride, stride), (dilation, dilation)
    )
    options = {"strides": stride, "dilations": dilation}
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    wanted = tf.nn.conv2d(x, weight, padding="SAME", **options).numpy()
    found = tf.nn.conv2d(padded, weight, padding="VALID", **options).numpy()
    np.testing.assert_array_equal(found, wanted)
