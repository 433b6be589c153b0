"""Every metric against values worked out by hand."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from exporter.prove import compare
from exporter.prove.answering import Rule
from exporter.prove.compare import FLOAT16, FLOAT32, MAX_SQNR_DB, Comparison


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def softmax(*logits: float) -> np.ndarray:
    exponent = np.exp(np.array(logits, np.float64))
    return (exponent / exponent.sum()).astype(np.float32)


def test_probability_differences_by_hand() -> None:
    comparison = Comparison("softmax")
    comparison.add("a", vector(0.5, 0.25, 0.25), vector(0.25, 0.5, 0.25))
    comparison.add("b", vector(0.5, 0.25, 0.25), vector(0.5, 0.25, 0.25))
    metrics = comparison.metrics()
    assert metrics.max_probability_difference == 0.25
    assert metrics.mean_probability_difference == pytest.approx(0.5 / 6)
    assert metrics.top1_agreement == 0.5
    assert [found.image for found in metrics.worst] == ["a", "b"]
    assert [found.image for found in metrics.flipped] == ["a"]
    assert metrics.flipped[0].reference_top == 0
    assert metrics.flipped[0].top == 1
    assert metrics.flipped[0].reference_margin == 0.25


def test_logit_error_is_that_of_the_logits_up_to_their_mean() -> None:
    # Logits (2, 0, -2) against (2.3, 0, -2.3): errors (0.3, 0, -0.3), signal 8, noise 0.18.
    comparison = Comparison("softmax")
    comparison.add("a", softmax(2, 0, -2), softmax(2.3, 0, -2.3))
    metrics = comparison.metrics()
    assert metrics.max_logit_difference == pytest.approx(0.3, abs=1e-6)
    assert metrics.mean_logit_difference == pytest.approx(0.2, abs=1e-6)
    assert metrics.logit_sqnr_db == pytest.approx(10 * math.log10(8 / 0.18), abs=1e-4)


def test_a_constant_added_to_all_logits_is_no_error() -> None:
    comparison = Comparison("softmax")
    comparison.add("a", softmax(2, 0, -2), softmax(12, 10, 8))
    assert comparison.metrics().max_logit_difference == pytest.approx(0.0, abs=1e-6)


def test_sqnr_adds_up_energies_over_images_not_decibels() -> None:
    comparison = Comparison("softmax")
    comparison.add("a", softmax(2, -2), softmax(2.5, -2.5))  # signal 8, noise 0.5
    comparison.add("b", softmax(1, -1), softmax(1, -1))  # signal 2, noise 0
    assert comparison.metrics().logit_sqnr_db == pytest.approx(10 * math.log10(20), abs=1e-4)


def test_equal_to_the_last_bit_is_the_cap_and_json_can_hold_it() -> None:
    comparison = Comparison("softmax")
    comparison.add("a", softmax(2, 0, -2), softmax(2, 0, -2))
    assert comparison.metrics().logit_sqnr_db == MAX_SQNR_DB


def test_sigmoid_logits_are_not_centred() -> None:
    def sigmoid(*logits: float) -> np.ndarray:
        return (1 / (1 + np.exp(-np.array(logits)))).astype(np.float32)

    comparison = Comparison("sigmoid")
    comparison.add("a", sigmoid(1, 3), sigmoid(1.5, 3.5))
    metrics = comparison.metrics()
    assert metrics.mean_logit_difference == pytest.approx(0.5, abs=1e-5)
    assert metrics.logit_sqnr_db == pytest.approx(10 * math.log10(10 / 0.5), abs=1e-3)


def test_saturated_sigmoids_have_no_logits() -> None:
    comparison = Comparison("sigmoid")
    comparison.add("a", vector(1.0, 0.0), vector(1.0, 0.0))
    metrics = comparison.metrics()
    assert metrics.mean_logit_difference is None
    assert metrics.logit_sqnr_db is None


def test_a_class_that_the_artifact_lost_is_an_error_not_infinity() -> None:
    pair = compare.logit_pair(vector(0.5, 0.5), vector(1.0, 0.0), "softmax", FLOAT32)
    assert pair is not None
    reference, found = pair
    assert np.isfinite(found).all()
    assert np.abs(found - reference).max() > 40


def test_float16_compares_only_what_float16_holds() -> None:
    reference = vector(0.9, 0.1, 1e-7)
    found = vector(0.9, 0.1, 0.0)
    assert compare.logit_pair(reference, found, "softmax", FLOAT16)[0].size == 2  # type: ignore[index]
    assert compare.logit_pair(reference, found, "softmax", FLOAT32)[0].size == 3  # type: ignore[index]
    assert compare.logit_pair(vector(1.0, 0.0), found[:2], "softmax", FLOAT16) is None


@pytest.mark.parametrize(
    ("reference", "found", "agree"),
    [
        ((0.4, 0.4, 0.2), (0.3, 0.5, 0.2), True),  # the reference ties: either will do
        ((0.4, 0.4, 0.2), (0.3, 0.2, 0.5), False),
        ((0.5, 0.3, 0.2), (0.4, 0.4, 0.2), True),  # the artifact ties: the lowest index
        ((0.3, 0.5, 0.2), (0.4, 0.4, 0.2), False),
        ((0.5000001, 0.4999999, 0.0), (0.4999999, 0.5000001, 0.0), False),  # near is no tie
        ((0.5, 0.3, 0.2), (0.5, math.nan, 0.2), False),
    ],
)
def test_ties(reference: tuple[float, ...], found: tuple[float, ...], agree: bool) -> None:
    assert Rule().agrees(vector(*reference), vector(*found)) is agree


def test_top5_is_the_shared_part() -> None:
    reference = vector(0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05)
    found = vector(0.3, 0.2, 0.15, 0.12, 0.05, 0.08, 0.1)
    assert compare.top_overlap(reference, found) == pytest.approx(0.8)
    assert compare.top_overlap(vector(0.6, 0.3, 0.1), vector(0.3, 0.6, 0.1)) == 1.0
    assert compare.top_overlap(vector(0.6, 0.3, 0.1), vector(0.6, 0.1, 0.3)) == 0.5


def test_accuracy_counts_labelled_images_only() -> None:
    comparison = Comparison("softmax")
    comparison.add("a", vector(0.7, 0.3), vector(0.7, 0.3), "x", (0,))
    comparison.add("b", vector(0.7, 0.3), vector(0.3, 0.7), "x", (0,))
    comparison.add("c", vector(0.7, 0.3), vector(0.3, 0.7))
    metrics = comparison.metrics()
    assert metrics.labelled == 2
    assert metrics.accuracy == 0.5
    assert metrics.reference_accuracy == 1.0


def test_not_a_number_agrees_with_nothing_and_spoils_no_other_figure() -> None:
    comparison = Comparison("softmax")
    comparison.add("good", vector(0.7, 0.3), vector(0.7, 0.3), "x", (0,))
    comparison.add("bad", vector(0.7, 0.3), vector(0.7, math.nan), "x", (0,))
    metrics = comparison.metrics()
    assert metrics.not_finite == 1
    assert metrics.top1_agreement == 0.5
    assert metrics.accuracy == 0.5
    assert metrics.max_probability_difference == 0.0
    assert metrics.worst[0].image == "bad"
    assert metrics.flipped[0].image == "bad"


def test_sum_and_range_errors() -> None:
    comparison = Comparison("softmax")
    comparison.add("a", vector(0.7, 0.3), vector(0.7, 0.4))
    comparison.add("b", vector(0.7, 0.3), vector(1.25, -0.5))
    metrics = comparison.metrics()
    assert metrics.sum_error == pytest.approx(0.25)
    assert metrics.range_error == pytest.approx(0.5)


def test_shapes_that_differ_and_empty_comparisons_are_defects() -> None:
    comparison = Comparison("softmax")
    with pytest.raises(ValueError, match="against"):
        comparison.add("a", vector(0.7, 0.3), vector(0.7, 0.2, 0.1))
    with pytest.raises(ValueError, match="no image"):
        comparison.metrics()


def test_memory_does_not_hold_the_probabilities() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (2, 1000))
    reference, found = (softmax(*row) for row in logits)
    tracemalloc.start()
    try:
        comparison = Comparison("softmax")
        for number in range(400):
            comparison.add(f"{number}", reference.copy(), found.copy())
        comparison.metrics()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 400 * 1000  # a quarter of one float32 an image and class
