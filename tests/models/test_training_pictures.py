"""The decoded pictures: the same pixels as everywhere else, wherever they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import images
from models.contract import Preprocessing
from models.data.labelled import DataError
from models.training import pictures
from models.training.pictures import decode_resized, decode_squares

RULE = Preprocessing(height=32, width=32, resize_shorter_side=40)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    made = []
    for number, (height, width, turn) in enumerate([(50, 90, 1), (70, 40, 6), (33, 33, 3)]):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = turn
        path = tmp_path / f"{number}.jpg"
        image.save(path, exif=exif)
        made.append(path)
    return made


@pytest.mark.parametrize("limit", [10**9, 0], ids=["memory", "file"])
def test_squares_are_the_pixels_that_every_artifact_gets(paths: list[Path], limit: int) -> None:
    kept = decode_squares(paths, RULE, limit, paths[0].parent)
    assert kept.in_memory == (limit > 0)
    assert len(kept) == 3
    for index, path in enumerate(paths):
        np.testing.assert_array_equal(kept[index], images.load_pixels(path, RULE))
    assert len(list(paths[0].parent.iterdir())) == 3, "the file of decoded pictures has no name"


@pytest.mark.parametrize("limit", [10**9, 0], ids=["memory", "file"])
def test_resized_is_the_square_before_its_crop(paths: list[Path], limit: int) -> None:
    seen: list[int] = []
    kept = decode_resized(paths, RULE, limit, paths[0].parent, lambda: seen.append(1))
    # 90 x 50 -> int(40 * 90 / 50) = 72 wide; 40 x 70 turned by EXIF to 70 x 40 -> 70 wide
    assert [kept[i].shape for i in range(3)] == [(40, 72, 3), (40, 70, 3), (40, 40, 3)]
    for index, path in enumerate(paths):
        whole = kept[index]
        left = round((whole.shape[1] - 32) / 2)
        np.testing.assert_array_equal(whole[4:36, left : left + 32], images.load_pixels(path, RULE))
    assert len(seen) == 3


def test_all_broken_images_are_named(paths: list[Path]) -> None:
    paths[0].write_bytes(paths[0].read_bytes()[:300])
    paths[2].write_text("no image")
    for decode in (decode_resized, decode_squares):
        with pytest.raises(DataError) as caught:
            decode(paths, RULE, 10**9, paths[0].parent)
        assert "2 image(s)" in caught.value.what
        assert "0.jpg" in caught.value.what
        assert "2.jpg" in caught.value.what


def test_no_room_is_found_before_the_work(paths: list[Path], monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures.os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match="no room"):
        decode_squares(paths, RULE, 0, paths[0].parent)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="not run: there is no /dev/full")
def test_no_room_where_space_cannot_be_reserved(paths: list[Path], monkeypatch: Any) -> None:
    monkeypatch.delattr(pictures.os, "posix_fallocate", raising=False)
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr(pictures.tempfile, "TemporaryFile", lambda **_: full)
        with pytest.raises(DataError, match="no room") as caught:
            decode_squares(paths, RULE, 0, paths[0].parent)
    assert "No space left" in caught.value.why


@pytest.mark.parametrize("total", [1, 5, pictures._BLOCK, 2 * pictures._BLOCK + 7])
def test_room_is_taken_by_writing_where_it_cannot_be_reserved(
    total: int, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.delattr(pictures.os, "posix_fallocate", raising=False)
    mapped = pictures._mapped(total, tmp_path)
    assert mapped.shape == (total,)
    assert not mapped.any()
    with (tmp_path / "zeros").open("w+b") as stream:
        pictures._write_zeros(stream, total)
        assert stream.tell() == total


def test_a_strip_that_would_resize_to_gigabytes(tmp_path: Path) -> None:
    Image.new("RGB", (60_000, 1)).save(tmp_path / "strip.png")
    with pytest.raises(images.ImageError, match="elongated"):
        images.load_pixels(tmp_path / "strip.png", RULE)
    with pytest.raises(DataError, match="elongated"):
        decode_resized([tmp_path / "strip.png"], RULE, 10**9, tmp_path)
