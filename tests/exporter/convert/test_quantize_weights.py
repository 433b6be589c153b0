"""Weights and biases, held against hand-worked integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.plan import Affine
from exporter.convert.quantize.rounding.weights import (
    BIAS_LIMIT,
    WeightNotes,
    dequantize_weights,
    quantize_weights,
)

UNIT = Affine(1.0, 0)


def test_by_hand() -> None:
    weight = np.float32([[1.27, -0.635, 0.0049], [254.0, 3.0, -5.0]])
    found, notes = quantize_weights(weight, np.float32([0.5, -8.0]), Affine(0.5, 3), UNIT)
    np.testing.assert_allclose(found.scales, [0.01, 2.0], rtol=1e-6)
    # 63.5 and 1.5, 2.5 lie in the middle: half to even
    assert found.values[0, 0] == 127
    assert found.values[0, 1] in (-63, -64)  # -63.5 up to float32 rounding
    assert found.values[0, 2] == 0
    np.testing.assert_array_equal(found.values[1], [127, 2, -2])
    np.testing.assert_array_equal(found.bias, [100, -8])  # 0.5 / (0.5 * 0.01), -8 / (0.5 * 2)
    assert found.values.dtype == np.int8
    assert found.scales.dtype == np.float32
    assert found.bias.dtype == np.int32
    assert notes == WeightNotes()


def test_minus_128_is_never_used() -> None:
    found, _ = quantize_weights(np.float32([[-3.0, 1.0]]), np.zeros(1, "f"), UNIT, UNIT)
    assert found.values.tolist() == [[-127, 42]]


def test_every_output_channel_has_a_scale_of_its_own() -> None:
    """Per tensor cannot happen by accident: uneven channels all keep 7 bits."""
    weight = np.float32([1e-3, 1.0, 50.0])[:, None, None, None] * np.ones((3, 2, 3, 3), "f")
    found, _ = quantize_weights(weight, np.zeros(3, "f"), UNIT, UNIT)
    assert found.scales.shape == (3,)
    np.testing.assert_array_equal(np.abs(found.values).max(axis=(1, 2, 3)), [127, 127, 127])


def test_a_dead_channel_keeps_its_bias() -> None:
    weight = np.zeros((2, 4), np.float32)
    weight[1] = 1.0
    source, result = Affine(0.02, -128), Affine(0.05, 0)
    found, notes = quantize_weights(weight, np.float32([-3.25, 1.0]), source, result)
    assert notes.dead == (0,)
    assert notes.widened == ()
    assert not found.values[0].any()
    _, bias = dequantize_weights(found, source)
    assert abs(bias[0] + 3.25) < result.scale / 100


def test_a_bias_beyond_int32_widens_the_scale() -> None:
    weight = np.float32([[1e-9, -2e-9], [1.0, 2.0]])
    source = Affine(0.01, 0)
    found, notes = quantize_weights(weight, np.float32([50.0, 50.0]), source, UNIT)
    assert notes.widened == (0,)
    assert abs(int(found.bias[0])) <= BIAS_LIMIT
    assert found.bias[0] > 0.99 * BIAS_LIMIT
    _, bias = dequantize_weights(found, source)
    np.testing.assert_allclose(bias, [50.0, 50.0], rtol=1e-3)
    assert np.abs(found.values[0]).max() < 127


def test_tiny_weights_keep_the_multiplier_within_the_kernels_range() -> None:
    found, notes = quantize_weights(np.full((1, 3), 1e-38, "f"), np.zeros(1, "f"), UNIT, UNIT)
    assert notes.widened == (0,)
    assert found.scales[0] >= 2.0**-32
    assert not found.values.any()


def test_an_absurd_multiplier_is_an_error_that_names_the_layer() -> None:
    with pytest.raises(QuantizationError, match=r"Channel 1 of the layer 'conv7'"):
        quantize_weights(
            np.float32([[1.0], [1e6]]), np.zeros(2, "f"), UNIT, Affine(1e-3, 0), "conv7"
        )


@pytest.mark.parametrize("where", ["weight", "bias"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(where: str, bad: float) -> None:
    weight, bias = np.ones((2, 2), np.float32), np.zeros(2, np.float32)
    (weight if where == "weight" else bias).flat[1] = bad
    with pytest.raises(QuantizationError, match="'fc' holds weights that are not finite"):
        quantize_weights(weight, bias, UNIT, UNIT, "fc")


@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-5, 10.0),
    st.floats(1e-5, 10.0),
)
def test_errors_are_within_half_a_step(seed: int, source_scale: float, spread: float) -> None:
    random = np.random.default_rng(seed)
    factors = spread * 10.0 ** random.uniform(-2, 2, 4)
    weight = (random.standard_normal((4, 3, 3, 3)) * factors[:, None, None, None]).astype("f")
    bias = random.standard_normal(4).astype("f")
    source = Affine(source_scale, 0)
    result = Affine(source_scale * spread * 100, 0)
    found, _ = quantize_weights(weight, bias, source, result)
    back, back_bias = dequantize_weights(found, source)
    steps = found.scales.astype(np.float64)
    assert (np.abs(back - weight) <= steps[:, None, None, None] * 0.5001).all()
    unit = steps * source_scale
    assert (np.abs(back_bias.astype(np.float64) - bias) <= unit * 0.5001 + 1e-6).all()
    assert found.values.min() >= -127
