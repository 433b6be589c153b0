"""Range rules: hand-worked values, a brute-force search, properties of the affine map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.convert.quantize.plan import Affine
from exporter.convert.quantize.ranges.divergence import Divergence
from exporter.convert.quantize.ranges.observe import Histogram, Observation, Observer
from exporter.convert.quantize.ranges.rules import (
    RULES,
    Range,
    affine,
    choose_range,
    saturated_share,
)
from support.int8_steps import fake_quantize


def _seen(*images: object) -> Observation:
    """What an observer saw, every value as important to the logits as every other."""
    observer = Observer()
    for image in images:
        values = np.asarray(image, np.float32)
        observer.update(values, each=[np.ones_like(values)])
    return observer.finish()


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 6.0, 6 / 255, -128),
        (-1.0, 1.0, 2 / 255, -1),  # -0.5 and a little less, by the scale in float32
        (-2.55, 0.0, 0.01, 127),
        (-1.0, 1.55, 0.01, -28),
        (0.0, 0.0, 1 / 255, -128),  # never anything but zero
        (0.0, 1e-30, 2.0**-24, -128),
    ],
)
def test_affine_by_hand(low: float, high: float, scale: float, zero_point: int) -> None:
    assert affine(Range(low, high)) == Affine(float(np.float32(scale)), zero_point)


def test_a_range_holds_zero() -> None:
    with pytest.raises(ValueError, match="does not hold zero"):
        Range(0.5, 1.0)


def test_min_max_and_mean_by_hand() -> None:
    seen = _seen([-1, 2], [-3, 8], [-2, 5])
    assert choose_range(seen, "min_max") == Range(-3.0, 8.0)
    assert choose_range(seen, "mean_min_max") == Range(-2.0, 5.0)


def test_ranges_stretch_to_zero() -> None:
    for rule in RULES:
        assert choose_range(_seen([2, 4], [3, 6]), rule).low == 0.0
        assert choose_range(_seen([-2, -4], [-3, -6]), rule).high == 0.0


def test_relu_ranges_begin_at_zero_exactly() -> None:
    for rule in RULES:
        chosen = choose_range(_seen([0, 0.5, 2], [0, 1, 1.5]), rule)
        assert chosen.low == 0.0
        assert affine(chosen).zero_point == -128


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown range rule 'max'"):
        choose_range(_seen([1.0]), "max")  # type: ignore[arg-type]


def test_least_squared_error_by_hand() -> None:
    """N values spread over [0, 1] and one at h: keeping h costs N h^2 / (12 * 255^2).

    Clipping it to 1 costs (h - 1)^2. With N = 100,000 and h = 4 keeping costs 2.1 and
    clipping 9: keep it (or nearly). With N = 5,000,000 keeping costs 103: clip.
    """
    observer = Observer()
    few = np.linspace(1e-3, 1, 100_000, dtype=np.float32)
    for chunk in np.split(few, 50):
        observer.update(chunk)
    observer.update(np.float32([4.0]))
    seen = observer.finish()
    assert choose_range(seen, "least_squared_error").high > 3.0
    seen.histogram.update(few, weight=49)
    assert choose_range(seen, "least_squared_error").high < 1.8


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(["normal", "laplace", "cauchy"]))
def test_least_squared_error_against_brute_force(seed: int, relu: bool, shape: str) -> None:
    """The found range quantizes the values nearly as well as the best of all pairs tried."""
    random = np.random.default_rng(seed)
    values = getattr(random, f"standard_{shape}" if shape != "laplace" else shape)(size=3000)
    values = np.clip(values, -50, 50).astype(np.float32)
    if relu:
        values = np.maximum(values, 0)
    seen = _seen(values)

    def error(by: Range) -> float:
        return float(((fake_quantize(values, affine(by)) - values) ** 2).sum())

    lows = [0.0] if relu else np.linspace(min(seen.low, 0.0), 0.0, 16)
    highs = np.linspace(0.0, seen.high, 17)[1:]
    best = min(error(Range(float(low), float(high))) for low in lows for high in highs)
    assert error(choose_range(seen, "least_squared_error")) <= 1.1 * best + 1e-6


def test_percentiles_by_hand() -> None:
    """Of 20,000 values 99.99 % leaves two on either side: the third largest is kept."""
    values = np.concatenate([np.full(19_994, 0.5), [-8, -9, -3], [4, 16, 40]])
    seen = _seen(*np.array_split(values, 8))
    width = seen.histogram.width
    assert seen.histogram.total == 20_000 and width <= 1 / 16
    chosen = choose_range(seen, "percentile_99.99")
    assert (chosen.low, chosen.high) == pytest.approx((-3.0, 4.0), abs=width)
    assert chosen.low <= -3.0 and chosen.high >= 4.0
    assert choose_range(seen, "percentile_99.999") == Range(-9.0, 40.0)


def test_percentiles_count_zeros_and_stay_within_what_was_seen() -> None:
    zeros = np.zeros(19_000)
    rest = np.concatenate([np.full(999, 1.3), [7.0]])
    assert choose_range(_seen(*np.array_split(rest, 2)), "percentile_99.99").high == 7.0
    seen = _seen(*np.array_split(np.concatenate([zeros, rest]), 10))
    assert choose_range(seen, "percentile_99.99").high == pytest.approx(1.3, abs=0.01)
    assert choose_range(_seen([0.0, -2.5]), "percentile_99.99") == Range(-2.5, 0.0)


def _divergence(counts: dict[float, int], low: float, high: float) -> float:
    histogram = Histogram(bins=256)
    for value, count in counts.items():
        histogram.update(np.float32([value]), weight=count)
    return float(Divergence(histogram)(np.array([low]), np.array([high]))[0])


def test_divergence_by_hand() -> None:
    """Bins of 1/256 up to 4, so that a level of [0, 3.984] holds four of them.

    Bins 2 and 3 (their centres near 0.01) share a level: 3 + 1 become 2 + 2. With 4 values in a
    level of their own P is (3, 1, 4) / 8 and Q is (2, 2, 4) / 8.
    """
    counts = {2.2 / 256: 3, 3.2 / 256: 1, 3.999: 4}
    high = 255 * 4 / 256
    histogram = Histogram(bins=1024)
    for value, count in counts.items():
        histogram.update(np.float32([value]), weight=count)
    assert histogram.width == 1 / 256
    found = Divergence(histogram)(np.zeros(1), np.array([high + 0.02]))[0]
    expected = 3 / 8 * np.log(3 / 2) + 1 / 8 * np.log(1 / 2)
    assert found == pytest.approx(expected, rel=1e-9)


def test_divergence_of_clipping_by_hand() -> None:
    """One value in four beyond the bound, half a bin above 1: P is (1, 3) / 4, Q is (1, 2) / 3."""
    counts = {0.5: 1, 1.0: 2, 2.0: 1}
    expected = 1 / 4 * np.log(1 / 4 / (1 / 3)) + 3 / 4 * np.log(3 / 4 / (2 / 3))
    bound = 1.0 + 1 / 256  # the middle of the bin [1, 1 + 1/128)
    assert _divergence(counts, 0.0, bound) == pytest.approx(expected, rel=1e-9)
    # and on the other side
    mirrored = {1 / 256 - value: count for value, count in counts.items()}
    assert _divergence(mirrored, -1.0, 0.0) == pytest.approx(expected, rel=1e-9)
    assert _divergence(counts, 0.0, 2.05) == 0.0
    assert _divergence(counts, 0.0, 0.2) == np.inf  # nothing is left between the bounds


def test_entropy_cuts_a_thin_tail_on_both_sides_and_keeps_a_thick_one() -> None:
    random = np.random.default_rng(0)
    body = random.normal(0, 1, (20, 4000))
    thin = np.concatenate([body, np.tile([[-60.0, 50.0]], (20, 1))], axis=1)
    chosen = choose_range(_seen(*thin), "entropy")
    assert -20 < chosen.low < -2 and 2 < chosen.high < 20
    even = choose_range(_seen(*random.uniform(-1, 1, (20, 4000))), "entropy")
    assert even.low < -0.97 and even.high > 0.97


def test_weighted_squared_error_by_hand() -> None:
    """Large values that move no logit are cut; where they alone do, they are kept.

    With weights of 1 it is the least squared error.
    """
    values = np.concatenate([np.linspace(0.01, 1.0, 2000), np.linspace(5.0, 6.0, 100)])
    values = values.astype(np.float32)
    large = values > 2

    def chosen(each: np.ndarray) -> Range:
        observer = Observer()
        assert observer.update(values, each=[each.astype(np.float32)])
        return choose_range(observer.finish(), "weighted_squared_error")

    assert chosen(~large).high == pytest.approx(1.0, abs=0.07)
    assert chosen(large).high == pytest.approx(6.0, abs=0.07)
    plain = choose_range(_seen(values), "least_squared_error")
    assert chosen(np.ones(len(values))) == plain
    assert chosen(np.zeros(len(values))) == plain  # nothing moves the logits: all count the same


def test_weighted_squared_error_needs_the_derivatives() -> None:
    observer = Observer()
    observer.update(np.float32([1.0, 2.0]))
    with pytest.raises(ValueError, match="derivatives of the logits were not measured"):
        choose_range(observer.finish(), "weighted_squared_error")


@pytest.mark.parametrize("rule", RULES)
def test_ranges_do_not_depend_on_the_order_of_the_images(rule: str) -> None:
    random = np.random.default_rng(5)
    images = [random.standard_t(3, 500).astype(np.float32) for _ in range(12)]
    one = choose_range(_seen(*images), rule)  # type: ignore[arg-type]
    other = choose_range(_seen(*images[::-1]), rule)  # type: ignore[arg-type]
    assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-12)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"mean_min_max"}))
def test_ranges_do_not_depend_on_how_the_values_are_split(rule: str) -> None:
    """All but the mean of per-image extremes look at the values alone, not at the images."""
    values = np.random.default_rng(6).standard_t(3, 4096).astype(np.float32)
    one = choose_range(_seen(values), rule)  # type: ignore[arg-type]
    other = choose_range(_seen(*np.array_split(values, 7)), rule)  # type: ignore[arg-type]
    assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_ranges_scale_with_the_values(rule: str) -> None:
    values = np.random.default_rng(7).standard_t(3, 4096).astype(np.float32)
    one = choose_range(_seen(values), rule)  # type: ignore[arg-type]
    other = choose_range(_seen(values * 8), rule)  # type: ignore[arg-type]
    assert (other.low, other.high) == pytest.approx((8 * one.low, 8 * one.high), rel=1e-9)


def test_clipping_inside_the_cap_only_where_it_helps() -> None:
    """ReLU6 outputs: never stretched to 6, and clipped below what was seen if that is better."""
    random = np.random.default_rng(0)
    small = np.clip(random.normal(0, 0.5, (20, 4000)), 0, 6)
    assert choose_range(_seen(*small), "least_squared_error").high < small.max() < 3
    full = np.clip(random.normal(3, 3, (20, 4000)), 0, 6)
    assert choose_range(_seen(*full), "least_squared_error").high == 6.0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [2.5], [-2.5], [1e-38], [1e30]])
def test_degenerate_tensors_get_a_sane_scale(rule: str, values: list[float]) -> None:
    chosen = affine(choose_range(_seen(values), rule))  # type: ignore[arg-type]
    assert np.isfinite(chosen.scale)
    assert chosen.scale >= 2.0**-24
    assert -128 <= chosen.zero_point <= 127
    back = fake_quantize(np.float32(values), chosen)
    np.testing.assert_allclose(back, values, rtol=0.02, atol=2.0**-24)


_bounds = st.floats(0.0, 1e6, width=32)


@given(_bounds, _bounds)
def test_zero_is_exact_and_rounding_is_within_half_a_step(below: float, above: float) -> None:
    chosen = affine(Range(-below, above))
    assert fake_quantize(np.float32([0.0]), chosen)[0] == 0.0
    least = chosen.scale * (-128 - chosen.zero_point)
    most = chosen.scale * (127 - chosen.zero_point)
    values = np.linspace(least, most, 999).astype(np.float32)
    gap = np.abs(fake_quantize(values, chosen) - values).max()
    assert gap <= chosen.scale / 2 * (1 + 1e-4) + 1e-6 * max(most, -least)
    # the wished range is missed by no more than half a step at either end
    slack = chosen.scale * (0.5 + 1e-3)
    assert least <= -below + slack
    assert most >= above - slack


def test_saturated_share_by_hand() -> None:
    seen = _seen(np.concatenate([np.zeros(50), np.full(40, 1.0), np.full(10, 9.0)]))
    assert saturated_share(seen, affine(Range(0.0, 9.0))) == 0.0
    assert saturated_share(seen, affine(Range(0.0, 2.0))) == pytest.approx(0.1)
    assert saturated_share(seen, affine(Range(0.0, 0.5))) == pytest.approx(0.5)
