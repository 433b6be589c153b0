"""Thresholds by F1: against every threshold there is, and against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from models.thresholds import tune_thresholds


def one(scores: list[float], there: list[int]) -> float:
    (found,) = tune_thresholds(np.array(scores)[:, None], np.array(there)[:, None])
    return found


def f1(scores: Any, there: Any, threshold: float) -> float:
    return float(f1_score(there, np.asarray(scores) >= threshold, zero_division=0))


def test_by_hand() -> None:
    # counting from the top: 1/1, then 1 of 2, 2 of 3, 3 of 4, 3 of 5: best where four count
    scores, there = [0.9, 0.8, 0.6, 0.4, 0.1], [1, 0, 1, 1, 0]
    assert one(scores, there) == pytest.approx(0.25)
    assert f1(scores, there, 0.25) == pytest.approx(6 / 7)
    assert f1(scores, there, 0.5) < 6 / 7


def test_separable_scores_are_divided_in_the_middle() -> None:
    assert one([0.2, 0.3, 0.7, 0.8], [0, 0, 1, 1]) == pytest.approx(0.5)
    assert one([0.01, 0.02, 0.04, 0.9], [0, 0, 1, 1]) == pytest.approx(0.03)


def test_images_of_one_score_are_never_divided() -> None:
    assert one([0.6, 0.6, 0.6, 0.2], [1, 0, 1, 0]) == pytest.approx(0.4)
    assert one([0.5, 0.5], [1, 0]) == pytest.approx(0.25), "all count"


def test_of_equal_ones_the_nearest_to_a_half() -> None:
    # F1 is 2/3 where one counts (0.75), and where all four do (0.1): 1 of 1 of 2, 2 of 4 of 2
    scores, there = [0.9, 0.6, 0.5, 0.2], [1, 0, 0, 1]
    assert f1(scores, there, 0.75) == pytest.approx(f1(scores, there, 0.1)) == pytest.approx(2 / 3)
    assert one(scores, there) == pytest.approx(0.75)
    # 0.75 (1 of 1 of 2) and 0.25 (2 of 4 of 2) are as near: the higher
    assert one([0.8, 0.7, 0.5, 0.3, 0.2], [1, 0, 0, 1, 0]) == pytest.approx(0.75)


def test_classes_that_no_image_or_every_image_has() -> None:
    found = tune_thresholds([[0.9, 0.3], [0.8, 0.4]], [[0, 1], [0, 1]])
    assert found == (0.5, pytest.approx(0.15))
    assert one([0.0, 0.3], [1, 1]) == 0.0


def test_neighbouring_floats() -> None:
    low = 0.3
    high = float(np.nextafter(low, 1.0))
    found = one([low, high], [0, 1])
    assert low < found <= high


@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_is_better(seed: int) -> None:
    """Brute force: each distinct score, and a hair above it, for each class."""
    rng = np.random.default_rng(seed)
    targets = rng.random((40, 5)) < rng.random(5)
    raw = np.clip(0.3 * targets + rng.random((40, 5)) * 0.7, 0, 1)
    scores = raw.round(1 + seed % 3)  # ties, many of them in some
    found = tune_thresholds(scores, targets)
    for index, threshold in enumerate(found):
        column, there = scores[:, index], targets[:, index]
        candidates = [0.0, 1.1, *column, *(column + 1e-9)]
        best = max(f1(column, there, each) for each in candidates)
        assert f1(column, there, threshold) == pytest.approx(best, abs=1e-12)
        assert 0 <= threshold <= 1


def test_tuned_is_better_than_a_half_where_a_class_is_rare() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((400, 3)) < 0.05).astype(int)
    scores = np.clip(0.15 * targets + 0.2 * rng.random((400, 3)), 0, 1)
    tuned = f1_score(targets, scores >= tune_thresholds(scores, targets), average="macro")
    half = f1_score(targets, scores >= 0.5, average="macro", zero_division=0)
    assert half == 0 < 0.5 < tuned


@pytest.mark.parametrize(
    ("probabilities", "targets", "words"),
    [
        ([[0.1, 0.2]], [[1]], "probabilities"),
        ([0.1], [1], "probabilities"),
        ([[1.2]], [[1]], "between 0 and 1"),
        ([[float("nan")]], [[1]], "between 0 and 1"),
        ([[0.5]], [[0.5]], "0 and 1"),
    ],
)
def test_refused(probabilities: Any, targets: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tune_thresholds(probabilities, targets)
