"""Each node kind alone: LiteRT, with and without XNNPACK, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import PadV2OptionsT

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import ChannelShuffle, Graph, Padding, Sigmoid, Softmax
from exporter.convert.targets.tflite import layout
from exporter.convert.targets.tflite.flat import Quantization
from exporter.convert.targets.tflite.lowering import _LOWERINGS, Lowering, Op, Value
from exporter.convert.targets.tflite.operators import linear, shapes
from exporter.convert.targets.tflite.padding import Window
from exporter.convert.targets.tflite.writer import to_bytes
from support.node_cases import ALL, Case
from support.tflite_files import (
    CONTRACT,
    DELEGATED,
    PLAIN,
    Operator,
    kinds_of,
    operators_of,
    pixels_for,
    plan_for,
    run,
    with_rounded_weights,
)

each_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)


def test_every_kind_has_a_case() -> None:
    tried = {type(node) for case in ALL for node in case.net().nodes}
    assert tried == set(_LOWERINGS)


@each_case
def test_float_equals_onnxruntime(case: Case) -> None:
    graph = case.net().graph()
    images = pixels_for(graph)
    model = to_bytes(graph, CONTRACT, "float32")
    evaluator = Evaluator(graph, threads=1)
    for resolver in (DELEGATED, PLAIN):
        for image, found in zip(images, run(model, images, resolver), strict=True):
            expected = evaluator.run(image)[graph.output]
            assert found.shape == expected.shape
            tolerance = 1e-5 * max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    shuffles = sum(isinstance(node, ChannelShuffle) for node in graph.nodes)
    assert kinds_of(model).count("TRANSPOSE") == shuffles


@each_case
def test_int8_is_within_steps_of_float(case: Case) -> None:
    """Against the float graph with the file's own weights: only activations are rounded."""
    graph = case.net().graph()
    images = pixels_for(graph)
    plan = plan_for(graph, images)
    model = to_bytes(graph, CONTRACT, "int8", plan)
    evaluator = Evaluator(with_rounded_weights(graph, plan), threads=1)
    affine = plan.activations.get(graph.output)
    for resolver in (DELEGATED, PLAIN):
        for image, found in zip(images, run(model, images, resolver), strict=True):
            expected = evaluator.run(image)[graph.output]
            # after a float softmax or sigmoid, steps of the logits' scale are an upper bound
            scale = affine.scale if affine else plan.activations[graph.logits].scale
            assert float(np.abs(found - expected).max()) <= case.steps * scale
    check_no_float_body(graph, operators_of(model))


@each_case
def test_float16_is_near_and_half_as_large(case: Case) -> None:
    graph = case.net().graph()
    images = pixels_for(graph, 1)
    model = to_bytes(graph, CONTRACT, "float16")
    expected = Evaluator(graph, threads=1).run(images[0])[graph.output]
    bound = 4e-3 * max(1.0, float(np.abs(expected).max()))
    assert float(np.abs(run(model, images)[0] - expected).max()) <= bound
    for one in operators_of(model):
        floats = [t for t in one.input_tensors if t.buffer and t.type == 0]
        assert not floats or one.name == "PADV2"  # PADV2's one number is no weight


def check_no_float_body(graph: Graph, operators: list[Operator]) -> None:
    """Everything int8 from the pixels to the logits, but for what TFLite has in float only."""
    body = [one for one in operators if one.name not in ("QUANTIZE", "DEQUANTIZE")]
    floats = [one for one in body if one.name in ("LOCAL_RESPONSE_NORMALIZATION", "HARD_SWISH")]
    assert all(one.inputs == one.outputs == ("FLOAT32",) for one in floats)
    body = [one for one in body if one not in floats]
    if isinstance(graph.producer(graph.output), Softmax | Sigmoid):
        last = body.pop()
        assert last.name in ("SOFTMAX", "LOGISTIC")
        assert last.outputs == ("FLOAT32",)
    for one in body:
        assert set(one.inputs) | set(one.outputs) <= {"INT8", "INT32"}, one
        assert one.outputs == ("INT8",)
    assert operators[0].name == "QUANTIZE"
    assert operators[0].inputs == ("UINT8",)
    assert [one.name for one in operators].count("DEQUANTIZE") == 1 + len(floats)


def test_the_wrong_side_padded_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: stride 2 with even padding taken for SAME, the common mistake of converters."""
    monkeypatch.setattr(Window, "is_same", lambda window: True)
    with pytest.raises(AssertionError):
        test_float_equals_onnxruntime(find("conv stride 2 even needs PAD"))


def test_rows_and_columns_swapped_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        layout, "conv_weight", lambda w: np.ascontiguousarray(w.transpose(0, 3, 2, 1))
    )
    with pytest.raises(AssertionError):
        test_float_equals_onnxruntime(find("conv 3x3 as SAME"))


def test_a_lost_activation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "fused", lambda node: 0)
    with pytest.raises(AssertionError):
        test_float_equals_onnxruntime(find("conv stride 2 even needs PAD"))


def test_scales_on_the_wrong_axis_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: one scale where there should be one a channel."""
    honest = Quantization.symmetric

    def flattened(scales: np.ndarray, axis: int) -> Quantization:
        return honest(np.full_like(scales, np.mean(scales)), axis)

    monkeypatch.setattr(Quantization, "symmetric", flattened)
    with pytest.raises(AssertionError):
        test_int8_is_within_steps_of_float(find("conv depthwise"))


def test_zero_instead_of_the_zero_point_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: int8 padding with level 0."""

    def wrong(source: Value, made: Value, padding: Padding, to: Lowering, value: float) -> None:
        top, left, bottom, right = padding
        amounts = to.integers([[0, 0], [top, bottom], [left, right], [0, 0]])
        assert source.affine is not None
        level = to.int8_constant("level", np.array(0, np.int8), source.affine)
        to.op(Op.PADV2, [source, amounts, level], made, PadV2OptionsT())

    monkeypatch.setattr(shapes, "fill", wrong)
    for name in ("conv stride 2 even needs PAD", "Pad"):
        with pytest.raises(AssertionError):
            test_int8_is_within_steps_of_float(find(name))


def find(name: str) -> Case:
    return next(case for case in ALL if case.name == name)
