"""Streaming observers, held against hand-worked values and against all values at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.convert.quantize.ranges.observe import (
    SAMPLES,
    Histogram,
    ImageSample,
    Observer,
    sample,
)


def _f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_histogram_by_hand() -> None:
    histogram = Histogram(bins=4)
    histogram.update(_f32(0.0, 0.25, 0.75, 0.75, 1.75))
    # [0.25, 1.75] fits four bins of 1/2 with edges at multiples of it, not eight of 1/4
    assert histogram.width == 0.5
    assert histogram.zeros == 1
    np.testing.assert_array_equal(histogram.centres(), [0.25, 0.75, 1.25, 1.75])
    np.testing.assert_array_equal(histogram.counts(), [1, 2, 0, 1])


def test_histogram_expands_by_merging_pairs() -> None:
    histogram = Histogram(bins=4)
    histogram.update(_f32(0.25, 0.75, 0.75, 1.75))
    histogram.update(_f32(-1.5))
    # bins of 1: [-2, -1), [-1, 0), [0, 1), [1, 2)
    assert histogram.width == 1.0
    np.testing.assert_array_equal(histogram.centres(), [-1.5, -0.5, 0.5, 1.5])
    np.testing.assert_array_equal(histogram.counts(), [1, 0, 3, 1])


_finite = st.floats(-(2.0**100), 2.0**100, width=32)


@given(st.lists(st.lists(_finite, min_size=1, max_size=6), min_size=1, max_size=6), st.randoms())
def test_histogram_does_not_depend_on_the_order(batches: list, random: object) -> None:
    forward, shuffled, at_once = Histogram(16), Histogram(16), Histogram(16)
    for batch in batches:
        forward.update(_f32(*batch))
    random.shuffle(batches)  # type: ignore[attr-defined]
    for batch in batches:
        shuffled.update(_f32(*batch))
    at_once.update(_f32(*(value for batch in batches for value in batch)))
    for other in (shuffled, at_once):
        np.testing.assert_array_equal(forward.counts(), other.counts())
        np.testing.assert_array_equal(forward.centres(), other.centres())
        assert forward.zeros == other.zeros
    assert forward.total == sum(map(len, batches))


@given(st.lists(_finite, min_size=1, max_size=30))
def test_each_value_is_within_half_a_bin_of_a_counted_centre(values: list[float]) -> None:
    histogram = Histogram(bins=8)
    histogram.update(_f32(*values))
    counted = np.repeat(histogram.centres(), histogram.counts())
    rest = np.sort([value for value in _f32(*values).astype(float) if value != 0.0])
    assert len(histogram.counts()) <= 8
    np.testing.assert_allclose(counted, rest, rtol=0, atol=histogram.width / 2)


def test_extremes_and_their_means_by_hand() -> None:
    observer = Observer()
    for values in (_f32(-1, 2), _f32(-3, 8), _f32(1, 5)):
        assert observer.update(values)
    seen = observer.finish()
    assert (seen.low, seen.high) == (-3.0, 8.0)
    assert (seen.mean_low, seen.mean_high) == (-1.0, 5.0)
    assert seen.images == 3
    assert seen.histogram.total == 6


def test_tensors_that_share_a_scale_count_as_one() -> None:
    observer = Observer()
    observer.update(_f32(-1, 2), _f32(4))
    observer.update(_f32(-3, 0), _f32(1))
    seen = observer.finish()
    assert (seen.mean_low, seen.mean_high) == (-2.0, 2.5)


def test_tensors_that_share_a_scale_count_by_size() -> None:
    observer = Observer()
    observer.update(np.full(4 * SAMPLES, 1.0, np.float32), np.full(SAMPLES, 3.0, np.float32))
    counts = observer.finish().histogram.counts()
    assert sorted(counts[counts > 0]) == [SAMPLES, 4 * SAMPLES]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("first", [True, False])
def test_values_that_are_not_finite_are_not_taken(bad: float, first: bool) -> None:
    observer = Observer()
    tensors = (_f32(1.0, bad), _f32(2.0))
    assert not observer.update(*(tensors if first else tensors[::-1]))
    with pytest.raises(ValueError, match="no image"):
        observer.finish()


def test_a_sample_sees_every_channel_and_the_whole_width() -> None:
    channel, row, column = np.meshgrid(np.arange(96), np.arange(112), np.arange(112), indexing="ij")
    for values, count in ((channel, 96), (row, 112), (column, 112)):
        taken = sample(values.astype(np.float32))
        assert taken.size == SAMPLES
        seen, times = np.unique(taken, return_counts=True)
        assert len(seen) == count
        assert times.max() < 3 * SAMPLES / count
    np.testing.assert_array_equal(sample(_f32(3, 1, 2)), _f32(3, 1, 2))


def test_kept_images_do_not_depend_on_order_and_duplicates_are_kept_once() -> None:
    images = [np.full((2, 2, 3), value, np.uint8) for value in range(20)]
    forward, backward = ImageSample(5), ImageSample(5)
    for image in [*images, *images]:
        forward.update(image)
    for image in images[::-1]:
        backward.update(image)
    kept = [int(image[0, 0, 0]) for image in forward.images()]
    assert len(set(kept)) == 5
    assert kept == [int(image[0, 0, 0]) for image in backward.images()]


def test_memory_is_flat_in_the_number_of_images() -> None:
    def peak(images: int) -> int:
        random = np.random.default_rng(0)
        observer = Observer()
        tracemalloc.start()
        for _ in range(images):
            observer.update(random.standard_normal((8, 40, 40), dtype=np.float32))
        observer.finish()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(200) < 1.1 * peak(10) + 10_000
