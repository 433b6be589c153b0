"""A rule for each late tensor: chosen where it helps on both halves, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import target_graphs

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Dense, Fused, Graph
from exporter.convert.quantize.calibrate import (
    measure,
    with_ranges,
    with_ranges_per_tensor,
)
from exporter.convert.quantize.groups import Group
from exporter.convert.quantize.ranges import per_tensor
from exporter.convert.quantize.ranges.per_tensor import choose
from exporter.convert.quantize.ranges.rules import Range, affine
from support.int8_steps import fake_quantize

Images = list[np.ndarray]


def network(rare: float = 0.0) -> Graph:
    """One layer that copies red, up to 8, and green; red reaches the logits by `rare`."""
    sketch = target_graphs.Sketch(height=4, width=4)
    sketch.input = replace(sketch.input, scale=1 / 255)
    weight = np.diag(np.float32([8.0, 7.7, 1.0])).reshape(3, 3, 1, 1)  # off the grid of pixels
    sketch.add(Conv, weight=weight[:2], bias=np.zeros(2, "f"), fused=Fused.RELU)
    sketch.add(target_graphs.GlobalAveragePool)
    sketch.add(target_graphs.Reshape)
    dense = np.float32([[rare, 1], [0, -1], [0, 0.5]])
    sketch.add(Dense, weight=dense, bias=np.zeros(3, "f"))
    sketch.add(target_graphs.Softmax)
    return sketch.graph()


def pictures(count: int = 32) -> Images:
    """Green is small; one red pixel of each picture is as large as can be."""
    random = np.random.default_rng(0)
    images = []
    for _ in range(count):
        image = np.zeros((4, 4, 3), np.uint8)
        image[..., 1] = random.integers(0, 40, (4, 4))
        image[random.integers(4), random.integers(4), 0] = 255
        images.append(image)
    return images


@pytest.fixture(autouse=True)
def all_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(per_tensor, "SHARE", 1.0)


def test_values_that_no_logit_reads_are_clipped() -> None:
    graph = network()
    seen = measure(graph, pictures())
    late = graph.nodes[0].output
    found = choose(graph, seen.groups, seen.seen, "min_max", seen.kept)
    cut = {"min_max x 0.85": 6.8, "min_max x 0.7": 5.6}  # no other rule cuts one value in 32
    assert found[late].wanted.high == pytest.approx(cut[found[late].rule])
    assert min(found[late].gain_db) > 0.3


def test_values_that_matter_are_kept() -> None:
    graph = network(rare=1.0)
    seen = measure(graph, pictures())
    found = choose(graph, seen.groups, seen.seen, "min_max", seen.kept)
    assert graph.nodes[0].output not in found


def test_the_errors_are_those_of_rounding_one_tensor_alone() -> None:
    """Against rounding it in numpy and multiplying out the layers after it."""
    graph = network()
    seen = measure(graph, pictures())
    late = graph.nodes[0].output
    found = choose(graph, seen.groups, seen.seen, "min_max", seen.kept)
    reader = Evaluator(graph, [late])
    dense = next(node for node in graph.nodes if isinstance(node, Dense))

    def errors(high: float) -> tuple[float, float]:
        halves = [0.0, 0.0]
        for index, image in enumerate(seen.kept):
            exact = reader.run(image)[late]
            by = affine(replace(found[late].wanted, high=high))
            change = (fake_quantize(exact, by) - exact).mean(axis=(2, 3)) @ dense.weight.T
            halves[index % 2] += float((change.astype(np.float64) ** 2).sum())
        return halves[0], halves[1]

    before, after = errors(8.0), errors(found[late].wanted.high)
    expected = [10 * np.log10(b / a) for b, a in zip(before, after, strict=True)]
    assert found[late].gain_db == pytest.approx(expected, abs=0.05)


def test_what_helps_on_one_half_only_is_not_taken() -> None:
    """Green fills its range on the pictures of one half: the cut that the other likes ruins it."""
    graph = network()
    seen = measure(graph, pictures())
    images = [image.copy() for image in seen.kept]
    for image in images[::2]:
        image[0, 0, 1] = 255
    found = choose(graph, seen.groups, seen.seen, "min_max", images)
    assert graph.nodes[0].output not in found


class Errors:
    """In place of the late nodes: the logits' error on either half, by the range's end."""

    def __init__(self, errors: dict[float, tuple[float, float]]) -> None:
        self.errors = errors

    def trial(self, start: int, groups: Sequence[Group]) -> Callable[..., tuple[float, float]]:
        return lambda scales: self.errors[round(255 * scales[0].scale)]


@pytest.mark.parametrize(
    ("halves", "taken"),
    [
        ((0.90, 0.90), True),  # 0.46 dB on both
        ((0.94, 0.94), False),  # 0.27 dB
        ((0.20, 0.96), False),  # 7 dB and 0.18
        ((0.96, 0.20), False),
        ((0.20, 1.10), False),
    ],
)
def test_both_halves_must_gain(halves: tuple[float, float], taken: bool) -> None:
    late: Any = Errors({4: (1.0, 1.0), 3: halves, 2: (1.0, 3.0)})
    candidates = {"usual": Range(0, 4), "cut": Range(0, 3), "more": Range(0, 2)}
    found = per_tensor._best(late, 0, Group(("t",), ("t",)), candidates)
    assert (found is not None) == taken
    if found is not None:
        assert (found.rule, found.wanted) == ("cut", Range(0, 3))
        assert found.gain_db == pytest.approx([-10 * np.log10(each) for each in halves])


def test_choices_that_do_not_gain_together_are_all_left(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    seen = measure(graph, pictures())
    gains = per_tensor._gains

    def apart(before: tuple[float, float], after: tuple[float, float], least: float) -> list[bool]:
        return [True, False] if least == 0.0 else gains(before, after, least)

    assert choose(graph, seen.groups, seen.seen, "min_max", seen.kept)
    monkeypatch.setattr(per_tensor, "_gains", apart)
    assert choose(graph, seen.groups, seen.seen, "min_max", seen.kept) == {}


def test_tensors_that_do_not_fit_into_memory_keep_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    seen = measure(graph, pictures())
    monkeypatch.setattr(per_tensor, "_MOST_VALUES", 1)
    assert choose(graph, seen.groups, seen.seen, "min_max", seen.kept) == {}


def test_early_tensors_and_logits_keep_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    seen = measure(graph, pictures())
    assert graph.logits not in choose(graph, seen.groups, seen.seen, "min_max", seen.kept)
    monkeypatch.setattr(per_tensor, "SHARE", 0.0)
    assert choose(graph, seen.groups, seen.seen, "min_max", seen.kept) == {}


def test_the_plan_records_each_choice_and_scales_biases_with_it() -> None:
    graph = network()
    seen = measure(graph, pictures())
    plain = with_ranges(graph, seen, "min_max")
    plan = with_ranges_per_tensor(graph, seen, plain)
    late = graph.nodes[0].output
    notes = json.loads(json.dumps(plan.record))["activations"]["tensors"][late]
    assert notes["rule"].startswith("min_max x 0.") and len(notes["alone_gain_db"]) == 2
    assert notes["chosen"][1] < 7 and notes["saturated"] > 0
    assert plan.activations[late].scale == pytest.approx(notes["chosen"][1] / 255, rel=0.01)
    assert all(each > per_tensor.GAIN_DB for each in notes["alone_gain_db"])
    assert plan.record["rule"] == "min_max" and plan.record["images"] == 32
    again = with_ranges_per_tensor(graph, seen, plain)
    assert again.activations == plan.activations and again.record == plan.record


def test_a_plan_without_choices_is_the_same_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    seen = measure(graph, pictures())
    plain = with_ranges(graph, seen, "min_max")
    monkeypatch.setattr(per_tensor, "GAIN_DB", 100.0)
    assert with_ranges_per_tensor(graph, seen, plain) is plain
