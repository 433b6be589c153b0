"""From a graph and images to a plan: what is shared, given, never clipped and refused."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import target_graphs

from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import (
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    GraphInput,
    MaxPool,
    Mul,
    Pad,
    Relu6,
    Reshape,
    Sigmoid,
    Softmax,
)
from exporter.convert.passes import standard
from exporter.convert.quantize.calibrate import FEW_IMAGES, calibrate
from exporter.convert.quantize.errors import CalibrationError, QuantizationError
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.quantize.ranges.observe import Observation
from exporter.convert.quantize.ranges.rules import RULES, Range, choose_range
from support import nets

PIXELS = Affine(0.5, -18)  # int8 zero point of the input below


def _sketch(**options: Any) -> target_graphs.Sketch:
    sketch = target_graphs.Sketch(**options)
    sketch.input = replace(sketch.input, scale=0.5, zero_point=110)
    return sketch


def _images(graph: Graph, count: int = 3, seed: int = 0) -> list[np.ndarray]:
    height, width = graph.input.shape[2:]
    random = np.random.default_rng(seed)
    return list(random.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def _plan(graph: Graph, **options: Any) -> QuantizationPlan:
    return calibrate(graph, _images(graph), **options)


def test_every_tensor_up_to_the_logits_and_every_layer() -> None:
    sketch = _sketch()
    sketch.conv(4, 3)
    graph = sketch.classify()
    plan = _plan(graph)
    assert list(plan.activations) == [t for t in graph.tensors() if t != graph.output]
    assert set(plan.weights) == {n.name for n in graph.nodes if isinstance(n, Conv | Dense)}
    assert plan.activations["image"] == PIXELS


def test_a_graph_that_ends_in_logits_is_quantized_to_its_end() -> None:
    sketch = _sketch()
    sketch.conv(4, 3)
    assert list(_plan(sketch.graph()).activations) == ["image", sketch.last]


@pytest.mark.parametrize("name", sorted(target_graphs.CASES))
def test_every_node_kind_can_be_calibrated(name: str) -> None:
    graph = target_graphs.make(name).classify()
    plan = calibrate(graph, _images(graph))
    assert set(plan.activations) == set(graph.tensors()) - {graph.output}
    assert set(plan.constants) == {
        name
        for node in graph.nodes
        if not isinstance(node, Conv | Dense)
        for name in node.inputs
        if name in graph.constants
    }


@pytest.mark.parametrize(
    "tie",
    [
        (MaxPool, {"kernel": (2, 2), "strides": (2, 2)}),
        (AveragePool, {"kernel": (2, 2), "strides": (2, 2)}),
        (Pad, {"padding": (1, 1, 1, 1)}),
        (Reshape, {}),
    ],
    ids=lambda tie: tie[0].__name__,
)
def test_operators_that_cannot_rescale_keep_their_inputs_scale(tie: tuple) -> None:
    kind, options = tie
    sketch = _sketch()
    source = sketch.conv(4, 3)
    made = sketch.add(kind, **options)
    plan = _plan(sketch.classify())
    assert plan.activations[made] == plan.activations[source]


def test_what_is_tied_to_the_pixels_has_their_scale() -> None:
    sketch = _sketch()
    made = sketch.add(MaxPool, kernel=(2, 2), strides=(2, 2))
    sketch.conv(4, 3)
    assert _plan(sketch.classify()).activations[made] == PIXELS


def test_a_padded_value_widens_the_range() -> None:
    sketch = _sketch()
    sketch.conv(4, 3, fused=Fused.RELU6)
    made = sketch.add(Pad, padding=(1, 1, 1, 1), value=-30.0)
    plan = _plan(sketch.classify())
    by = plan.activations[made]
    assert by.scale * (-128 - by.zero_point) == pytest.approx(-30.0, abs=by.scale)


def test_a_concatenation_has_one_scale_for_all_parts() -> None:
    sketch = _sketch()
    first = sketch.conv(4, 3)
    second = sketch.add(
        Conv, "image", weight=sketch.numbers(2, 3, 1, 1, scale=9), bias=sketch.numbers(2)
    )
    made = sketch.add(Concat, first, second)
    pooled = sketch.add(MaxPool, kernel=(2, 2), strides=(2, 2))
    graph = sketch.classify()
    plan = _plan(graph, rule="min_max")
    shared = {plan.activations[name] for name in (first, second, made, pooled)}
    assert len(shared) == 1
    tensors = plan.record["activations"]["tensors"]
    assert tensors[first]["shared_with"][:3] == [second, made, pooled]
    assert "shared_with" not in tensors["image"]


def test_a_concatenation_leaves_given_scales_alone() -> None:
    sketch = _sketch()
    small = sketch.numbers(4, 3, 1, 1, scale=1e-3)
    value = sketch.add(Conv, weight=small, bias=np.zeros(4, "f"))
    gate = sketch.add(Sigmoid)
    made = sketch.add(Concat, "image", gate, value)
    plan = _plan(sketch.classify(), rule="min_max")
    assert plan.activations["image"] == PIXELS
    assert plan.activations[gate] == Affine(1 / 256, -128)
    assert plan.activations[made] == plan.activations[value]
    # it holds the pixels, up to 0.5 * 145, and nothing else that is large
    assert plan.activations[made].scale * 255 >= 0.5 * 255 - 1


def test_global_average_pooling_has_a_scale_of_its_own() -> None:
    sketch = _sketch(height=16, width=16)
    source = sketch.conv(4, 3)
    made = sketch.add(GlobalAveragePool)
    plan = _plan(sketch.classify())
    assert plan.activations[made].scale < plan.activations[source].scale / 2


@pytest.mark.parametrize("rule", RULES)
def test_activations_that_cannot_be_negative_begin_at_zero(rule: Any) -> None:
    sketch = _sketch()
    names = [sketch.conv(4, 3, fused=Fused.RELU), sketch.conv(4, 4, fused=Fused.RELU6)]
    sketch.conv(4, 4)
    names.append(sketch.add(Relu6))
    plan = _plan(sketch.classify(), rule=rule)
    for name in names:
        assert plan.activations[name].zero_point == -128
        assert plan.activations[name].scale <= 6 / 255 * (1 + 1e-6) or name == names[0]


def test_relu6_is_never_stretched_to_six() -> None:
    sketch = _sketch()
    weight = sketch.numbers(4, 3, 1, 1, scale=1e-3)
    name = sketch.add(Conv, weight=weight, bias=np.zeros(4, "f"), fused=Fused.RELU6)
    plan = _plan(sketch.classify())
    assert plan.activations[name].scale < 1 / 255


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("activation", [Softmax, Sigmoid])
def test_logits_are_never_clipped(rule: Any, activation: Any) -> None:
    """One image in ten has logits ten times as large; they still fit."""
    weight = np.float32([[0.02, 0, 0], [-0.02, 0, 0]])
    dense = Dense(
        name="fc", inputs=("flat",), output="logits", weight=weight, bias=np.zeros(2, "f")
    )
    nodes = (
        Reshape(name="flatten", inputs=("image",), output="flat"),
        dense,
        activation(name="end", inputs=("logits",), output="probabilities"),
    )
    shapes = {"image": (1, 3, 1, 1), "flat": (1, 3), "logits": (1, 2), "probabilities": (1, 2)}
    graph = Graph(GraphInput("image", (1, 3, 1, 1)), "probabilities", nodes, shapes)
    images = [np.full((1, 1, 3), 25, np.uint8)] * 9 + [np.full((1, 1, 3), 250, np.uint8)]
    plan = calibrate(graph, images, rule=rule)
    assert plan.activations["logits"].scale * 255 == pytest.approx(10.0, rel=1e-6)
    assert plan.record["activations"]["tensors"]["logits"]["rule"] == "min_max"


def test_constants_by_hand() -> None:
    sketch = _sketch()
    value = sketch.conv(4, 3)
    scaled = sketch.add(
        Mul, value, sketch.constant(np.float32([0.0, 0.5, 2.0, 2.55])[:, None, None])
    )
    sketch.add(Add, scaled, sketch.constant(-3.0))
    plan = _plan(sketch.classify())
    values, by = plan.constants["constant0"]
    assert by == Affine(float(np.float32(0.01)), -128)
    np.testing.assert_array_equal(values.ravel(), [-128, -78, 72, 127])
    assert values.shape == (4, 1, 1)
    values, by = plan.constants["constant1"]
    assert (int(values) - by.zero_point) * by.scale == pytest.approx(-3.0)


def _dead_net() -> Graph:
    """A layer that is always zero, and one that is constant."""
    sketch = _sketch()
    sketch.conv(4, 3)
    zero = np.zeros((4, 4, 1, 1), np.float32)
    sketch.add(Conv, weight=zero, bias=-np.ones(4, "f"), fused=Fused.RELU)
    sketch.add(Conv, weight=zero, bias=np.full(4, 2.5, "f"))
    return sketch.classify()


@pytest.mark.parametrize("rule", RULES)
def test_dead_and_constant_layers(rule: Any) -> None:
    graph = _dead_net()
    plan = _plan(graph, rule=rule)
    dead, constant = graph.nodes[1].output, graph.nodes[2].output
    assert plan.activations[dead] == Affine(float(np.float32(1 / 255)), -128)
    assert plan.activations[constant].scale == pytest.approx(2.5 / 255)
    assert plan.record["weights"]["dead_channels"] == {
        graph.nodes[1].name: [0, 1, 2, 3],
        graph.nodes[2].name: [0, 1, 2, 3],
    }
    assert any("always zero" in text and dead in text for text in plan.record["warnings"])


# what the user can get wrong


def test_no_images() -> None:
    graph = _dead_net()
    with pytest.raises(CalibrationError, match="There are no calibration images"):
        calibrate(graph, [])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 12, 3), np.uint8),
        np.zeros((3, 9, 11), np.uint8),
        np.zeros((9, 11, 3), np.float32),
    ],
    ids=["width", "channels first", "float"],
)
def test_images_of_another_shape_or_type(image: np.ndarray) -> None:
    graph = _dead_net()
    with pytest.raises(CalibrationError, match="Calibration image 1 is"):
        calibrate(graph, [*_images(graph, 1), image])


def test_activations_that_are_not_finite_are_named() -> None:
    sketch = _sketch()
    sketch.conv(4, 3)
    weight = np.full((4, 4, 1, 1), 3e38, np.float32)
    bad = sketch.add(Conv, weight=weight, bias=np.zeros(4, "f"))
    sketch.conv(4, 4)
    graph = sketch.classify()
    with pytest.raises(CalibrationError, match=f"The tensor '{bad}' is not finite") as caught:
        calibrate(graph, _images(graph))
    assert sketch.nodes[1].name in caught.value.why


def test_few_images_are_a_warning() -> None:
    graph = _dead_net()
    few = calibrate(graph, _images(graph, FEW_IMAGES - 1)).record
    assert any(f"calibrated on {FEW_IMAGES - 1} image(s)" in text for text in few["warnings"])
    enough = calibrate(graph, _images(graph, FEW_IMAGES)).record
    assert not any("calibrated on" in text for text in enough["warnings"])
    assert (few["images"], enough["images"]) == (FEW_IMAGES - 1, FEW_IMAGES)


def test_images_that_repeat_are_few_images() -> None:
    """Seven, twice each: nothing can be corrected or compared on them, and that is said."""
    graph = _dead_net()
    seven = _images(graph, 7)
    record = calibrate(graph, [*seven, *seven]).record
    assert record["images"] == 14 and record["bias_correction"] is None
    assert any("fewer than 8 different images" in text for text in record["warnings"])
    eight = calibrate(graph, _images(graph, 8)).record
    assert not any("different images" in text for text in eight["warnings"])


def test_a_rule_that_the_kernels_cannot_take_leaves_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ranges so narrow that the multipliers grow too large are no candidate of 'auto'."""
    graph = _dead_net()

    def narrow(seen: Observation, rule: Any) -> Range:
        wide = choose_range(seen, rule)
        shrunk = 1e-9 if rule == "least_squared_error" and seen.low < -1 else 1.0
        return Range(wide.low * shrunk, wide.high * shrunk)

    monkeypatch.setattr("exporter.convert.quantize.calibrate.choose_range", narrow)
    images = _images(graph, 8)
    with pytest.raises(QuantizationError, match="cannot be quantized"):
        calibrate(graph, images, rule="least_squared_error")
    record = calibrate(graph, images).record
    assert record["rule"] == "mean_min_max"
    assert list(record["tried_logit_sqnr_db"]) == ["mean_min_max"]


