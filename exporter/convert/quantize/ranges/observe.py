"""Observers: what the values of a tensor were over the calibration images.

They stream: an observer keeps two extremes, two sums and one histogram of fixed
size, whatever the number of images. What it ends with does not depend on the order
of the images (the sums up to float64 rounding, everything else exactly).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 2048
SAMPLES = 4096  # values of one tensor of one image that go into its histogram
_SMALLEST_EXPONENT = -60
_LARGEST_INDEX = 2**40  # bin numbers stay exact in int64 and float64

Values = npt.NDArray[np.float32]
Counts = npt.NDArray[Any]


class Histogram:
    """Counts in bins of width 2^k with edges at multiples of it; the range expands.

    When a value falls outside, k grows and neighbouring bins are merged in pairs, so
    nothing is ever counted twice or split. Since edges are multiples of the width, the
    state is a function of the values alone, not of their order: k is the smallest
    exponent (from -60) at which all of them fit into `bins` bins. Exact zeros are counted apart:
    they cost nothing to represent and would drown the rest behind a ReLU.

    Args:
        bins: how many bins there are at most; at least 2.
        weighted: whether values count by weights that are not whole; then the state is
            independent of the order up to float64 rounding of their sums.
    """

    def __init__(self, bins: int = BINS, weighted: bool = False) -> None:
        self.zeros = 0
        self._kind: npt.DTypeLike = np.float64 if weighted else np.int64
        self._bins = bins
        self._exponent = _SMALLEST_EXPONENT
        self._first = 0  # the index of the first bin: it begins at first * 2^exponent
        self._counts: Counts = np.zeros(0, self._kind)

    def update(self, values: Values, weight: int = 1, each: Values | None = None) -> None:
        """Count finite values of any shape, each `weight` times.

        Args:
            each: a weight of each value, not negative, of the values' shape; only for a
                weighted histogram.
        """
        flat = np.asarray(values, np.float64).ravel()
        there = flat != 0.0
        kept = flat[there]
        self.zeros += weight * (flat.size - kept.size)
        if not kept.size:
            return
        self._expand(float(kept.min()), float(kept.max()))
        index = np.floor(np.ldexp(kept, -self._exponent)).astype(np.int64) - self._first
        shares = None if each is None else np.asarray(each, np.float64).ravel()[there]
        self._counts += weight * np.bincount(index, shares, minlength=self._counts.size)

    def _expand(self, low: float, high: float) -> None:
        """Choose bins that hold [low, high] and all that was counted before."""
        exponent = self._exponent
        if self._counts.size:
            below, above = self._first, self._first + self._counts.size - 1
        else:
            below = above = math.floor(math.ldexp(low, -exponent))
        first = min(below, math.floor(math.ldexp(low, -exponent)))
        last = max(above, math.floor(math.ldexp(high, -exponent)))
        shift = 0
        while (last >> shift) - (first >> shift) + 1 > self._bins or (
            max(abs(first >> shift), abs(last >> shift)) > _LARGEST_INDEX
        ):
            shift += 1
        counts = np.zeros((last >> shift) - (first >> shift) + 1, self._kind)
        if self._counts.size:
            target = (self._first + np.arange(self._counts.size)) >> min(shift, 63)
            np.add.at(counts, target - (first >> shift), self._counts)
        self._exponent, self._first, self._counts = exponent + shift, first >> shift, counts

    @property
    def width(self) -> float:
        """The width of a bin."""
        return math.ldexp(1.0, self._exponent)

    @property
    def total(self) -> int:
        """How many values were counted, zeros included."""
        return self.zeros + int(self._counts.sum())

    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin, ascending, float64 `[n]`."""
        middles = self._first + np.arange(self._counts.size, dtype=np.float64) + 0.5
        return np.ldexp(middles, self._exponent)

    def edges(self) -> npt.NDArray[np.float64]:
        """Where the bins begin and where the last one ends, ascending, float64 `[n + 1]`."""
        numbers = self._first + np.arange(self._counts.size + 1, dtype=np.float64)
        return np.ldexp(numbers, self._exponent)

    def counts(self) -> Counts:
        """Values other than zero in each bin, int64 `[n]`; float64 of a weighted histogram."""
        return self._counts.copy()


