"""The app's own decoding, over fakes of Android's bitmap, against Python's pixels.

The fakes decode with a desktop's Java, so this is about what `Photo.kt` does with the pixels
(strips, alpha, EXIF orientation, the small picture for the screen), not about Android's decoders.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from android.stubs import android_app
from models.images import open_rgb
from support import kotlin

FAKES = android_app.STUBS / "fakes"
SOURCE = android_app.MAIN / "kotlin" / "com" / "example" / "classifier"
ORIENTATION = 0x0112
SCREEN = 64


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    reason = kotlin.unavailable()
    if reason is not None:
        pytest.skip(reason)
    if not android_app.CORE_SOURCES.is_dir():
        pytest.skip("android_demo/core has no sources")
    classes = android_app.bitmap_fakes(tmp_path_factory.mktemp("fakes"))
    core = kotlin.compile([android_app.CORE_SOURCES])
    return [app_jar(SOURCE / "Photo.kt", [classes, core]), classes, core, kotlin.stdlib()]


def app_jar(photo: Path, class_path: list[Path]) -> Path:
    sources = [photo, SOURCE / "PhotoSize.kt", FAKES / "DecodeMain.kt"]
    return kotlin.compile(sources, class_path, jdk_release=None)


def decode(class_path: list[Path], *files: Path, sdk: int = 34) -> list[list[str]]:
    found = kotlin.run_java(
        class_path,
        "com.example.classifier.DecodeMainKt",
        [str(file) for file in files],
        jvm=["-Djava.awt.headless=true", f"-Dandroid.sdk={sdk}"],
    )
    return [line.split() for line in found.stdout.splitlines()]


def picture(
    folder: Path, width: int, height: int, mode: str, orientation: int, profile: bytes | None = None
) -> Path:
    noise = np.random.default_rng(width * height).integers(
        0, 256, (height, width, len(mode)), dtype=np.uint8
    )
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = folder / f"{width}x{height}-{mode}-{orientation}.png"
    Image.fromarray(noise, mode).save(path, exif=exif, icc_profile=profile)
    return path


def test_every_pixel_is_pythons(class_path: list[Path], tmp_path: Path) -> None:
    # 256 rows are a strip: one less, exactly, one more, several and a part, a single pixel
    sizes = [(31, 255), (31, 256), (31, 257), (7, 515), (515, 7), (1, 1)]
    files = [picture(tmp_path, *size, mode, 1) for size in sizes for mode in ("RGB", "RGBA")]
    files += [picture(tmp_path, 33, 301, "RGBA", orientation) for orientation in range(2, 9)]
    found = decode(class_path, *files)
    assert len(found) == len(files)
    for file, (width, height, digest, *_) in zip(files, found, strict=True):
        expected = open_rgb(file)
        assert (int(width), int(height)) == expected.size, file.name
        assert digest == hashlib.sha256(expected.tobytes()).hexdigest(), file.name


@pytest.mark.parametrize("sdk", [24, 26, 28, 29, 34])
def test_a_colour_profile_changes_no_pixel(
    class_path: list[Path], tmp_path: Path, sdk: int
) -> None:
    """On every Android: 7 knows no profiles, from 8 on `getPixels` converts."""
    files = [
        picture(tmp_path, 31, 257, "RGBA", 6, profile=b"a wide gamut"),
        picture(tmp_path, 32, 257, "RGB", 1),
    ]
    for file, found in zip(files, decode(class_path, *files, sdk=sdk), strict=True):
        assert found[2] == hashlib.sha256(open_rgb(file).tobytes()).hexdigest(), file.name


def test_the_small_picture_is_made_of_the_large_ones_pixels(
    class_path: list[Path], tmp_path: Path
) -> None:
    files = [picture(tmp_path, 300, 129, "RGB", 6), picture(tmp_path, 64, 20, "RGB", 1)]
    for file, (_, _, _, width, height, corner) in zip(
        files, decode(class_path, *files), strict=True
    ):
        large = open_rgb(file)
        step = -(-max(large.size) // SCREEN)
        assert (int(width), int(height)) == tuple(-(-side // step) for side in large.size)
        assert max(int(width), int(height)) <= SCREEN
        assert corner == "{:02x}{:02x}{:02x}".format(*large.getpixel((0, 0)))


def test_what_is_no_picture_is_told(class_path: list[Path], tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture at all")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    assert decode(class_path, text, empty) == [["no", "picture"]] * 2


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("copyInto(all, top * width * CHANNELS)", "copyInto(all, top * CHANNELS)"),
        ("exifOrientation(file)", "exifOrientation(ByteArray(0))"),
        ("                    inPremultiplied = false\n", ""),
        ("bitmap.colorSpace != ColorSpace", "bitmap.colorSpace == ColorSpace"),
    ],
    ids=["strips", "orientation", "alpha", "profile"],
)
def test_a_mistake_is_seen(class_path: list[Path], tmp_path: Path, right: str, wrong: str) -> None:
    text = (SOURCE / "Photo.kt").read_text(encoding="utf-8")
    assert right in text
    mutant = tmp_path / "Photo.kt"
    mutant.write_text(text.replace(right, wrong), encoding="utf-8")
    path = [app_jar(mutant, class_path[1:3]), *class_path[1:]]
    files = [
        picture(tmp_path, 33, 301, "RGBA", 6),
        picture(tmp_path, 34, 301, "RGBA", 6, profile=b"a wide gamut"),
    ]
    try:
        found = decode(path, *files)
    except kotlin.KotlinError as error:
        assert "would not keep every pixel" in str(error)
        return
    expected = [hashlib.sha256(open_rgb(file).tobytes()).hexdigest() for file in files]
    assert [fields[2] for fields in found] != expected
