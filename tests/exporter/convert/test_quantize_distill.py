"""Distillation as a whole: it mends a spoiled net, it never harms, it repeats itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from exporter.convert.evaluate import Evaluator
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import Graph
from exporter.convert.passes import INT8_TOLERANCE, for_channels_last, standard
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.distill import DistillSettings, distill, steps_ahead
from exporter.convert.quantize.distill import distill as package_distill
from exporter.convert.quantize.distill.training import Learned
from exporter.convert.quantize.errors import CalibrationError
from exporter.convert.quantize.exact import ExactSimulator
from exporter.convert.quantize.groups import find_groups
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.quantize import Quantized
from exporter.convert.quantize.simulate import Simulator
from exporter.convert.targets import tflite
from models.errors import MissingExtraError
from support import bundles, nets

module = sys.modules[package_distill.__module__]
SPOIL = 20  # steps
SHORT = DistillSettings(held_out=0.2, steps=12, batch=8, views=2, checks=3, shift_rate=0.8)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("decided") / "model.onnx"
    bundles.write_decided_onnx(path)
    pictures = nets.images(8, read_graph(path).input.shape[2])
    return for_channels_last(standard(read_graph(path), tolerance=INT8_TOLERANCE, probes=pictures))


@pytest.fixture(scope="module")
def pictures(graph: Graph) -> list[np.ndarray]:
    return nets.images(24, graph.input.shape[2])


@pytest.fixture(scope="module")
def spoiled(graph: Graph, pictures: list[np.ndarray]) -> Quantized:
    """Ranges alone, and the biases of the last layers moved by a few steps."""
    fast = Quantized(graph, calibrate(graph, pictures, rule="mean_min_max", correct_bias=False))
    weights, activations = dict(fast.plan.weights), dict(fast.plan.activations)
    random = np.random.default_rng(0)
    for name in list(weights)[-8:]:
        old = weights[name]
        node = next(n for n in graph.nodes if n.name == name)
        unit = activations[node.inputs[0]].scale * old.scales.astype(np.float64)
        moved = random.normal(0, SPOIL * activations[node.output].scale, len(unit)) / unit
        weights[name] = replace(old, bias=(old.bias + np.rint(moved)).astype(np.int32))
    return replace(fast, plan=replace(fast.plan, weights=weights))


@pytest.fixture
def from_spoiled(monkeypatch: pytest.MonkeyPatch, spoiled: Quantized) -> None:
    def quantize(_: Graph, images: Any, on_image: Any = None, *more: object) -> Quantized:
        for _image in images():
            if on_image is not None:
                on_image()
        return spoiled

    monkeypatch.setattr(module, "quantize", quantize)


def decibels(graph: Graph, own: Graph, plan: QuantizationPlan, others: list[np.ndarray]) -> float:
    exact, rough = Evaluator(graph, [graph.logits]), Simulator(own, plan, [own.logits])
    reference = np.stack([exact.run(i)[graph.logits] for i in others]).astype(np.float64)
    error = np.stack([rough.run(i)[own.logits] for i in others]) - reference
    return float(10 * np.log10((reference**2).sum() / (error**2).sum()))


def same(one: QuantizationPlan, other: QuantizationPlan) -> bool:
    return one.activations == other.activations and all(
        np.array_equal(getattr(weights, part), getattr(other.weights[name], part))
        for name, weights in one.weights.items()
        for part in ("values", "scales", "bias")
    )


@pytest.mark.usefixtures("from_spoiled")
def test_a_spoiled_net_is_mended_on_other_pictures_too(
    graph: Graph, pictures: list[np.ndarray], spoiled: Quantized
) -> None:
    told: list[int] = []
    found = distill(graph, lambda: pictures, lambda: told.append(1), settings=SHORT)
    assert len(told) == len(pictures) + SHORT.steps <= steps_ahead(len(pictures), SHORT)
    others = nets.images(20, graph.input.shape[2], seed=3)
    before = decibels(graph, spoiled.graph, spoiled.plan, others)
    assert decibels(graph, found.graph, found.plan, others) > before + 2.0
    said = json.loads(json.dumps(found.plan.record))["distillation"]
    ratios = said["held_out_logit_sqnr_db"]
    assert said["used"] and ratios["learned"] > ratios["start"] + 2.0
    assert said["settings"]["steps"] == 12 and said["images"] + said["held_out_images"] == 24
    assert 0 < said["best_step"] <= 12
    _keeps_its_promises(graph, spoiled.plan, found.plan)


def _keeps_its_promises(graph: Graph, before: QuantizationPlan, after: QuantizationPlan) -> None:
    """Shared scales stay shared, given ones as they are; only the part that learns has changed."""
    for group in find_groups(graph):
        found = {after.activations[name] for name in group.tensors}
        assert len(found) == 1
        if group.fixed is not None or group.logits:
            assert found == {before.activations[group.tensors[0]]}
    assert any(after.activations[name] != old for name, old in before.activations.items())
    for name, old in before.activations.items():
        assert (after.activations[name].zero_point == -128) == (old.zero_point == -128)
    first = next(iter(before.weights))
    assert np.array_equal(before.weights[first].bias, after.weights[first].bias)


@pytest.mark.usefixtures("from_spoiled")
def test_the_same_whatever_the_order_and_the_threads(
    graph: Graph, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporter.convert.quantize.distill import parallel

    settings = replace(SHORT, steps=4)
    found = distill(graph, lambda: pictures, settings=settings)

    class Alone(parallel.Workers):
        def __init__(self) -> None:
            super().__init__(1)

    monkeypatch.setattr(parallel, "Workers", Alone)
    assert same(distill(graph, lambda: pictures[::-1], settings=settings).plan, found.plan)
    other = distill(graph, lambda: pictures, settings=replace(settings, seed=1))
    assert not same(other.plan, found.plan)


@pytest.mark.usefixtures("from_spoiled")
def test_a_harmful_result_is_not_taken(
    graph: Graph, pictures: list[np.ndarray], spoiled: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporter.convert.quantize.distill import training

    def ruin(network: Any, *_: Any) -> Learned:
        import torch

        with torch.no_grad():
            for layer in network.layers.values():
                layer.shift += 40.0
        return Learned(1, 0.0, 99.0)

    monkeypatch.setattr(training, "learn", ruin)
    found = distill(graph, lambda: pictures, settings=SHORT)
    said = found.plan.record["distillation"]
    assert not said["used"] and "held-out" in said["reason"]
    assert same(found.plan, spoiled.plan)


@pytest.mark.usefixtures("from_spoiled")
def test_steps_that_only_harm_leave_the_start(
    graph: Graph, pictures: list[np.ndarray], spoiled: Quantized
) -> None:
    wild = replace(SHORT, steps=3, checks=3, weight_rate=60.0, gain_rate=1.0, shift_rate=200.0)
    found = distill(graph, lambda: pictures, settings=wild)
    assert found.plan.record["distillation"]["best_step"] == 0
    assert same(found.plan, spoiled.plan)


@pytest.mark.usefixtures("from_spoiled")
def test_a_scale_beyond_the_kernels_leaves_the_start(
    graph: Graph, pictures: list[np.ndarray], spoiled: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporter.convert.quantize.distill import training

    def grow(network: Any, *_: Any) -> Learned:
        import torch

        with torch.no_grad():
            next(iter(network.layers.values())).gain += 20.0
        return Learned(1, 0.0, 99.0)

    monkeypatch.setattr(training, "learn", grow)
    found = distill(graph, lambda: pictures, settings=SHORT)
    assert "too large" in found.plan.record["distillation"]["reason"]
    assert same(found.plan, spoiled.plan)


@pytest.mark.usefixtures("from_spoiled")
def test_what_is_learned_is_what_litert_computes(
    graph: Graph, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    found = distill(graph, lambda: pictures, settings=SHORT)
    path = tmp_path / "model.tflite"
    tflite.write(found.graph, nets.small_contract(), path, "int8", found.plan)
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    simulator = ExactSimulator(found.graph, found.plan, threads=1)
    differences = []
    for picture in nets.images(6, graph.input.shape[2], seed=5):
        interpreter.set_tensor(source["index"], picture[None])
        interpreter.invoke()
        given = interpreter.get_tensor(made["index"])
        differences.append(np.abs(given - simulator.run(picture)[found.graph.output]).max())
    assert max(differences) < 2e-6


def test_from_the_default_quantizer_it_is_no_worse(
    graph: Graph, pictures: list[np.ndarray]
) -> None:
    found = distill(graph, lambda: iter(pictures), settings=replace(SHORT, steps=6))
    ratios = found.plan.record["distillation"]["held_out_logit_sqnr_db"]
    assert ratios["learned"] > ratios["start"] or not found.plan.record["distillation"]["used"]
    assert "equalization" in found.plan.record


@pytest.mark.usefixtures("from_spoiled")
def test_too_few_images_are_refused(graph: Graph, pictures: list[np.ndarray]) -> None:
    with pytest.raises(CalibrationError, match="19 different") as error:
        distill(graph, lambda: [*pictures[:19], *pictures[:5]], settings=SHORT)
    assert "20 at least" in error.value.why and "--calibration" in error.value.mend


def test_without_torch_it_says_what_is_missing(
    graph: Graph, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="'distill' needs the package 'torch'"):
        distill(graph, lambda: pictures)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"views": 0}, {"batch": 0}, {"held_out": 1.0}])
def test_settings_that_leave_nothing_to_learn(
    graph: Graph, pictures: list[np.ndarray], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"at least 1|between 0 and 1"):
        distill(graph, lambda: pictures, settings=DistillSettings(**wrong))


def test_the_held_out_images_are_spread_and_not_learned_from() -> None:
    given = [np.full((1, 1, 3), k, np.uint8) for k in range(40)]
    learned, held = module.split(given, 0.1)
    assert [int(i[0, 0, 0]) for i in held] == [4, 14, 24, 34] and len(learned) == 36
    assert [int(i[0, 0, 0]) for i in module.split(given[:10], 0.1)[1]] == [1, 3, 6, 8]
    assert [len(part) for part in module.split(given[:2], 0.01)] == [1, 1]
