"""From what a tensor was seen to hold to the range that int8 represents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from exporter.convert.quantize.plan import Affine
from exporter.convert.quantize.ranges.divergence import LEVELS, Divergence
from exporter.convert.quantize.ranges.observe import Histogram, Observation
from exporter.convert.quantize.ranges.useful import ALL, Bounds

Rule = Literal[
    "mean_min_max",
    "least_squared_error",
    "weighted_squared_error",
    "percentile_99.99",
    "percentile_99.999",
    "entropy",
    "min_max",
]
RULES: tuple[Rule, ...] = get_args(Rule)

Cost = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]

_SMALLEST_SCALE = 2.0**-24
_EMPTY_SCALE = 1.0 / LEVELS
_GRID = 96  # clip bounds tried on each side
_ROUNDS = 8  # alternations between the two sides; they settle in two or three


@dataclass(frozen=True)
class Range:
    """An interval of real numbers that holds zero."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= 0.0 <= self.high:
            raise ValueError(f"the range [{self.low}, {self.high}] does not hold zero")


def affine(wanted: Range) -> Affine:
    """Scale and zero point for a range, zero exactly representable.

    `scale = (high - low) / 255`, `zero_point = round(-128 - low / scale)` (Jacob et al.
    2018, section 2.1). The rounding of the zero point moves both ends by up to half a
    step. A tensor that was always zero gets the scale 1/255 (any would do; this one
    keeps the multipliers of its neighbours ordinary); none is below 2^-24.
    """
    width = wanted.high - wanted.low
    scale = float(np.float32(max(width / LEVELS, _SMALLEST_SCALE) if width > 0 else _EMPTY_SCALE))
    return Affine(scale, int(np.clip(np.rint(-128 - wanted.low / scale), -128, 127)))


def choose_range(seen: Observation, rule: Rule) -> Range:
    """The range that a rule picks for a tensor; never wider than what was seen and zero.

    Raises:
        ValueError: the rule is unknown.
    """
    if rule not in _CHOOSERS:
        raise ValueError(f"unknown range rule {rule!r}; there are: {', '.join(RULES)}")
    return _CHOOSERS[rule](seen)


def within(wanted: Range, useful: Bounds) -> Range:
    """The part of a range whose values matter to what reads them."""
    return Range(max(wanted.low, useful[0]), min(wanted.high, useful[1]))


def min_max(seen: Observation) -> Range:
    """From the smallest to the largest value ever seen: nothing is clipped."""
    return Range(min(seen.low, 0.0), max(seen.high, 0.0))


def mean_min_max(seen: Observation) -> Range:
    """From the mean over images of each image's minimum to that of the maxima.

    Rare images no longer stretch the scale of all others, and an ordinary image is
    hardly clipped.
    """
    return Range(min(seen.mean_low, 0.0), max(seen.mean_high, 0.0))


def least_squared_error(seen: Observation) -> Range:
    """The range whose expected squared quantization error is least.

    Inside, rounding costs `scale^2 / 12` a value (zeros cost nothing); outside, clipping
    costs the squared distance to the bound (the decomposition of Banner et al. 2019,
    ACIQ, section 3, here over the histogram instead of an assumed distribution). The two
    bounds are searched in turn on a grid between zero and the extreme value.
    """
    return _cheapest(min_max(seen), _ClipCost(seen.histogram))


def weighted_squared_error(seen: Observation) -> Range:
    """The range whose errors move the logits least: `least_squared_error` in which the error
    of each value counts by the squared derivative of the logits by it (see `gradients`).

    Where the logits depend on nothing that was sampled, all values count the same.

    Raises:
        ValueError: the derivatives were not measured.
    """
    if seen.weighted is None:
        raise ValueError("the derivatives of the logits were not measured")
    moved = seen.weighted if seen.weighted.counts().any() else seen.histogram
    return _cheapest(min_max(seen), _ClipCost(moved))


