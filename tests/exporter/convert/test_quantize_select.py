"""Choosing by the logits: the nearest wins, and the float network runs once an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import target_graphs
import uneven_graphs

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Graph, Silu
from exporter.convert.quantize import select
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.exact import ExactSimulator
from exporter.convert.quantize.quantize import quantize
from exporter.convert.quantize.select import FloatLogits, best_of, decibels, logit_sqnr
from exporter.convert.quantize.simulate import Simulator


def network(seed: int = 0) -> tuple[Graph, list[np.ndarray]]:
    sketch = target_graphs.Sketch(seed=seed)
    sketch.conv(6, 3, 3, 3)
    sketch.conv(4, 6)
    graph = sketch.classify()
    size = (20, *graph.input.shape[2:], 3)
    images = list(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8))
    return graph, images


def test_decibels_by_hand() -> None:
    reference = np.array([3.0, 4.0])
    assert decibels(reference, np.array([3.5, 4.0])) == pytest.approx(20.0)  # 25 to 1/4
    assert decibels(reference, reference) == 200.0


def test_the_nearest_plan_wins() -> None:
    graph, images = network()
    good = calibrate(graph, images, rule="mean_min_max")
    bad = calibrate(graph, [image // 16 for image in images], rule="mean_min_max")
    reference = FloatLogits(graph, images)
    name, ratios = best_of(reference, {"bad": (graph, bad), "good": (graph, good)})
    assert name == "good" and ratios["good"] > ratios["bad"] + 3
    assert len(reference.images) == 16 and reference.values.shape == (16, 1, 5)
    assert logit_sqnr(reference, graph) == 200.0
    assert logit_sqnr(reference, network(1)[0]) < 5


def test_candidates_are_compared_by_litert_s_integers() -> None:
    """SiLU is LOGISTIC and MUL in a file, which the float simulation does not know."""
    sketch = uneven_graphs.sketch()
    sketch.conv(6, 3, 3, 3)
    sketch.add(Silu)
    graph = sketch.classify()
    images = uneven_graphs.images(graph, 16)
    plan = calibrate(graph, images)
    reference = FloatLogits(graph, images)

    def ratio(simulator: Any) -> float:
        found = [simulator.run(image)[graph.logits] for image in reference.images]
        return decibels(reference.values, np.stack(found).astype(np.float64))

    exact = ratio(ExactSimulator(graph, plan, [graph.logits]))
    assert best_of(reference, {"it": (graph, plan)})[1]["it"] == exact
    assert ratio(Simulator(graph, plan, [graph.logits])) != exact


def test_what_has_no_exact_form_is_compared_in_float() -> None:
    """One layer in float: the exact simulator refuses that plan."""
    graph, images = network()
    plan = calibrate(graph, images)
    mixed = replace(plan, float_nodes=frozenset([graph.nodes[0].name]))
    reference = FloatLogits(graph, images)
    rough = Simulator(graph, mixed, [graph.logits])
    found = np.stack([rough.run(image)[graph.logits] for image in reference.images])
    expected = decibels(reference.values, found.astype(np.float64))
    assert best_of(reference, {"it": (graph, mixed)})[1]["it"] == expected


def test_the_float_network_gives_its_logits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, images = network()
    opened = []

    class Counted(Evaluator):
        def __init__(self, own: Graph, *rest: Any) -> None:
            opened.append(own is graph)
            super().__init__(own, *rest)

    monkeypatch.setattr(select, "Evaluator", Counted)
    quantize(graph, lambda: images)
    assert opened.count(True) == 1  # ranges, equalization and the candidates share it
    assert opened.count(False) == 1  # the equalized one
