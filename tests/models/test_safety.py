"""Venomous called harmless: counted by hand, intervals against SciPy, thresholds by search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import safety
from models.safety import (
    choose_threshold,
    clopper_pearson,
    count,
    images_needed,
    sweep,
    verdicts,
)

VENOM: Any = ("yes", "no", "unknown", "yes")


def row(answer: int, sure: float) -> list[float]:
    """Probabilities of four classes with one winner."""
    rest = (1 - sure) / 3
    return [sure if index == answer else rest for index in range(4)]


# truth, answer, how sure
SET = [
    (0, 1, 0.9),  # venomous called harmless
    (0, 1, 0.4),  # the same, but not sure at 0.5
    (0, 0, 0.8),  # venomous called venomous
    (0, 3, 0.7),  # another venomous species: wrong, and safe
    (3, 2, 0.6),  # venomous called unknown
    (1, 1, 0.95),  # harmless called harmless
    (1, 0, 0.55),  # a false alarm
    (1, 1, 0.3),  # not sure of a harmless one
    (2, 1, 0.99),  # unknown called harmless
    (2, 2, 0.9),
]


def example() -> safety.Verdicts:
    return verdicts([row(a, s) for _, a, s in SET], [t for t, _, _ in SET], VENOM)


def test_ten_images_by_hand() -> None:
    found = count(example(), 0.5)
    assert (found.called_harmless.count, found.called_harmless.of) == (1, 5)
    assert found.called_harmless.rate == pytest.approx(0.2)
    assert (found.cautious.count, found.cautious.of) == (2, 7)
    assert found.called_venomous.count == 2
    assert found.called_unknown.count == 1
    assert (found.not_sure.count, found.not_sure.of) == (1, 5)
    assert (found.not_sure_of_all.count, found.not_sure_of_all.of) == (2, 10)
    assert (found.false_alarms.count, found.false_alarms.of) == (1, 3)
    assert (found.wrong_among_harmless.count, found.wrong_among_harmless.of) == (1, 3)
    assert found.unknown == 2


def test_every_venomous_image_has_one_verdict() -> None:
    for threshold in (0, 0.3, 0.5, 0.7, 1):
        found = count(example(), threshold)
        parts = found.called_harmless, found.called_venomous, found.called_unknown, found.not_sure
        assert sum(part.count for part in parts) == 5


def test_a_probability_at_the_threshold_is_an_answer() -> None:
    found = verdicts([[0.25, 0.75, 0, 0]], [0], VENOM)
    assert count(found, 0.75).called_harmless.count == 1
    assert count(found, 0.7501).called_harmless.count == 0


def test_counting_not_sure_as_harmless_would_be_found_out() -> None:
    """The mutant that forgets the threshold gives 2 of 5."""
    assert count(example(), 0.0).called_harmless.count == 2


def test_several_classes_an_image() -> None:
    table = np.array([
        [0.2, 0.9, 0.1, 0.1],  # yes and no are there, only the harmless one is found
        [0.8, 0.9, 0.1, 0.1],  # both are found: venomous
        [0.1, 0.9, 0.6, 0.1],  # harmless and unknown are found: unknown
        [0.1, 0.3, 0.1, 0.1],  # nothing is found: not sure, at any threshold
        [0.1, 0.7, 0.1, 0.1],  # no snake, called harmless
    ])  # fmt: skip
    truth = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    found = verdicts(table, truth, VENOM, (0.5, 0.5, 0.5, 0.5))
    assert found.truth.tolist() == ["yes", "yes", "yes", "yes", "no"]
    counted = count(found, 0.0)
    assert (counted.called_harmless.count, counted.called_harmless.of) == (1, 4)
    assert counted.called_unknown.count == 1
    assert counted.not_sure.count == 1
    # a class threshold of its own turns the first into 'venomous'
    lower = verdicts(table, truth, VENOM, (0.2, 0.5, 0.5, 0.5))
    assert count(lower, 0.0).called_harmless.count == 0


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 40), (3, 40), (40, 40), (1, 5000), (700, 5000)])
def test_the_interval_is_that_of_scipy(k: int, n: int) -> None:
    from scipy.stats import binomtest

    theirs = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_interval_of_none_by_hand() -> None:
    assert clopper_pearson(0, 10)[1] == pytest.approx(1 - 0.025 ** (1 / 10))
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_images_needed_is_where_none_of_them_rules_the_rate_out() -> None:
    needed = images_needed(0.01)
    assert needed == 368
    assert clopper_pearson(0, needed)[1] <= 0.01 < clopper_pearson(0, needed - 1)[1]


@pytest.mark.parametrize("most", [0.0, 0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(6))
def test_no_smaller_threshold_keeps_the_rate(most: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.ones(4) * 0.5, 120).astype(np.float32)
    found = verdicts(table, rng.integers(0, 4, 120), VENOM)
    chosen = choose_threshold(found, most)
    assert chosen is not None
    rate = count(found, chosen).called_harmless.rate
    assert rate is not None
    assert rate <= most
    if 0 < chosen <= 0.9999:
        lower = count(found, round(chosen - 1e-4, 4)).called_harmless.rate
        assert lower is not None
        assert lower > most


def test_nothing_missed_needs_no_threshold() -> None:
    assert choose_threshold(verdicts([row(0, 0.9)], [0], VENOM), 0.0) == 0.0


def test_wrong_and_quite_sure_can_be_kept_out_with_more_digits() -> None:
    found = verdicts([[0, 0.99999, 0, 0]], [0], VENOM)
    chosen = choose_threshold(found, 0.0)
    assert chosen is not None
    assert 0.99999 < chosen < 1


def test_wrong_with_certainty_is_beyond_any_threshold() -> None:
    assert choose_threshold(verdicts([[0, 1.0, 0, 0]], [0], VENOM), 0.0) is None


def test_without_venomous_species_nothing_is_chosen() -> None:
    assert choose_threshold(verdicts([row(1, 0.9)], [1], VENOM), 0.01) is None


def test_the_curve_has_the_counts_of_each_threshold() -> None:
    found = example()
    curve = sweep(found, points=11)
    for place, threshold in enumerate(curve.thresholds):
        counted = count(found, float(threshold))
        assert curve.called_harmless[place] == pytest.approx(counted.called_harmless.rate)
        assert curve.not_sure[place] == pytest.approx(counted.not_sure.rate)
        assert curve.not_sure_of_all[place] == pytest.approx(counted.not_sure_of_all.rate)
        assert (curve.low[place], curve.high[place]) == counted.called_harmless.interval
    assert np.all(np.diff(curve.called_harmless) <= 0)
    assert np.all(np.diff(curve.not_sure_of_all) >= 0)