def percentile(seen: Observation, share: float) -> Range:
    """The narrowest bounds beyond which, on either side, at most `1 - share` of the values lie.

    Zeros are counted. Bounds are bin edges of the histogram, and no wider than what was seen.
    """
    histogram = seen.histogram
    counts, edges = histogram.counts(), histogram.edges()
    spare = int((1.0 - share) * histogram.total + 1e-9)
    below = np.concatenate([[0], np.cumsum(counts)])  # values under each edge, but for zeros
    above = below[-1] - below
    negative, positive = edges <= 0.0, edges >= 0.0
    lows, highs = edges[negative & (below <= spare)], edges[positive & (above <= spare)]
    low = float(lows[-1]) if lows.size else 0.0
    high = float(highs[0]) if highs.size else 0.0
    full = min_max(seen)
    return Range(max(low, full.low), min(high, full.high))


def entropy(seen: Observation) -> Range:
    """The range whose quantized distribution tells least from the real one; see `divergence`."""
    return _cheapest(min_max(seen), Divergence(seen.histogram))


def _cheapest(full: Range, cost: Cost) -> Range:
    """The bounds within a range that cost least, found for the two sides in turn on a grid.

    Of bounds that cost the same the widest.
    """
    if full.low == full.high:
        return full
    shares = np.arange(_GRID, 0, -1) / _GRID
    lows = full.low * shares if full.low < 0 else np.zeros(1)
    highs = full.high * shares if full.high > 0 else np.zeros(1)
    low, high = float(lows[0]), float(highs[0])
    for _ in range(_ROUNDS):
        before = (low, high)
        high = float(highs[cost(np.full(highs.size, low), highs).argmin()])
        low = float(lows[cost(lows, np.full(lows.size, high)).argmin()])
        if (low, high) == before:
            break
    return Range(low, high)


_CHOOSERS: dict[str, Callable[[Observation], Range]] = {
    "min_max": min_max,
    "mean_min_max": mean_min_max,
    "least_squared_error": least_squared_error,
    "weighted_squared_error": weighted_squared_error,
    "percentile_99.99": lambda seen: percentile(seen, 0.9999),
    "percentile_99.999": lambda seen: percentile(seen, 0.99999),
    "entropy": entropy,
}


class _ClipCost:
    """Expected total squared error of ranges over a histogram, by cumulative sums."""

    def __init__(self, histogram: Histogram) -> None:
        self._x = histogram.centres()
        counts = histogram.counts().astype(np.float64)
        self._n = _cumulative(counts)
        self._s = _cumulative(counts * self._x)
        self._q = _cumulative(counts * self._x**2)

    def __call__(
        self, lows: npt.NDArray[np.float64], highs: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """The cost of each pair `[n]` of bounds."""
        first = np.searchsorted(self._x, lows, side="left")
        last = np.searchsorted(self._x, highs, side="right")
        inside = self._n[last] - self._n[first]
        under = self._moment(np.zeros_like(first), first, lows)
        over = self._moment(last, np.full_like(last, self._x.size), highs)
        return inside * ((highs - lows) / LEVELS) ** 2 / 12 + under + over

    def _moment(
        self,
        first: npt.NDArray[np.int64],
        last: npt.NDArray[np.int64],
        bound: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """The sum of `(x - bound)^2` over bins first..last - 1."""
        n, s, q = (c[last] - c[first] for c in (self._n, self._s, self._q))
        return np.maximum(q - 2 * bound * s + n * bound**2, 0.0)


def _cumulative(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.zeros(1), np.cumsum(values)])


def saturated_share(seen: Observation, chosen: Affine, useful: Bounds = ALL) -> float:
    """The estimated share of the values that lie beyond int8's range, 0..1.

    Values beyond `useful` are not counted where that is what cuts them off.
    """
    x, counts = seen.histogram.centres(), seen.histogram.counts()
    low = (-128 - chosen.zero_point - 0.5) * chosen.scale
    high = (127 - chosen.zero_point + 0.5) * chosen.scale
    x = np.clip(x, useful[0], useful[1])
    beyond = int(counts[(x < low) | (x > high)].sum())
    return beyond / max(seen.histogram.total, 1)
