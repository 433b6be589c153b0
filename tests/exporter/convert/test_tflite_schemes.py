"""Dynamic range, int8 weights only and int16 activations as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Graph, GraphError
from exporter.convert.quantize.mixed import schemes as mixed_schemes
from exporter.convert.quantize.mixed.sensitivity import can_be_dynamic, effect
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.quantize import Quantized
from exporter.convert.targets.tflite.writer import minimum_runtime, to_bytes
from support import nets
from support.node_cases import ALL, Case
from support.tflite_files import (
    CONTRACT,
    DELEGATED,
    PLAIN,
    classifier,
    operators_of,
    pixels_for,
    plan_for,
    run,
)

Scheme = Callable[[Quantized, Sequence[np.ndarray]], Quantized]
SCHEMES: tuple[Scheme, ...] = (
    mixed_schemes.dynamic_range,
    mixed_schemes.int8_weights,
    mixed_schemes.int16,
)
each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda one: one.__name__)


def made(scheme: Scheme, graph: Graph, images: Sequence[np.ndarray]) -> bytes:
    found = scheme(Quantized(graph, plan_for(graph, images)), images)
    return to_bytes(found.graph, CONTRACT, "int8", found.plan)


def layers(model: bytes) -> set[tuple[str, str, str, str, int]]:
    """Kind, the types of input, weight and output, and version of each layer."""
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return {
        (one.name, *one.inputs[:2], one.outputs[0], one.version)
        for one in operators_of(model)
        if one.name in kinds
    }


@each_scheme
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_node_has_a_form(case: Case, scheme: Scheme) -> None:
    graph = case.net().graph()
    images = pixels_for(graph)
    model = made(scheme, graph, images)
    evaluator = Evaluator(graph, threads=1)
    for image, found in zip(images, run(model, images), strict=True):
        expected = evaluator.run(image)[graph.output]
        assert float(np.abs(found - expected).max()) <= 0.05 * max(1.0, np.abs(expected).max())


@each_scheme
@pytest.mark.parametrize("resolver", [DELEGATED, PLAIN])
def test_nearer_to_float_than_int8(scheme: Scheme, resolver: object) -> None:
    graph, images = classifier(), nets.images(16, 32)
    evaluator = Evaluator(graph)
    reference = np.concatenate([evaluator.run(image)[graph.output] for image in images])
    plan = plan_for(graph, images)
    int8 = effect(reference, np.concatenate(run(to_bytes(graph, CONTRACT, "int8", plan), images)))
    found = effect(reference, np.concatenate(run(made(scheme, graph, images), images, resolver)))  # type: ignore[arg-type]
    assert found.noise < int8.noise


def test_dynamic_range_keeps_int8_weights_in_float_layers(tmp_path: Path) -> None:
    model = made(mixed_schemes.dynamic_range, classifier(), nets.images(4, 32))
    assert layers(model) == {
        ("CONV_2D", "FLOAT32", "INT8", "FLOAT32", 5),
        ("DEPTHWISE_CONV_2D", "FLOAT32", "FLOAT32", "FLOAT32", 1),
        ("FULLY_CONNECTED", "FLOAT32", "INT8", "FLOAT32", 12),
    }
    assert runtime_of(model, tmp_path) == "2.17.0"


def test_int8_weights_are_dequantized(tmp_path: Path) -> None:
    model = made(mixed_schemes.int8_weights, classifier(), nets.images(4, 32))
    assert {one[1:] for one in layers(model)} == {("FLOAT32", "FLOAT32", "FLOAT32", 1)}
    stored = [one for one in operators_of(model) if one.inputs == ("INT8",)]
    assert {(one.name, one.version) for one in stored} == {("DEQUANTIZE", 5)}
    assert len(stored) == 8
    assert runtime_of(model, tmp_path) == "2.7.0"


def test_int16_activations_have_no_zero_point(tmp_path: Path) -> None:
    model = made(mixed_schemes.int16, classifier(), nets.images(4, 32))
    assert layers(model) == {
        ("CONV_2D", "INT16", "INT8", "INT16", 4),
        ("DEPTHWISE_CONV_2D", "INT16", "INT8", "INT16", 5),
        ("FULLY_CONNECTED", "INT16", "INT8", "INT16", 7),
    }
    for one in operators_of(model):
        for tensor in (*one.input_tensors, *one.output_tensors):
            if tensor.type == 7:  # INT16
                assert list(tensor.quantization.zeroPoint) == [0]
        if one.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            assert one.inputs[2] == "INT64"
    assert runtime_of(model, tmp_path) == "2.4.0"


def runtime_of(model: bytes, folder: Path) -> str:
    path = folder / "model.tflite"
    path.write_bytes(model)
    return minimum_runtime(path)


@pytest.mark.parametrize("scheme", SCHEMES[:2], ids=lambda one: one.__name__)
def test_float_arithmetic_is_one_partition(scheme: Scheme) -> None:
    interpreter = Interpreter(model_content=made(scheme, classifier(), nets.images(4, 32)))
    interpreter.allocate_tensors()
    parts = [one for one in interpreter._get_ops_details() if one["op_name"] == "DELEGATE"]
    assert len(parts) == 1


def test_a_depthwise_layer_cannot_be_dynamic() -> None:
    graph, images = classifier(), nets.images(4, 32)
    plan: QuantizationPlan = plan_for(graph, images)
    names = frozenset(plan.weights)
    wrong = mixed_schemes.replace(plan, float_nodes=names, dynamic_nodes=names)
    assert not all(can_be_dynamic(graph, n) for n in graph.nodes if n.name in names)
    with pytest.raises(GraphError, match="depthwise"):
        to_bytes(graph, CONTRACT, "int8", wrong)
