"""The float simulation against LiteRT, and what it says of good and bad plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import target_graphs

from exporter.convert.evaluate import Evaluator
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import (
    Add,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    GraphInput,
    Reshape,
    Softmax,
)
from exporter.convert.passes import INT8_TOLERANCE, for_channels_last, standard
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.rounding.bias_correction import correct_biases, image_limit
from exporter.convert.quantize.simulate import Simulator, dequantized_graph
from exporter.convert.targets.tflite.writer import to_bytes
from support import nets, tflite_files
from support.int8_steps import fake_quantize


def _signal_to_noise(reference: np.ndarray, found: np.ndarray) -> float:
    noise = max(float(((found - reference) ** 2).sum()), 1e-12)
    return float(10 * np.log10((reference**2).sum() / noise))


def _logits(runner: Evaluator | Simulator, name: str, images: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([runner.run(image)[name] for image in images])


def test_fake_quantize_by_hand() -> None:
    by = Affine(0.5, -126)
    values = np.float32([-2.0, -0.7, -0.2, 0.0, 0.3, 0.75, 126.4, 500.0])
    # -1 is the least value; 1.5 steps lie in the middle: half to even
    np.testing.assert_array_equal(
        fake_quantize(values, by), np.float32([-1, -0.5, 0, 0, 0.5, 1.0, 126.5, 126.5])
    )


def _one_dense(weight: float, bias: float) -> Graph:
    nodes = (
        Reshape(name="flatten", inputs=("image",), output="flat"),
        Dense(
            name="fc",
            inputs=("flat",),
            output="logits",
            weight=np.float32([[weight, 0.5, 0.0]]),
            bias=np.float32([bias]),
        ),
    )
    shapes = {"image": (1, 3, 1, 1), "flat": (1, 3), "logits": (1, 1)}
    return Graph(GraphInput("image", (1, 3, 1, 1), 0.1, 10), "logits", nodes, shapes)


def test_a_layer_by_hand() -> None:
    """1.27 * 2 + 0.5 * 1 + 0.033 with all of it rounded."""
    graph = _one_dense(1.27, 0.033)
    pixels = Affine(0.1, -118)
    weights = QuantizedWeights(np.int8([[127, 50, 0]]), np.float32([0.01]), np.int32([33]))
    plan = QuantizationPlan(
        {"image": pixels, "flat": pixels, "logits": Affine(0.25, 4)}, {"fc": weights}
    )
    image = np.uint8([[[30, 20, 255]]])  # 2.0, 1.0, 24.5
    assert Simulator(graph, plan, threads=1).run(image)["logits"] == 3.0  # 3.073 in steps of 1/4
    assert Simulator(graph, plan, ["image"]).run(image)["image"].ravel().tolist() == (
        pytest.approx([2.0, 1.0, 24.5])
    )


# TFLite has no such pool; a sigmoid at the end stays in float
_NOT_WRITTEN = {"average_pool_uneven", "sigmoid"}
_WRITTEN_AS_SEVERAL = {"hardsigmoid", "silu", "squeeze_excite"}


@pytest.mark.parametrize("name", sorted(set(target_graphs.CASES) - _NOT_WRITTEN))
def test_each_node_kind_equals_litert_but_for_single_steps(name: str) -> None:
    sketch = target_graphs.make(name)
    graph = for_channels_last(sketch.graph())
    images = [target_graphs.some_pixels(seed=seed) for seed in range(4)]
    plan = calibrate(graph, images)
    model = to_bytes(graph, tflite_files.CONTRACT, "int8", plan)
    simulator = Simulator(graph, plan, threads=1)
    gaps = np.concatenate(
        [
            np.abs(found - simulator.run(image)[graph.output]).ravel()
            for image, found in zip(images, tflite_files.run(model, images), strict=True)
        ]
    )
    steps = np.rint(gaps / plan.activations[graph.output].scale)
    # a tie that was rounded the other way moves what is made of it, by up to a few steps (most
    # before a relu6, whose range ends at 6, so that steps are fine); operators written as
    # several round in between, which is not simulated
    assert steps.max() <= 4
    assert (steps > 0).mean() < (0.5 if name in _WRITTEN_AS_SEVERAL else 0.05)


@pytest.fixture(scope="module")
def small(small_onnx_path: Path) -> Graph:
    graph = for_channels_last(standard(read_graph(small_onnx_path), tolerance=INT8_TOLERANCE))
    return replace(graph, nodes=graph.nodes[:-1], output=graph.logits)


def _inverted_residuals() -> Graph:
    """Four blocks as MobileNetV2 has them, steadier than a deep random network."""
    sketch = target_graphs.Sketch(24, 24, seed=5)
    sketch.input = replace(sketch.input, scale=1 / 64, zero_point=128)
    stream = sketch.conv(8, 3, 3, 3, padding=(1, 1, 1, 1), strides=(2, 2))
    for _ in range(4):
        sketch.conv(32, 8, fused=Fused.RELU6)
        sketch.conv(32, 32, 3, 3, groups=32, padding=(1, 1, 1, 1), fused=Fused.RELU6)
        stream = sketch.add(Add, stream, sketch.conv(8, 32))
    sketch.add(GlobalAveragePool, keep_dims=False)
    sketch.add(Dense, weight=sketch.numbers(10, 8), bias=sketch.numbers(10))
    return sketch.graph()


def test_a_whole_network_has_the_error_that_litert_has() -> None:
    graph = _inverted_residuals()
    images, others = nets.images(16, size=24), nets.images(48, size=24, seed=1)
    plan = calibrate(graph, images)
    model = to_bytes(graph, nets.small_contract(size=24), "int8", plan)
    reference = _logits(Evaluator(graph, threads=1), graph.output, others)
    simulated = _logits(Simulator(graph, plan, threads=1), graph.output, others)
    found = np.concatenate(tflite_files.run(model, others))
    error = _signal_to_noise(reference, found)
    assert error > 15
    assert _signal_to_noise(reference, simulated) == pytest.approx(error, abs=1.0)
    assert _signal_to_noise(found, simulated) > error + 3


# negative tests: plans that must look bad


def _uneven_net() -> Graph:
    """Depthwise layers whose channels differ by a factor of a thousand, there and back."""
    sketch = target_graphs.Sketch(16, 16, seed=3)
    sketch.input = replace(sketch.input, scale=1 / 64, zero_point=128)
    sketch.conv(12, 3, fused=Fused.RELU6)
    factors = np.geomspace(1e-3, 1.0, 12).astype(np.float32)[:, None, None, None]
    for ratio in (factors, 1 / factors):
        weight = sketch.numbers(12, 1, 3, 3, scale=0.5) * ratio
        sketch.add(Conv, weight=weight, bias=np.zeros(12, "f"), groups=12, padding=(1, 1, 1, 1))
    sketch.add(GlobalAveragePool, keep_dims=False)
    sketch.add(Dense, weight=sketch.numbers(5, 12), bias=sketch.numbers(5))
    return sketch.graph()


def _per_tensor(weights: QuantizedWeights) -> QuantizedWeights:
    """The mutant: one scale for all channels of a layer."""
    shape = (-1,) + (1,) * (weights.values.ndim - 1)
    real = weights.values * weights.scales.astype(np.float64).reshape(shape)
    scale = weights.scales.max()
    return QuantizedWeights(
        np.rint(real / scale).astype(np.int8),
        np.full_like(weights.scales, scale),
        np.rint(weights.bias * (weights.scales.astype(np.float64) / scale)).astype(np.int32),
    )


def test_per_tensor_weights_lose_what_per_channel_weights_keep() -> None:
    """Only the weights are rounded here, so that activations cannot hide the loss."""
    graph = _uneven_net()
    images = nets.images(16, size=16)
    plan = calibrate(graph, images, correct_bias=False)
    reference = _logits(Evaluator(graph, threads=1), graph.output, images)

    def of(weights: dict[str, QuantizedWeights]) -> float:
        rounded = dequantized_graph(graph, replace(plan, weights=weights))
        return _signal_to_noise(
            reference, _logits(Evaluator(rounded, threads=1), graph.output, images)
        )

    per_channel = of(dict(plan.weights))
    per_tensor = of({name: _per_tensor(one) for name, one in plan.weights.items()})
    assert per_channel > 35
    assert per_tensor < per_channel - 20


# bias correction


def test_bias_correction_by_hand() -> None:
    """The weight 1.2 was rounded to 1.0: the bias makes up for it at the median image."""
    graph = _one_dense(1.2, 0.0)
    pixels = Affine(0.1, -118)
    weights = QuantizedWeights(np.int8([[100, 50, 0]]), np.float32([0.01]), np.int32([7]))
    plan = QuantizationPlan(
        {"image": pixels, "flat": pixels, "logits": Affine(1e-4, 0)}, {"fc": weights}
    )
    # real inputs 1, 2 and 20: errors 0.2, 0.4 and 4 less the bias 7 * 0.001
    images = [np.uint8([[[pixel, 10, 10]]]) for pixel in (20, 30, 210)]
    corrected = correct_biases(graph, plan, images)
    np.testing.assert_array_equal(corrected.weights["fc"].bias, [400])
    np.testing.assert_array_equal(corrected.weights["fc"].values, weights.values)
    # two images: the mean of the two in the middle
    corrected = correct_biases(graph, plan, images[:2])
    np.testing.assert_array_equal(corrected.weights["fc"].bias, [300])
    assert corrected.activations == plan.activations


def test_each_layer_is_corrected_after_those_before_it(small: Graph) -> None:
    """Evaluated alone afterwards, no layer has an error left at the median image."""
    images = nets.images(9)
    plan = calibrate(small, images, rule="min_max", correct_bias=False)
    corrected = correct_biases(small, plan, images)
    names = [node.output for node in small.nodes if isinstance(node, Conv)]
    # further on single steps, which a rounded bias tips over, have grown to many
    plain = [name for name in names if not _is_fused(small, name)][:3]
    exact = Evaluator(small, plain, threads=1)

    def worst(given: QuantizationPlan) -> dict[str, float]:
        simulator = Simulator(small, given, plain, threads=1)
        errors: dict[str, list[np.ndarray]] = {name: [] for name in plain}
        for image in images:
            found, expected = simulator.run(image), exact.run(image)
            for name in plain:
                errors[name].append((found[name] - expected[name]).mean(axis=(0, 2, 3)))
        return {
            name: float(np.abs(np.median(values, axis=0)).max() / given.activations[name].scale)
            for name, values in errors.items()
        }

    before, after = worst(plan), worst(corrected)
    for name in plain:
        assert after[name] < 0.3
        assert after[name] < 0.5 * before[name]


def _is_fused(graph: Graph, name: str) -> bool:
    node = graph.producer(name)
    return isinstance(node, Conv) and node.fused is not Fused.NONE


def test_bias_correction_repairs_a_systematic_error(small: Graph) -> None:
    """Weights rounded down instead of to the nearest shift every channel; on other images."""
    images, others = nets.images(24), nets.images(32, seed=1)
    reference = _logits(Evaluator(small, threads=1), small.output, others)

    def of(given: QuantizationPlan) -> float:
        found = _logits(Simulator(small, given, threads=1), small.output, others)
        return _signal_to_noise(reference, found)

    plan = calibrate(small, images, rule="min_max", correct_bias=False)
    mutant = dict(plan.weights)
    for node in small.nodes:
        if isinstance(node, Conv | Dense):
            old = mutant[node.name]
            scales = old.scales.reshape((-1,) + (1,) * (node.weight.ndim - 1))
            down = np.clip(np.floor(node.weight / scales), -127, 127).astype(np.int8)
            mutant[node.name] = replace(old, values=down)
    shifted = replace(plan, weights=mutant)
    assert of(correct_biases(small, shifted, images)) > of(shifted) + 2


def test_too_few_images_leave_the_biases_alone(small: Graph) -> None:
    plan = calibrate(small, nets.images(7))
    assert plan.record["bias_correction"] is None
    name = next(node.name for node in small.nodes if isinstance(node, Dense))
    np.testing.assert_array_equal(
        plan.weights[name].bias,
        calibrate(small, nets.images(7), correct_bias=False).weights[name].bias,
    )


def test_the_memory_for_bias_correction_is_bounded() -> None:
    def graph(side: int) -> Graph:
        shapes = {"image": (1, 3, side, side), "probabilities": (1, 3, side, side)}
        nodes = (Softmax(name="end", inputs=("image",), output="probabilities"),)
        return Graph(GraphInput("image", (1, 3, side, side)), "probabilities", nodes, shapes)

    assert image_limit(graph(64)) == 32
    assert 8 <= image_limit(graph(1000)) < 32
    assert image_limit(graph(4000)) == 8
