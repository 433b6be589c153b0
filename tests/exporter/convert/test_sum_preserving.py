"""Rounding that keeps sums: the arithmetic, and that it helps on what it was made for."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.convert.quantize.rounding.sum_preserving import _first, to_float16, to_int8

RANDOM = np.random.default_rng(5)


def weights(*shape: int, scale: float = 0.1) -> np.ndarray:
    return (RANDOM.standard_normal(shape) * scale).astype(np.float32)


def restored(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return values.astype(np.float64) * scales.astype(np.float64).reshape(
        (-1,) + (1,) * (values.ndim - 1)
    )


def row_sums(weight: np.ndarray) -> np.ndarray:
    return weight.astype(np.float64).reshape(len(weight), -1).sum(axis=1)


def test_int8_by_hand() -> None:
    """Scale 1: 127, and three times 0.4. Nearest gives 0, 0, 0; the sum 1.2 wants one 1."""
    weight = np.float32([[127, 0.4, 0.4, 0.4]])
    values, scales = to_int8(weight)
    assert scales.tolist() == [1.0]
    assert values.tolist() == [[127, 1, 0, 0]]


def test_int8_moves_down_too() -> None:
    values, _ = to_int8(np.float32([[-127, 0.6, 0.6, 0.6]]))
    assert values.tolist() == [[-127, 0, 1, 1]]


@pytest.mark.parametrize("shape", [(7, 1, 3, 3), (6, 5, 3, 3), (8, 40, 1, 1), (5, 1000)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_int8_stays_within_a_step_and_keeps_sums(shape: tuple[int, ...], dtype: type) -> None:
    weight = weights(*shape)
    values, scales = to_int8(weight, dtype)
    assert values.dtype == np.int8
    assert values.shape == weight.shape
    assert scales.dtype == dtype
    assert np.abs(values.astype(int)).max() == 127
    steps = (restored(values, scales) - weight) / scales.astype(np.float64).reshape(
        (-1,) + (1,) * (weight.ndim - 1)
    )
    assert np.abs(steps).max() <= 1.5 + 1e-9
    assert np.abs(row_sums(steps)).max() <= 0.5 + 1e-6


def test_int8_keeps_the_sum_of_each_kernel_to_a_step() -> None:
    weight = weights(6, 5, 3, 3)
    values, scales = to_int8(weight)
    error = (restored(values, scales) - weight) / scales.astype(np.float64)[:, None, None, None]
    assert np.abs(error.sum(axis=(2, 3))).max() <= 1.5 + 1e-6


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = weights(3, 4)
    weight[1] = 0
    values, scales = to_int8(weight, np.float16)
    assert not values[1].any()
    assert np.isfinite(scales).all() and (scales > 0).all()


@pytest.mark.parametrize("shape", [(9, 1, 3, 3), (4, 300)])
def test_float16_keeps_sums(shape: tuple[int, ...]) -> None:
    weight = weights(*shape)
    found, nearest = to_float16(weight), weight.astype(np.float16)
    assert found.dtype == np.float16
    spacing = np.spacing(np.abs(nearest)).astype(np.float64)
    assert (np.abs(found.astype(np.float64) - weight) <= 1.01 * spacing).mean() > 0.9
    kept = np.abs(row_sums(found) - row_sums(weight))
    lost = np.abs(row_sums(nearest) - row_sums(weight))
    assert kept.max() < lost.max() / 4


def test_float16_beyond_its_range_is_not_finite() -> None:
    found = to_float16(np.float32([[1.0, 70000.0], [1.0, 2.0]]))
    assert np.isfinite(found).all(axis=1).tolist() == [False, True]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_smooth_input_is_filtered_better_than_with_the_nearest(bits: int) -> None:
    """Depthwise filters over inputs with a mean: the error power must fall to a third."""
    weight = weights(200, 1, 3, 3)
    inputs = 2 + 0.3 * RANDOM.standard_normal((500, 9))
    rows = weight.reshape(200, 9).astype(np.float64)
    if bits == 8:
        values, scales = to_int8(weight)
        found = restored(values, scales).reshape(200, 9)
        step = scales.astype(np.float64)[:, None]
        nearest = np.rint(rows / step) * step
    else:
        found = to_float16(weight).reshape(200, 9).astype(np.float64)
        nearest = rows.astype(np.float16).astype(np.float64)
    power = [np.square(inputs @ (w - rows).T).mean() for w in (found, nearest)]
    assert power[0] < power[1] / 3


@pytest.mark.parametrize("length", [40, 129, 700])
def test_the_values_that_move_are_those_of_a_stable_sort(length: int) -> None:
    """Long rows are not sorted; equal gains, infinities and whole rows make no difference."""
    random = np.random.default_rng(length)
    gain = np.round(random.normal(0, 1, (12, length)), 1)  # many are equal
    gain[:, ::7] = -np.inf
    counts = np.array([0, 1, 2, 3, 5, 8, 13, 21, 34, length - 1, length, length + 5])
    order = np.argsort(-gain, axis=1, kind="stable")
    wanted = np.zeros(gain.shape, bool)
    for row, count in enumerate(counts):
        wanted[row, order[row, :count]] = True
    np.testing.assert_array_equal(_first(gain, counts), wanted)


def test_channels_are_rounded_each_on_its_own() -> None:
    weight = np.random.default_rng(3).normal(0, 0.1, (50, 300)).astype(np.float32)
    values, scales = to_int8(weight, np.float16)
    one = [to_int8(row[None], np.float16) for row in weight]
    np.testing.assert_array_equal(values, np.concatenate([v for v, _ in one]))
    np.testing.assert_array_equal(scales, np.concatenate([s for _, s in one]))
