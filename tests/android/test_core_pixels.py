"""The core's pixels are Pillow's: sizes, orientations, transparency, whole photographs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from models.contract import Preprocessing
from models.images import load_pixels
from support import core_replay, kotlin
from support import resize_definition as definition
from support.core_replay import Cases

missing = kotlin.unavailable()
pytestmark = pytest.mark.skipif(missing is not None, reason=missing or "")

ORIENTATION = 0x0112
SIDES = [1, 2, 3, 5, 7, 13, 31, 32, 33, 64, 97, 150, 255, 301]


def noise(rng: np.random.Generator, width: int, height: int, channels: int = 3) -> np.ndarray:
    """The extremes 0 and 255 are common in it."""
    values = rng.integers(-60, 316, (height, width, channels))
    return np.clip(values, 0, 255).astype(np.uint8)


def pillow(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Width first in every version of Pillow: one side a call."""
    image = Image.fromarray(pixels)
    image = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def test_resize_to_the_bit():
    """700 odd sizes and aspect ratios, up and down, a side kept, sides of one pixel."""
    rng = np.random.default_rng(11)
    cases, expected = Cases(), []
    for number in range(700):
        width, height, new_width, new_height = (int(rng.choice(SIDES)) for _ in range(4))
        if number % 7 == 0:
            new_width = width
        if number % 11 == 0:
            new_height = height
        pixels = noise(rng, width, height)
        cases.resize(pixels, new_width, new_height)
        expected.append(pillow(pixels, new_width, new_height))
    for found, wanted in zip(cases.run(), expected, strict=True):
        np.testing.assert_array_equal(found.pixels(*wanted.shape[:2]), wanted)


def test_squares_to_the_bit():
    rng = np.random.default_rng(12)
    cases, expected = Cases(), []
    sizes = [(4032, 3024), (3024, 4032), (1920, 1080), (1080, 2400), (50, 1), (64, 64), (63, 64)]
    sizes += [(int(a), int(b)) for a, b in rng.integers(40, 500, (120, 2))]
    for width, height in sizes:
        side = 16 if height == 1 else int(rng.integers(20, 130))
        crop_height, crop_width = (side - int(n) for n in rng.integers(0, 9, 2))
        rule = Preprocessing(crop_height, crop_width, side)
        pixels = noise(rng, width, height)
        cases.square(pixels, rule)
        long = int(side * max(width, height) / min(width, height))
        new = (side, long) if width <= height else (long, side)
        resized = pillow(pixels, *new)
        left = definition.square_offsets(*new, crop_width)[0]
        top = definition.square_offsets(*new, crop_height)[1]
        expected.append(resized[top : top + crop_height, left : left + crop_width])
    for found, wanted in zip(cases.run(), expected, strict=True):
        np.testing.assert_array_equal(found.pixels(*wanted.shape[:2]), wanted)


def test_too_elongated_is_refused_as_in_python():
    cases = Cases()
    cases.square(np.zeros((1, 51, 3), np.uint8), Preprocessing(4, 4, 5))
    (found,) = cases.run()
    assert found.failed and found.text.startswith("ImageException")


def test_transparency_over_white_for_every_value_and_alpha():
    value, alpha = (part.astype(np.uint8) for part in np.mgrid[0:256, 0:256])
    rgba = np.stack([value, value[::-1], 255 - value, alpha], axis=2)
    cases = Cases()
    cases.argb(rgba)
    ground = Image.new("RGBA", (256, 256), (255, 255, 255, 255))
    wanted = Image.alpha_composite(ground, Image.fromarray(rgba)).convert("RGB")
    np.testing.assert_array_equal(cases.run()[0].pixels(256, 256), np.asarray(wanted))


def stored(pixels: np.ndarray, form: str, orientation: int | None, big: bool = False) -> bytes:
    """A file as Pillow writes it, the EXIF in either byte order."""
    stream = io.BytesIO()
    exif = Image.Exif()
    exif.endian = ">" if big else "<"
    exif[0x010F] = "a maker of cameras"  # sorted in front of the orientation, value elsewhere
    if orientation is not None:
        exif[ORIENTATION] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(pixels).save(stream, form, exif=exif.tobytes(), **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_orientations_that_pillow_wrote(form, tmp_path):
    rng = np.random.default_rng(13)
    cases, expected = Cases(), []
    for orientation in [None, *range(10)]:
        for big in (False, True):
            file = stored(noise(rng, 23, 14), form, orientation, big)
            cases.exif(file)
            expected.append(orientation if orientation in range(1, 9) else 1)
    assert [found.content[0] for found in cases.run()] == expected


def test_the_eight_orientations_turn_as_pillow_does(tmp_path):
    pixels = noise(np.random.default_rng(14), 23, 14)
    cases, expected = Cases(), []
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.png"
        path.write_bytes(stored(pixels, "PNG", orientation))
        rule = Preprocessing(14, 14, 14)
        expected.append(load_pixels(path, rule))
        cases.picture(path, rule)
        cases.orient(pixels, orientation)
    found = cases.run()
    for index, wanted in enumerate(expected):
        np.testing.assert_array_equal(found[2 * index].pixels(14, 14), wanted)
        header = np.frombuffer(found[2 * index + 1].content[:8], ">i4").tolist()
        assert header == ([23, 14] if index < 4 else [14, 23])


def test_broken_exif_is_upright():
    """Every cut of a file, and every byte of its EXIF changed: never an exception."""
    rng = np.random.default_rng(15)
    cases = Cases()
    for form in ("JPEG", "PNG", "WEBP"):
        whole = stored(noise(rng, 8, 8), form, 6)
        for end in range(0, len(whole), 3):
            cases.exif(whole[:end])
        for _ in range(400):
            damaged = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 120), 4):
                damaged[place] = int(rng.integers(0, 256))
            cases.exif(bytes(damaged))
    for found in cases.run():
        assert not found.failed and 1 <= found.content[0] <= 8, found.text


def test_a_transparent_png_as_python_reads_it(tmp_path):
    rng = np.random.default_rng(16)
    path = tmp_path / "clear.png"
    Image.fromarray(noise(rng, 40, 60, 4)).save(path)
    rule = Preprocessing(30, 30, 33)
    cases = Cases()
    cases.picture(path, rule)
    np.testing.assert_array_equal(cases.run()[0].pixels(30, 30), load_pixels(path, rule))


def test_a_mutant_of_the_core_is_seen(tmp_path):
    """The same comparison with 21 bits in the core's source: bytes differ."""
    mutant = tmp_path / "core"
    for path in (core_replay.ROOT / "src" / "main").rglob("*.kt"):
        text = path.read_text()
        if path.name == "Resize.kt":
            assert "const val BITS = 22" in text
            text = text.replace("const val BITS = 22", "const val BITS = 21")
        (mutant / path.name).parent.mkdir(exist_ok=True)
        (mutant / path.name).write_text(text)
    jar = kotlin.compile([mutant])
    rng = np.random.default_rng(17)
    cases, expected = Cases(core=jar), []
    for _ in range(60):
        width, height, new_width, new_height = (int(n) for n in rng.integers(50, 300, 4))
        pixels = noise(rng, width, height)
        cases.resize(pixels, new_width, new_height)
        expected.append(pillow(pixels, new_width, new_height))
    found = cases.run()
    same = [
        np.array_equal(one.pixels(*wanted.shape[:2]), wanted)
        for one, wanted in zip(found, expected, strict=True)
    ]
    assert not all(same)
