"""A whole network through the TFLite writer: ONNX file, float files, calibrated int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from exporter.convert.evaluate import Evaluator
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import Conv, Dense, Fused, Graph, Node
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.targets.tflite.writer import to_bytes
from support import nets
from support.tflite_files import DELEGATED, PLAIN, classifier, kinds_of, plan_for, run


def answers(graph: Graph, images: list[np.ndarray]) -> np.ndarray:
    evaluator = Evaluator(graph, threads=1)
    return np.concatenate([evaluator.run(image)[graph.output] for image in images])


@pytest.mark.parametrize(
    ("precision", "difference", "agreement"), [("float32", 1e-5, 1.0), ("float16", 3e-2, 0.95)]
)
def test_onnx_file_equals_float_files(
    precision: str, difference: float, agreement: float, small_onnx_path: Path
) -> None:
    images = nets.images(24, seed=2)
    session = onnxruntime.InferenceSession(str(small_onnx_path))
    (source,) = session.get_inputs()
    expected = np.concatenate([session.run(None, {source.name: one[None]})[0] for one in images])
    assert len(set(expected.argmax(axis=1))) > 2
    model = to_bytes(read_graph(small_onnx_path), nets.small_contract(), precision)
    for resolver in (DELEGATED, PLAIN):
        found = np.concatenate(run(model, images, resolver))
        assert float(np.abs(found - expected).max()) <= difference
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= agreement
    assert "TRANSPOSE" not in kinds_of(model)


def test_int8_is_near_and_a_layer_of_zeros_is_not() -> None:
    """Ranges by hand, from the least and largest value: what the writer does is tried here."""
    graph = classifier()
    plan = plan_for(graph, nets.images(16, 32))
    images = nets.images(16, 32, seed=4)
    expected = answers(graph, images)

    def error(with_plan: QuantizationPlan) -> float:
        model = to_bytes(graph, nets.small_contract(), "int8", with_plan)
        return float(np.abs(np.concatenate(run(model, images)) - expected).mean())

    honest = error(plan)
    assert honest < 0.03
    for node in graph.nodes:
        if isinstance(node, Conv | Dense):
            weights = plan.weights[node.name]
            zeroed = replace(weights, values=np.zeros_like(weights.values))
            assert error(replace(plan, weights={**plan.weights, node.name: zeroed})) > 2 * honest


def test_lost_caps_show_in_a_float_file() -> None:
    """Mutant: ReLU written for ReLU6."""
    graph = classifier()
    images = nets.images(8, 32, seed=4)

    def uncapped(node: Node) -> Node:
        capped = isinstance(node, Conv) and node.fused is Fused.RELU6
        return replace(node, fused=Fused.RELU) if capped else node

    mutant = replace(graph, nodes=tuple(map(uncapped, graph.nodes)))
    found = np.concatenate(run(to_bytes(mutant, nets.small_contract(), "float32"), images))
    assert float(np.abs(found - answers(graph, images)).max()) > 1e-3
