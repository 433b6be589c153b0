"""The decision: truths on small cases, and what must hold of any comparison."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.choose.decide import (
    SAME_SPEED,
    Judged,
    decide,
    drop_noise,
    factor_over,
    judge,
    noise_between,
    same_accuracy,
    standard_error,
)
from exporter.choose.results import Budget, Comparison, Latency, Outcome
from support.comparisons import FLOAT16, FLOAT32, INT8, comparison, five, outcome, two


def taken(said: Comparison) -> str | None:
    found = decide(said).taken
    return found.name if found is not None else None


# the file that stands for a candidate


def judged(said: Outcome, budget: Budget | None = None) -> Judged:
    found = judge(said, budget or Budget(), 100)
    assert isinstance(found, Judged)
    return found


def test_int8_stands_for_a_candidate_where_its_gate_passed() -> None:
    found = judged(outcome("a", 2.0, 0.9, 1.5, 0.01))
    assert (found.file, found.ms, found.accuracy, found.bytes) == (INT8, 2.0, 0.9, 1_500_000)
    assert found.p90 == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("failed", "file"), [((INT8,), FLOAT16), ((INT8, FLOAT16), FLOAT32), ((FLOAT16,), INT8)]
)
def test_a_failed_gate_makes_the_next_file_stand(failed: tuple[str, ...], file: str) -> None:
    assert judged(outcome("a", gates_failed=dict.fromkeys(failed, "no"))).file == file


@pytest.mark.parametrize("what", ["accuracy", "latency", "sizes"])
def test_a_file_that_was_not_measured_is_passed_over(what: str) -> None:
    full = outcome("a")
    less = {key: value for key, value in getattr(full, what).items() if key != INT8}
    assert judged(replace(full, **{what: less})).file == FLOAT16


@pytest.mark.parametrize(
    "figures",
    [{"accuracy": {INT8: math.nan}}, {"latency": {INT8: Latency(math.nan, 1.0)}}],
)
def test_a_figure_that_is_not_a_number_is_not_measured(figures: dict[str, object]) -> None:
    found = judge(replace(outcome("a"), **figures), Budget(), 100)  # type: ignore[arg-type]
    assert isinstance(found, str)
    assert "not measured" in found


def test_why_a_candidate_is_left_out() -> None:
    broken = outcome("b", gates_failed=dict.fromkeys((INT8, FLOAT16, FLOAT32), "off"))
    said = decide(comparison(Outcome("a", "a", {}, failure="no memory"), broken, outcome("c")))
    assert [each.name for each in said.judged] == ["c"]
    assert [(each.name, reason) for each, reason in said.left_out] == [
        ("a", "no memory"),
        ("b", "failed its gate: tflite-int8 (off), tflite-float16 (off), tflite-float32 (off)"),
    ]


# noise


@pytest.mark.parametrize(("share", "images"), [(0.5, 100), (0.9, 272), (0.97, 400)])
def test_the_standard_error_is_that_of_repeated_draws(share: float, images: int) -> None:
    draws = np.random.default_rng(0).binomial(images, share, 20_000) / images
    assert standard_error(share, images) == pytest.approx(draws.std(), rel=0.15)


def test_the_standard_error_falls_with_images_and_is_never_nothing() -> None:
    errors = [standard_error(1.0, images) for images in (0, 1, 10, 100, 1000)]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 0.002


def test_the_noise_of_a_drop_covers_that_of_repeated_draws() -> None:
    """Of 500 images, 4 % changed, half of them for the better: the drop's true mean is 0."""
    rng = np.random.default_rng(1)
    moves = rng.choice([-1, 0, 1], p=[0.02, 0.96, 0.02], size=(4000, 500))
    said = outcome("a", images=500, agreement={INT8: 0.96})
    assert drop_noise(said, 0) == pytest.approx((moves.mean(1)).std(), rel=0.1)
    assert drop_noise(replace(said, agreement={}), 0) > 1.5 * drop_noise(said, 0)
    assert drop_noise(replace(said, test_images=0), 0) == 0.5


# the rule


def test_the_fastest_of_those_within_noise_is_taken() -> None:
    assert taken(two()) == "mobilenet_v2:width_mult=0.35"
    assert [each.name for each in decide(two()).equals] == [
        "mobilenet_v2:width_mult=0.35",
        "mobilenet_v2",
    ]


def test_a_difference_beyond_noise_is_paid_for() -> None:
    better = outcome("slow", 9.0, 0.945)
    assert taken(comparison(better, outcome("fast", 2.0, 0.90))) == "slow"
    few = comparison(
        replace(better, test_images=30), outcome("fast", 2.0, 0.90, images=30), images=30
    )
    assert taken(few) == "fast"  # on 30 images the same shares are equal


def test_the_smaller_of_two_of_one_speed_is_taken() -> None:
    big, small = outcome("big", 2.0, 0.9, 8.0), outcome("small", 2.19, 0.9, 0.8)
    assert taken(comparison(big, small)) == "small"
    assert taken(comparison(big, outcome("small", 2.21, 0.9, 0.8))) == "big"


def test_the_budget_goes_first() -> None:
    accurate = outcome("accurate", 9.0, 0.97, 8.0)
    weak = outcome("weak", 2.0, 0.6, 0.8)
    assert taken(comparison(accurate, weak)) == "accurate"
    assert taken(comparison(accurate, weak, ms=8.9)) == "weak"
    assert taken(comparison(accurate, weak, mb=7.9)) == "weak"
    assert taken(comparison(accurate, weak, ms=9.0, mb=8.0)) == "accurate"
    assert taken(comparison(accurate, weak, ms=1.0)) is None


