"""Photographs in unusual forms: the pixels that every other decoder gives too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.contract import Preprocessing
from models.images import load_pixels, open_rgb

RULE = Preprocessing(4, 4, 4)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256, 4096], [0x7FFF, 0x8000, 0xFF00, 0xFFFF]] * 2, np.uint16)
    Image.fromarray(values).save(tmp_path / f"grey{suffix}")
    found = np.asarray(open_rgb(tmp_path / f"grey{suffix}"))
    assert np.array_equal(found, np.repeat((values >> 8)[..., None], 3, axis=2))


def test_a_tall_picture_is_resized_width_first(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 23, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "tall.png")
    narrow = Image.fromarray(pixels).resize((4, 60), Image.Resampling.BILINEAR)
    small = np.asarray(narrow.resize((4, int(4 * 60 / 23)), Image.Resampling.BILINEAR))
    top = round((small.shape[0] - 4) / 2)
    assert np.array_equal(load_pixels(tmp_path / "tall.png", RULE), small[top : top + 4])