@dataclass(frozen=True, eq=False)
class Observation:
    """What one tensor (or one group of tensors that share a scale) was seen to hold.

    Attributes:
        low, high: the smallest and largest value seen anywhere, exact.
        mean_low, mean_high: the mean over the images of each image's extremes.
        images: how many images that was.
        histogram: counts of a sample of the values.
        weighted: the same sample, each value counted by how far its error moves the
            logits; None where that was not measured.
    """

    low: float
    high: float
    mean_low: float
    mean_high: float
    images: int
    histogram: Histogram
    weighted: Histogram | None = None


class ImageSample:
    """Keeps a few of the images that stream by: those whose bytes hash lowest.

    As good as random, the same whatever the order, and an image that comes twice is
    kept once.

    Args:
        limit: how many images are kept at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[bytes, npt.NDArray[np.uint8]] = {}

    def update(self, image: npt.NDArray[np.uint8]) -> None:
        """Take one image."""
        key = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        if len(self._kept) == self._limit and key >= max(self._kept, default=b""):
            return
        self._kept[key] = image.copy()
        if len(self._kept) > self._limit:
            del self._kept[max(self._kept)]

    def images(self) -> list[npt.NDArray[np.uint8]]:
        """The kept images, in the order of their hashes."""
        return [self._kept[key] for key in sorted(self._kept)]


class Observer:
    """Watches one tensor, or several that are to share one scale, image by image."""

    def __init__(self, bins: int = BINS) -> None:
        self._histogram = Histogram(bins)
        self._weighted: Histogram | None = None
        self._bins = bins
        self._low = math.inf
        self._high = -math.inf
        self._sum_low = 0.0
        self._sum_high = 0.0
        self._images = 0

    def update(self, *tensors: Values, each: Sequence[Values] = ()) -> bool:
        """Take one image's values of the tensor(s), of any shape.

        Args:
            each: for every tensor, of its shape, what the error of a value counts (see
                `gradients`); left out, or given for all images.

        Returns:
            Whether all of them were finite; if not, nothing was taken.
        """
        low = min(float(values.min()) for values in tensors)
        high = max(float(values.max()) for values in tensors)
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        if any(np.isnan(values.min()) for values in tensors):
            return False  # Python's min() passes over a NaN that does not come first
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._sum_low += low
        self._sum_high += high
        self._images += 1
        if each and self._weighted is None:
            self._weighted = Histogram(self._bins, weighted=True)
        for index, values in enumerate(tensors):
            taken = sample(values)
            # of several tensors each counts by its size, however few were sampled
            weight = round(values.size / taken.size) if len(tensors) > 1 else 1
            self._histogram.update(taken, weight)
            if each and self._weighted is not None:
                self._weighted.update(taken, weight, sample(each[index]))
        return True

    def finish(self) -> Observation:
        """What was seen; at least one image must have been taken."""
        if not self._images:
            raise ValueError("an observer that saw no image has nothing to say")
        return Observation(
            low=self._low,
            high=self._high,
            mean_low=self._sum_low / self._images,
            mean_high=self._sum_high / self._images,
            images=self._images,
            histogram=self._histogram,
            weighted=self._weighted,
        )


def sample(values: Values, limit: int = SAMPLES) -> Values:
    """At most `limit` of the values, the same positions every time; `[min(size, limit)]`."""
    flat = values.reshape(-1)
    return flat if flat.size <= limit else flat[positions(flat.size, limit)]


@lru_cache(maxsize=256)
def positions(size: int, limit: int) -> npt.NDArray[np.int64]:
    """One position in each of `limit` equal stretches: every channel gets its share.

    A fixed step would beat with the width of the picture and see few of its columns.
    """
    if size <= limit:
        return np.arange(size)
    edges = np.linspace(0, size, limit + 1)
    jitter = np.random.default_rng(size).random(limit)
    return np.minimum((edges[:-1] + jitter * np.diff(edges)).astype(np.int64), size - 1)