def test_a_softmax_inside_is_refused() -> None:
    sketch = _sketch()
    sketch.conv(4, 3)
    sketch.add(Reshape)
    sketch.add(Softmax)
    with pytest.raises(QuantizationError, match=r"'/softmax/2' cannot be quantized"):
        _plan(sketch.classify())


def test_an_unknown_rule() -> None:
    with pytest.raises(ValueError, match="unknown range rule"):
        _plan(_dead_net(), rule="best")


# what comes out is a matter of the set of images alone


@pytest.fixture(scope="module")
def small(small_onnx_path: Path) -> Graph:
    return standard(read_graph(small_onnx_path))


def test_the_order_of_the_images_does_not_matter(small: Graph) -> None:
    images = nets.images(40)
    one = calibrate(small, images)
    other = calibrate(small, images[::-1])
    for name, by in one.activations.items():
        assert by.zero_point == other.activations[name].zero_point
        assert by.scale == pytest.approx(other.activations[name].scale, rel=1e-6)
    for name, weights in one.weights.items():
        np.testing.assert_array_equal(weights.values, other.weights[name].values)


def test_the_same_images_give_the_same_plan(small: Graph) -> None:
    one, other = (calibrate(small, nets.images(12)) for _ in range(2))
    assert one.activations == other.activations
    assert one.record == other.record
    for name, weights in one.weights.items():
        np.testing.assert_array_equal(weights.bias, other.weights[name].bias)


