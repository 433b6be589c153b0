"""How much of a tensor's distribution is lost between clip bounds: the entropy rule's cost.

The Kullback-Leibler divergence of Migacz, "8-bit Inference with TensorRT" (GTC 2017), here with
a bound on either side and 256 levels between them. P is the histogram between the bounds with
what lies beyond added to its outermost bins; Q is the histogram between the bounds without that,
its bins merged into the levels that int8 has and each level spread evenly over those of its bins
that P fills. Both are normalized, and sum P log(P / Q) is what is lost: clipping makes the
outermost bins of P larger than Q's, and wide levels flatten Q.

Values that are exactly zero are left out, as the first bin is there: they are always represented.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter.convert.quantize.ranges.observe import Histogram

LEVELS = 255  # steps between the lowest and the highest of 256 values
Bounds = npt.NDArray[np.float64]


class Divergence:
    """The divergence for pairs of bounds over a histogram, in nats."""

    def __init__(self, histogram: Histogram) -> None:
        self._x = histogram.centres()
        self._n = histogram.counts().astype(np.float64)

    def __call__(self, lows: Bounds, highs: Bounds) -> Bounds:
        """Of each pair `[n]` of bounds; infinite where a level that P fills is empty in Q."""
        pairs = zip(lows.tolist(), highs.tolist(), strict=True)
        return np.array([self._of(low, high) for low, high in pairs])

    def _of(self, low: float, high: float) -> float:
        first = int(np.searchsorted(self._x, low, side="left"))
        last = int(np.searchsorted(self._x, high, side="right"))
        inside = self._n[first:last]
        if not inside.any():
            return np.inf
        clipped = inside.copy()
        clipped[0] += self._n[:first].sum()
        clipped[-1] += self._n[last:].sum()
        level = np.rint((self._x[first:last] - low) * (LEVELS / (high - low))).astype(np.int64)
        filled = clipped > 0
        shared = np.bincount(level, inside)
        among = np.bincount(level, filled)
        spread = (shared / np.maximum(among, 1))[level[filled]]
        if not spread.all():
            return np.inf
        p, q = clipped[filled] / clipped.sum(), spread / inside.sum()
        return float((p * np.log(p / q)).sum())
