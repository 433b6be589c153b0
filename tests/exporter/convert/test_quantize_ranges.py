"""Range rules: hand-worked values, a brute-force search, properties of the affine map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.convert.quantize.observe import Observation, Observer
from exporter.convert.quantize.plan import Affine
from exporter.convert.quantize.ranges import (
    LEVELS,
    RULES,
    Range,
    affine,
    choose_range,
    saturated_share,
)
from exporter.convert.quantize.simulate import fake_quantize


def _seen(*images: object) -> Observation:
    observer = Observer()
    for values in images:
        observer.update(np.asarray(values, np.float32))
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


def test_levels() -> None:
    assert LEVELS == 127 - -128
