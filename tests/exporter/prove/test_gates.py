"""The gates: at the limit, beyond it, and moved by flags."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from exporter.prove.compare import Comparison, Metrics
from exporter.prove.gates import GATES, GateError, Limits, check, with_overrides


def compared(flips: int, images: int = 100, labelled: bool = False, shift: float = 0.0) -> Metrics:
    reference = np.array([0.75, 0.25], np.float32)
    same = np.array([0.75 - shift, 0.25 + shift], np.float32)
    other = np.array([0.25, 0.75], np.float32)
    comparison = Comparison("softmax")
    for index in range(images):
        truth = (0,) if labelled else None
        comparison.add(f"{index}", reference, other if index < flips else same, None, truth)
    return comparison.metrics()


def failed(metrics: Metrics, limits: Limits) -> set[str]:
    return {gate.name for gate in check(metrics, limits, "softmax") if not gate.passed}


def test_the_table_is_the_agreed_one() -> None:
    assert GATES["float32"] == Limits(max_probability_difference=1e-4, min_agreement=1.0)
    assert GATES["float16"] == Limits(min_agreement=0.99)
    assert GATES["int8"] == Limits(
        min_agreement=0.94, max_accuracy_drop=0.015, max_macro_f1_drop=0.02
    )


@pytest.mark.parametrize(
    ("precision", "flips", "passes"),
    [("float32", 0, True), ("float16", 1, True), ("float16", 2, False),
     ("int8", 6, True), ("int8", 7, False)],
)  # fmt: skip
def test_agreement_at_and_beyond_the_limit(precision: str, flips: int, passes: bool) -> None:
    assert (not failed(compared(flips), GATES[precision])) is passes  # type: ignore[index]


def test_float32_takes_no_flip_and_no_drift() -> None:
    assert failed(compared(1), GATES["float32"]) == {
        "top-1 agreement",
        "max probability difference",
    }
    assert not failed(compared(0, shift=9e-5), GATES["float32"])
    assert failed(compared(0, shift=2e-4), GATES["float32"]) == {"max probability difference"}


def test_accuracy_drop_counts_with_labels_only() -> None:
    assert not failed(compared(1, labelled=True), GATES["int8"])
    assert failed(compared(2, labelled=True), GATES["int8"]) == {"accuracy drop"}
    names = [gate.name for gate in check(compared(3), GATES["int8"], "softmax")]
    assert "accuracy drop" not in names


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_broken_outputs_fail_every_precision(precision: str) -> None:
    reference = np.array([0.75, 0.25], np.float32)
    for bad, name in [
        ([0.75, math.nan], "images with NaN or infinity"),
        ([math.inf, 0.25], "images with NaN or infinity"),
        ([0.752, 0.25], "sum of probabilities off 1"),
        ([1.01, -0.01], "probabilities outside 0..1"),
    ]:
        comparison = Comparison("softmax")
        comparison.add("a", reference, np.array(bad, np.float32))
        assert name in failed(comparison.metrics(), GATES[precision])  # type: ignore[index]


def test_sigmoid_outputs_need_not_sum_to_one() -> None:
    comparison = Comparison("sigmoid")
    both = np.array([0.75, 0.5], np.float32)
    comparison.add("a", both, both)
    assert all(gate.passed for gate in check(comparison.metrics(), GATES["float32"], "sigmoid"))


def test_several_answers_have_a_limit_of_macro_f1() -> None:
    comparison = Comparison("sigmoid")
    both, one = np.array([0.75, 0.75], np.float32), np.array([0.75, 0.25], np.float32)
    for index in range(100):
        comparison.add(f"{index}", both, one if index < 3 else both, None, (0, 1))
    metrics = comparison.metrics()
    drop = (1 - 2 * 97 / (2 * 97 + 3)) / 2  # class 1 was missed three times of a hundred
    (gate,) = [g for g in check(metrics, GATES["int8"], "sigmoid") if "F1" in g.name]
    assert (gate.value, gate.limit, gate.passed) == (pytest.approx(drop), 0.02, True)
    tighter = with_overrides(["int8.max_macro_f1_drop=0.007"])["int8"]
    assert [g.name for g in check(metrics, tighter, "sigmoid") if not g.passed] == ["macro F1 drop"]
    without = with_overrides(["int8.max_accuracy_drop=0.001", "int8.max_macro_f1_drop=off"])["int8"]
    assert all(g.passed for g in check(metrics, without, "sigmoid"))


def test_flags_move_and_switch_off_gates() -> None:
    table = with_overrides(
        ["int8.min_agreement=0.5", "float32.max-probability-difference=off", "int8.min_sqnr_db=20"]
    )
    assert table["int8"] == replace(GATES["int8"], min_agreement=0.5, min_sqnr_db=20.0)
    assert table["float32"] == Limits(min_agreement=1.0)
    assert GATES["int8"].min_agreement == 0.94
    assert "logit SQNR in dB" in failed(compared(30), table["int8"])


def test_a_logit_gate_that_cannot_be_measured_fails() -> None:
    comparison = Comparison("softmax")
    certain = np.array([1.0, 0.0], np.float32)  # log(0) holds no logit
    comparison.add("a", certain, certain)
    metrics = comparison.metrics()
    assert metrics.logit_sqnr_db is None
    assert metrics.mean_logit_difference is None
    asked = Limits(max_mean_logit_difference=0.5, min_sqnr_db=-1.0)  # -1: 0 dB would pass it
    checks = [gate for gate in check(metrics, asked, "softmax") if not gate.passed]
    assert [(gate.name, gate.value, gate.limit) for gate in checks] == [
        ("mean logit difference (not measurable)", 0.0, 0.5),
        ("logit SQNR in dB (not measurable)", 0.0, -1.0),
    ]
    json.dumps([asdict(gate) for gate in checks], allow_nan=False)
    assert not failed(metrics, Limits())


@pytest.mark.parametrize(
    "item",
    ["int4.min_agreement=1", "int8.agreement=1", "int8.min_agreement", "int8=1",
     "int8.min_agreement=high", "int8.min_agreement=nan"],
)  # fmt: skip
def test_gates_that_do_not_exist(item: str) -> None:
    with pytest.raises(GateError, match="gate"):
        with_overrides([item])


@pytest.mark.parametrize(
    ("images", "flips", "limit", "passes"),
    [(8, 1, 0.93, True), (8, 2, 0.93, False), (100, 7, 0.93, True), (100, 8, 0.93, False),
     (8, 1, 1.0, False), (1, 1, 0.93, True), (50, 1, 0.99, True), (50, 2, 0.99, False)],
)  # fmt: skip
def test_one_changed_answer_of_few_says_nothing(
    images: int, flips: int, limit: float, passes: bool
) -> None:
    comparison = Comparison("softmax")
    for number in range(images):
        wanted = np.float32([0.6, 0.4])
        comparison.add(f"{number}", wanted, wanted[::-1] if number < flips else wanted)
    checks = check(comparison.metrics(), Limits(min_agreement=limit), "softmax")
    agreement = next(gate for gate in checks if gate.name == "top-1 agreement")
    assert agreement.passed is passes
