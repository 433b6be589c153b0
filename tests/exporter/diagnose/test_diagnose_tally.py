"""Sums, ranges and channels, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exporter.diagnose.results import Histogram
from exporter.diagnose.tally import BINS, NoiseTally, RangeTally
from exporter.diagnose.tflite_file import Tensor

# real values 0, 0.5 ... 127.5: a range like a ReLU's
TENSOR = Tensor(0, "x", (1, 2, 2), np.int8, np.array([0.5], np.float32), -128, 0, None)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_signal_to_noise() -> None:
    tally = NoiseTally()
    tally.add(floats(3, 4), floats(3, 4.5))
    tally.add(floats(0, 5), floats(0.5, 5))
    assert tally.signal == 50
    assert tally.decibels(tally.accumulated) == pytest.approx(20)  # 50 to 0.5
    assert tally.noise is None  # nothing was isolated


def test_the_parts_of_the_error() -> None:
    tally = NoiseTally()
    tally.add(floats(10, 0), floats(10, 0))
    parts = {"input": floats(1, 0), "weights": floats(0, 2),
             "rounding": floats(0, -2), "clipping": floats(3, 0)}  # fmt: skip
    tally.add_isolated(parts)
    noise = tally.noise
    assert noise is not None
    assert (noise.input, noise.weights, noise.rounding, noise.clipping) == pytest.approx(
        (0.01, 0.04, 0.04, 0.09)
    )
    assert noise.cause == "clipping"
    assert tally.own == 9  # weights and rounding undo each other here
    assert tally.same_input == 16


def test_no_signal_has_no_ratio_and_no_error_the_highest() -> None:
    tally = NoiseTally()
    tally.add(floats(0, 0), floats(1, 0))
    assert tally.decibels(tally.accumulated) is None
    tally.add(floats(1, 0), floats(1, 0))
    assert tally.decibels(0.0) == 200


def test_values_outside_the_range_and_the_histogram() -> None:
    tally = RangeTally(TENSOR)
    # half a step beyond 127.5 still rounds onto the last level; -0.25 onto the first
    tally.add_values(floats(0, 1, 127.5, 127.75, -0.25, 128, -1, 1000).reshape(1, 4, 2))
    levels = np.array([-128, -126, 127, 127, -128, 127, -128, 127], np.int8)
    tally.add_levels(levels.reshape(1, 4, 2))
    seen = tally.range()
    assert seen.observed == (-1, 1000)
    assert seen.representable == (0, 127.5)
    assert (seen.below, seen.above, seen.saturated) == (1 / 8, 2 / 8, 3 / 8)
    assert seen.levels_used == 3
    shares = [3 / 8, 1 / 8, 4 / 8]
    assert seen.entropy_bits == pytest.approx(-sum(p * math.log2(p) for p in shares))
    histogram = seen.histogram
    assert isinstance(histogram, Histogram)
    assert histogram.width == 127.5 / BINS
    assert sum(histogram.counts) == 8
    assert histogram.counts[BINS] == 2  # 0 and 1
    assert histogram.counts[BINS - 1] == 2  # -0.25 and -1
    assert histogram.counts[2 * BINS] == 3  # 127.5, 127.75 and 128
    assert histogram.counts[-1] == 1  # 1000, and all beyond


def test_the_histogram_of_two_images_is_the_sum() -> None:
    values = np.random.default_rng(0).normal(60, 30, (2, 4, 2)).astype(np.float32)
    apart, together = RangeTally(TENSOR), RangeTally(TENSOR)
    for each in values:
        apart.add_values(each)
    together.add_values(values)
    assert apart.range().histogram == together.range().histogram


def test_channels_that_carry_little() -> None:
    tally = RangeTally(TENSOR)
    # always zero; always 5; varies by less than a step; over 7.9, 1/16 of 127.5 being 7.97;
    # over 8; alive in one image only
    first = floats(0, 5, 3.0, 10.0, 10, 0)
    second = floats(0, 5, 3.1, 17.9, 18, 50)
    for values in (first, second):
        tally.add_values(values.reshape(1, 1, 6))
        tally.add_levels(TENSOR.quantized(values).reshape(1, 1, 6))
    channels = tally.channels()
    assert channels is not None
    assert channels.count == 6
    assert (channels.zero, channels.constant) == ((0,), (1,))
    assert channels.lost == (2,)
    assert channels.narrow == (2, 3)


def test_without_float_values_levels_are_still_counted() -> None:
    tally = RangeTally(TENSOR)
    tally.add_levels(np.full((1, 1, 2), 7, np.int8))
    seen = tally.range()
    assert (seen.levels_used, seen.entropy_bits) == (1, 0)
    assert seen.observed is seen.below is seen.histogram is None
    assert tally.channels() is None


def test_levels_round_to_the_nearest_and_clip() -> None:
    found = TENSOR.quantized(floats(-3, 0, 0.24, 0.26, 127.5, 500))
    np.testing.assert_array_equal(found, [-128, -128, -128, -127, 127, 127])
    np.testing.assert_array_equal(TENSOR.real(found), floats(0, 0, 0, 0.5, 127.5, 127.5))
