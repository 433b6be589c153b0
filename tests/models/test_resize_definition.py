"""The written definition of the resize gives Pillow's bytes; a wrong one does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.contract import Preprocessing
from models.images import to_square
from support import resize_definition as definition

SIDES = st.one_of(st.integers(1, 9), st.integers(10, 90), st.sampled_from([1, 97, 128, 255, 400]))


def picture(seed: int, width: int, height: int) -> np.ndarray:
    """Noise in which the extremes 0 and 255 are common, uint8 `[height, width, 3]`."""
    noise = np.random.default_rng(seed).integers(-60, 316, (height, width, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def pillow(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """One side a call, width first: in one call Pillow 13 may start with the height."""
    image = Image.fromarray(pixels)
    image = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


@settings(max_examples=250, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_the_definition_is_pillows(width, height, new_width, new_height, seed):
    pixels = picture(seed, width, height)
    found = definition.resize(pixels, new_width, new_height)
    np.testing.assert_array_equal(found, pillow(pixels, new_width, new_height))


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIDES, st.booleans(), st.integers(0, 2**32 - 1))
def test_a_side_that_stays_is_not_touched(width, height, new, keep_width, seed):
    pixels = picture(seed, width, height)
    size = (width, new) if keep_width else (new, height)
    np.testing.assert_array_equal(definition.resize(pixels, *size), pillow(pixels, *size))


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_one_call_of_pillow_is_the_same_where_it_starts_with_the_width(w, h, new_w, new_h, seed):
    """Pillow before 13 always does; from 13 on unless the height loses far more than the width."""
    assume(h - new_h <= max(0, 2 * (w - new_w)))
    pixels = picture(seed, w, h)
    image = Image.fromarray(pixels).resize((new_w, new_h), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(definition.resize(pixels, new_w, new_h), np.asarray(image))


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1)])
def test_pictures_of_one_row(size):
    pixels = picture(3, *size)
    new = (110, 300) if size[0] == 1 else (300, 110)
    np.testing.assert_array_equal(definition.resize(pixels, *new), pillow(pixels, *new))


@pytest.mark.parametrize(
    "size", [(4032, 3024), (3024, 4032), (1919, 1081), (1080, 2400), (500, 2111), (97, 150)]
)
def test_squares_of_photographs(size):
    """(1080, 2400) is a phone's screen, where Pillow 13 in one call starts with the height."""
    width, height = size
    new = (110, int(110 * height / width)) if width <= height else (int(110 * width / height), 110)
    pixels = picture(3, width, height)
    left, top = definition.square_offsets(*new, 96)
    square = definition.resize(pixels, *new)[top : top + 96, left : left + 96]
    rule = Preprocessing(height=96, width=96, resize_shorter_side=110)
    np.testing.assert_array_equal(square, np.asarray(to_square(Image.fromarray(pixels), rule)))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_half_to_even(side, crop):
    side, crop = max(side, crop), min(side, crop)
    assert definition.square_offsets(side, side, crop)[0] == round((side - crop) / 2)


def box(x: float) -> float:
    return 1.0 if abs(x) <= 0.5 else 0.0


@pytest.mark.parametrize(
    "mutant",
    [
        definition.Rule(bits=21),
        definition.Rule(round_between=False),
        definition.Rule(shape=box),
        definition.Rule(antialias=False),
        definition.Rule(height_first=True),
    ],
    ids=["21 bits", "not rounded between the passes", "box filter", "no antialias", "height first"],
)
def test_a_wrong_definition_is_seen(mutant):
    """Over the same kind of pictures as above each mutant differs somewhere."""
    differing = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        width, height, new_width, new_height = (int(n) for n in rng.integers(40, 400, 4))
        pixels = picture(seed, width, height)
        found = definition.resize(pixels, new_width, new_height, mutant)
        differing += int((found != pillow(pixels, new_width, new_height)).sum())
        if differing:
            break
    assert differing > 0


def test_every_transparency_over_white():
    """All 65,536 pairs of a value and an alpha, against Pillow."""
    value, alpha = (part.astype(np.uint8) for part in np.mgrid[0:256, 0:256])
    pixels = np.stack([value, value, value, alpha], axis=2)
    ground = Image.new("RGBA", (256, 256), (255, 255, 255, 255))
    mixed = Image.alpha_composite(ground, Image.fromarray(pixels)).convert("RGB")
    expected = np.asarray(mixed)[..., 0]
    found = [[definition.over_white(v, a) for a in range(256)] for v in range(256)]
    np.testing.assert_array_equal(np.array(found), expected)