def test_the_nearest_is_over_by_the_smallest_factor() -> None:
    slow, large = outcome("slow", 3.0, 0.9, 0.5), outcome("large", 0.5, 0.9, 2.0)
    found = decide(comparison(slow, large, ms=1, mb=1))
    assert found.nearest is not None
    assert found.nearest.name == "large"
    assert found.nearest.over_mb == pytest.approx(1.0)
    assert found.nearest.over_ms == 0
    assert (found.taken, found.best, found.equals) == (None, None, ())


def test_the_worse_of_two_excesses_counts() -> None:
    """1.9 times in both is nearer than 2.5 times in one."""
    both, one = outcome("both", 1.9, 0.9, 1.9), outcome("one", 2.5, 0.9, 0.5)
    found = decide(comparison(both, one, ms=1, mb=1))
    assert found.nearest is not None
    assert found.nearest.name == "both"


def test_the_budget_counts_for_the_file_that_ships() -> None:
    """float16 is slower and larger than int8; where it stands, its figures count."""
    said = outcome("a", 2.0, 0.9, 1.0, gates_failed={INT8: "off"})
    found = judged(said, Budget(5.0, 1.5))
    assert (found.over_ms, found.over_mb) == (pytest.approx(1.0), pytest.approx(0.5))


def test_nothing_is_taken_where_nothing_is_there() -> None:
    for said in (comparison(), comparison(Outcome("a", "a", {}, failure="no"))):
        found = decide(said)
        assert (found.taken, found.nearest, found.front) == (None, None, ())


def test_how_an_outcome_was_judged_is_found_again() -> None:
    said = five()
    found = decide(said)
    assert [found.of(each) is None for each in said.outcomes] == [False] * 4 + [True]


# what holds of any comparison

GRID = st.tuples(
    st.integers(1, 12), st.integers(0, 20), st.integers(1, 12), st.sampled_from([0, 0, 0, 1, 2])
)
LIMIT = st.none() | st.integers(1, 12)


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    """Coarse figures, so that equal and dominated points are common."""
    outcomes = []
    for place, (ms, right, mb, kind) in enumerate(draw(st.lists(GRID, max_size=8))):
        name = f"net{place}"
        if kind == 1:
            outcomes.append(Outcome(name, "net", {}, failure="broken"))
            continue
        more = {"gates_failed": {INT8: "off"}} if kind == 2 else {}
        outcomes.append(outcome(name, ms / 4, right / 20, mb / 4, images=100, **more))
    ms, mb = draw(LIMIT), draw(LIMIT)
    return comparison(
        *outcomes, ms=ms and ms / 4, mb=mb and mb / 4, images=draw(st.sampled_from([10, 100]))
    )


@settings(max_examples=200, deadline=None)
@given(comparisons())
def test_the_front_is_what_none_dominates(said: Comparison) -> None:
    found = decide(said)
    off = [each for each in found.judged if each not in found.front]
    assert not [a for a in found.front for b in found.judged if b.dominates(a)]
    assert all(any(b.dominates(a) for b in found.front) for a in off)
    assert list(found.front) == sorted(found.front, key=lambda each: each.ms)
    accuracies = [each.accuracy for each in found.front]
    assert accuracies == sorted(accuracies)


@settings(max_examples=200, deadline=None)
@given(comparisons())
def test_what_is_taken_fits_and_none_is_better_beyond_noise(said: Comparison) -> None:
    found = decide(said)
    assert len(found.judged) + len(found.left_out) == len(said.outcomes)
    fitting = [each for each in found.judged if each.fits]
    assert (found.taken is None) == (not fitting)
    assert (found.nearest is None) == (bool(fitting) or not found.judged)
    if found.taken is None:
        if found.nearest is not None:
            least = min(factor_over(each, said.budget) for each in found.judged)
            assert factor_over(found.nearest, said.budget) == least > 1
        return
    assert found.best is not None
    assert found.taken.fits
    assert found.taken in found.equals
    for each in fitting:
        assert each.accuracy - found.taken.accuracy <= noise_between(found.best, found.taken)
        assert each.accuracy <= found.best.accuracy
        if same_accuracy(each, found.best):
            assert found.taken.ms <= each.ms * (1 + SAME_SPEED)
            assert each.ms > found.taken.ms or each.bytes >= found.taken.bytes


@settings(max_examples=100, deadline=None)
@given(comparisons(), st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(said: Comparison, random: object) -> None:
    shuffled = list(said.outcomes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = decide(said), decide(replace(said, outcomes=tuple(shuffled)))
    for name in ("taken", "best", "nearest", "front", "equals"):
        assert getattr(one, name) == getattr(other, name)


@settings(max_examples=100, deadline=None)
@given(comparisons())
def test_a_larger_budget_never_lowers_the_best_accuracy(said: Comparison) -> None:
    wider = replace(
        said,
        budget=Budget(said.budget.ms and said.budget.ms * 2, said.budget.mb and said.budget.mb * 2),
    )
    before, after = decide(said).best, decide(wider).best
    if before is not None:
        assert after is not None
        assert after.accuracy >= before.accuracy
