"""Each node kind as a Core ML file, read back by the strict evaluator, against onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from target_graphs import CASES, ZOO_CASES, Sketch, make, small_contract, some_pixels

from exporter.convert import graph as graph_module
from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Dense, Graph, Node, Sigmoid
from exporter.convert.quantize.rounding.sum_preserving import to_int8
from exporter.convert.targets import coreml
from models.contract import Contract

# not importorskip: a plain import of coremltools drags TensorFlow and torch in
pytestmark = pytest.mark.skipif(find_spec("coremltools") is None, reason="needs coremltools")

FILES = {
    "float32": ("m.mlpackage", "float32", 1e-5),
    "float16": ("m.mlpackage", "float16", 6e-3),
    "int8": ("m.mlpackage", "int8", 6e-3),
    "mlmodel": ("m.mlmodel", "float32", 1e-5),
}


def evaluated(path: Path, contract: Contract, pixels: np.ndarray) -> np.ndarray:
    from exporter.prove.runtimes.coreml import CoreMLRuntime

    with CoreMLRuntime(run_natively=False).open(path, contract) as session:
        assert session.labels() == contract.names
        return session.probabilities(pixels)


def expected(graph: Graph, pixels: np.ndarray, precision: str = "float32") -> np.ndarray:
    """onnxruntime in float32; for int8 on the weights that the file should hold."""

    def rounded(node: Node) -> Node:
        if not isinstance(node, Conv | Dense):
            return node
        values, scales = to_int8(node.weight, np.float16)
        shaped = scales.astype(np.float32).reshape((-1,) + (1,) * (values.ndim - 1))
        return replace(node, weight=values.astype(np.float32) * shaped)

    if precision == "int8":
        graph = replace(graph, nodes=tuple(rounded(node) for node in graph.nodes))
    return Evaluator(graph, threads=1).run(pixels)[graph.output][0]


def test_every_node_kind_is_there() -> None:
    kinds = {
        kind
        for kind in vars(graph_module).values()
        if isinstance(kind, type) and issubclass(kind, Node) and kind is not Node
    }
    assert coreml.supported_kinds() == kinds


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", [*CASES, *ZOO_CASES])
def test_node_equals_onnxruntime(name: str, kind: str, tmp_path: Path) -> None:
    file, precision, tolerance = FILES[kind]
    graph = make(name).classify()
    coreml.write(graph, small_contract(), tmp_path / file, precision)
    pixels = some_pixels()
    wanted = expected(graph, pixels, precision)
    assert np.ptp(wanted) > 0.1  # evenly spread probabilities would prove nothing
    found = evaluated(tmp_path / file, small_contract(), pixels)
    np.testing.assert_allclose(found, wanted, atol=tolerance)


@pytest.mark.parametrize("kind", FILES)
def test_input_scale_is_exact(kind: str, tmp_path: Path) -> None:
    """A folded normalization: scale 1/127.5, zero point 127, then a convolution."""
    file, precision, tolerance = FILES[kind]
    sketch = Sketch()
    sketch.conv(4, 3, 3, 3, padding=(1, 1, 1, 1))
    graph = sketch.classify()
    graph = replace(graph, input=replace(graph.input, scale=1 / 127.5, zero_point=127))
    coreml.write(graph, small_contract(), tmp_path / file, precision)
    pixels = some_pixels()
    found = evaluated(tmp_path / file, small_contract(), pixels)
    wanted = expected(graph, pixels, precision)
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(found, wanted, atol=tolerance)


@pytest.mark.parametrize("kind", FILES)
def test_several_labels_at_once(kind: str, tmp_path: Path) -> None:
    """Sigmoid outputs go into the same dictionary; they need not sum to 1."""
    file, precision, tolerance = FILES[kind]
    contract = small_contract(activation="sigmoid")
    graph = make("residual").classify(Sigmoid)
    coreml.write(graph, contract, tmp_path / file, precision)
    pixels = some_pixels()
    wanted = expected(graph, pixels, precision)
    assert abs(wanted.sum() - 1) > 0.2
    found = evaluated(tmp_path / file, contract, pixels)
    np.testing.assert_allclose(found, wanted, atol=tolerance)
