"""Photographs of every kind that a phone or a desk holds, in Chromium against Python."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pages import LAST_BITS, MISSING, Visit, classify, python_answer, save
from PIL import Image

from exporter.bundle import Bundle
from support import page_bundle

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )  # fmt: skip


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def sixteen_bits(photo: Image.Image) -> bytes:
    """A PNG with 16 bits a channel."""
    wide = np.asarray(photo).astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    return png(*photo.size, 16, 2, rows)


def test_unusual_files_give_pythons_answer(
    shown: Bundle, address: str, visit: Visit, tmp_path: Path
) -> None:
    photo = page_bundle.photo(9, 300, 200)
    red = Image.new("RGB", photo.size, "red")
    moving = {"save_all": True, "append_images": [red]}
    paths = [
        save(tmp_path, "plain.jpg", photo),
        save(tmp_path, "fine.jpg", photo, quality=98, subsampling=0),
        save(tmp_path, "progressive.jpg", photo, progressive=True),
        save(tmp_path, "grey.jpg", photo.convert("L")),
        save(tmp_path, "cmyk.jpg", photo.convert("CMYK"), quality=95),
        save(tmp_path, "two.png", photo.convert("1")),
        save(tmp_path, "moving.png", photo, **moving),
        save(tmp_path, "moving.webp", photo, lossless=True, **moving),
        save(tmp_path, "moving.gif", photo, **moving),
        save(tmp_path, "a.bmp", photo),
        tmp_path / "sixteen.png",
        save(tmp_path, "large.jpg", photo.resize((6000, 4000))),
    ]
    (tmp_path / "sixteen.png").write_bytes(sixteen_bits(photo))
    with visit(address) as watched:
        for path in paths:
            found = np.float32(classify(watched.page, path))
            expected = python_answer(shown, path, "tflite-int8")
            assert np.abs(found - expected).max() <= LAST_BITS, path.name
        assert watched.errors == []


def test_what_cannot_be_judged_is_said(address: str, visit: Visit, tmp_path: Path) -> None:
    stream = io.BytesIO()
    page_bundle.photo(1, 300, 200).save(stream, "jpeg")
    line = zlib.compress(b"\0" * (1 + 9000 // 8) * 8000)
    contents = {
        "text.png": (b"no picture at all", "not an image"),
        "half.jpg": (stream.getvalue()[: len(stream.getvalue()) // 2], "not an image"),
        "empty.jpg": (b"", "empty"),
        "a.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC"),
        "a.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        "bomb.png": (png(60_000, 60_000, 1, 0, zlib.decompress(line)), "too large"),
        "large.png": (png(9000, 8000, 1, 0, zlib.decompress(line)), "9000 x 8000 pixels"),
        "long.png": (png(1200, 8, 1, 0, bytes(8 * 151)), "too elongated"),
    }
    with visit(address) as watched:
        page = watched.page
        for name, (content, words) in contents.items():
            (tmp_path / name).write_bytes(content)
            page.evaluate("document.getElementById('problem').hidden = true")
            page.set_input_files("#file", str(tmp_path / name))
            page.wait_for_selector("#problem:not([hidden])")
            assert words in page.inner_text("#problem"), name
            assert not page.is_visible("#result")
        assert watched.errors == []