def test_images_are_streamed(small: Graph) -> None:
    """Python's memory does not grow with the number of images, and progress is told."""

    def stream(count: int) -> Iterator[np.ndarray]:
        random = np.random.default_rng(0)
        for _ in range(count):
            yield random.integers(0, 256, (64, 64, 3), dtype=np.uint8)

    def peak(count: int) -> int:
        calls = []
        tracemalloc.start()
        calibrate(small, stream(count), on_image=lambda: calls.append(1), correct_bias=False)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(calls) == count
        return most

    peak(2)
    # 32 images are kept; 40 more would be 490 KB, their tensors 40 MB
    assert peak(80) < peak(40) + 150_000


def test_auto_takes_the_rule_that_keeps_the_logits_best(small: Graph) -> None:
    """On this network clipping to the mean extremes costs more than it gains."""
    plan = calibrate(small, nets.images(16), correct_bias=False)
    tried = plan.record["tried_logit_sqnr_db"]
    assert tried["least_squared_error"] > tried["mean_min_max"] + 1
    assert plan.record["rule"] == "least_squared_error"
    same = calibrate(small, nets.images(16), rule="least_squared_error", correct_bias=False)
    assert plan.activations == same.activations


def test_too_few_images_to_compare_rules() -> None:
    record = _plan(_dead_net()).record
    assert record["rule"] == "mean_min_max"
    assert "tried_logit_sqnr_db" not in record
    assert any("not compared" in text for text in record["warnings"])


def test_the_record_is_compact_json(small: Graph) -> None:
    plan = calibrate(small, nets.images(12), rule="least_squared_error")
    text = json.dumps(plan.record, allow_nan=False)
    assert len(text) < 250 * len(plan.activations)
    assert plan.record["rule"] == "least_squared_error"
    assert plan.record["images"] == 12
    assert plan.record["bias_correction"] == {"rule": "median over images", "images": 12}
    for notes in plan.record["activations"]["tensors"].values():
        if notes["rule"] == "given":
            continue
        assert notes["observed"][0] <= notes["chosen"][1] + 1e-6
        assert 0.0 <= notes["saturated"] < 0.2
