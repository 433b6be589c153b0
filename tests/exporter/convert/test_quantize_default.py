"""The default quantizer as a whole: it helps, it falls back, it says what it did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exporter.convert.evaluate import Evaluator
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import Graph
from exporter.convert.passes import INT8_TOLERANCE, for_channels_last, standard
from exporter.convert.quantize import quantize as module
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.quantize import Quantized, quantize, quantize_fast
from exporter.convert.quantize.simulate import Simulator
from support import bundles, nets


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("decided") / "model.onnx"
    bundles.write_decided_onnx(path)
    pictures = nets.images(8, read_graph(path).input.shape[2])
    return for_channels_last(standard(read_graph(path), tolerance=INT8_TOLERANCE, probes=pictures))


@pytest.fixture(scope="module")
def pictures(graph: Graph) -> list[np.ndarray]:
    return nets.images(40, graph.input.shape[2])


@pytest.fixture(scope="module")
def found(graph: Graph, pictures: list[np.ndarray]) -> Quantized:
    return quantize(graph, lambda: pictures)


def decibels(graph: Graph, own: Graph, plan: QuantizationPlan, others: list[np.ndarray]) -> float:
    exact, rough = Evaluator(graph, [graph.logits]), Simulator(own, plan, [own.logits])
    reference = np.stack([exact.run(i)[graph.logits] for i in others]).astype(np.float64)
    error = np.stack([rough.run(i)[own.logits] for i in others]) - reference
    return float(10 * np.log10((reference**2).sum() / (error**2).sum()))


def test_on_other_pictures_it_is_nearer_than_ranges_alone(
    graph: Graph, pictures: list[np.ndarray], found: Quantized
) -> None:
    others = nets.images(30, graph.input.shape[2], seed=3)
    fast = quantize_fast(graph, lambda: pictures)
    assert fast.graph is graph
    nearest = decibels(graph, graph, fast.plan, others)
    assert decibels(graph, found.graph, found.plan, others) > nearest + 1.0


def test_the_record_says_what_was_tried(found: Quantized) -> None:
    record = json.loads(json.dumps(found.plan.record))
    said = record["equalization"]
    assert set(said["logit_sqnr_db"]) <= {"as it is", module.EQUALIZED, module.PER_TENSOR}
    best = max(said["logit_sqnr_db"], key=said["logit_sqnr_db"].get)
    assert said["used"] == (best != "as it is")
    assert record["weights"]["rounding"]["nearest"] == []
    assert record["images"] == 40 and record["bias_correction"]["images"] == 32


def test_the_same_twice(graph: Graph, pictures: list[np.ndarray], found: Quantized) -> None:
    again = quantize(graph, lambda: iter(pictures[::-1]))
    assert again.plan.activations == found.plan.activations
    for name, weights in found.plan.weights.items():
        assert np.array_equal(weights.scales, again.plan.weights[name].scales)
        differing = np.mean(weights.values != again.plan.weights[name].values)
        assert differing <= 0.01, name  # another order of the images, other last bits
    once_more = quantize(graph, lambda: pictures)
    for name, weights in found.plan.weights.items():
        assert np.array_equal(weights.values, once_more.plan.weights[name].values)
        assert np.array_equal(weights.bias, once_more.plan.weights[name].bias)


def test_few_images_fall_back_to_ranges(graph: Graph, pictures: list[np.ndarray]) -> None:
    few = quantize(graph, lambda: pictures[:7])
    plain = calibrate(graph, pictures[:7])
    assert few.graph is graph and few.plan.activations == plain.activations
    for name, weights in plain.weights.items():
        assert np.array_equal(weights.values, few.plan.weights[name].values)


def test_images_stream_twice_and_are_counted(graph: Graph, pictures: list[np.ndarray]) -> None:
    started, seen = [], []

    def stream() -> Iterator[np.ndarray]:
        started.append(1)
        yield from pictures[:10]

    quantize(graph, stream, lambda: seen.append(1))
    assert len(started) == 2 and len(seen) == 20


def test_an_equalization_that_moves_the_answers_is_not_used(
    graph: Graph, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "logit_sqnr", lambda *_: 12.0)
    kept = quantize(graph, lambda: pictures[:12])
    assert kept.graph is graph
    assert kept.plan.record["equalization"]["used"] is False
    assert list(kept.plan.record["equalization"]["logit_sqnr_db"]) == ["as it is"]


def test_layers_without_a_covariance_are_rounded_to_the_nearest(
    graph: Graph, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.convert.quantize.rounding.moments.MOST_INPUTS", 8)
    plan = quantize(graph, lambda: pictures[:12]).plan
    assert plan.record["weights"]["rounding"]["nearest"]


def test_a_bundle_is_made_with_it(tmp_path: Path) -> None:
    from exporter.pipeline import artifacts

    onnx = tmp_path / "model.onnx"
    bundles.write_decided_onnx(onnx)
    contract = nets.small_contract()
    side = contract.preprocessing.height
    np.save(tmp_path / "pixels.npy", np.stack(nets.images(12, side)))
    plan, out = tmp_path / "plan", tmp_path / "out"
    plan.mkdir()
    out.mkdir()
    steps: list[None] = []
    artifacts.quantize(onnx, tmp_path / "pixels.npy", plan, "default", lambda: steps.append(None))
    record = json.loads((plan / artifacts.RECORD).read_text())
    assert "equalization" in record["calibration"]
    assert len(steps) >= 12
    calibrated = artifacts.Calibrated(tmp_path / "pixels.npy", plan)
    artifacts.make("tflite-int8", onnx, contract.dumps(), out, calibrated)
    assert (out / "model_int8.tflite").is_file()
    scales = json.loads((plan / artifacts.SCALES).read_text())["equalization"]
    assert all(min(each) >= 1.0 for each in scales.values())
