"""Every photograph decoded and resized once, kept as uint8, in memory or in a file.

On a few cores decoding costs as much as training a small network; it is the same
work in every epoch, so it is done before the first one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.contract import Preprocessing
from models.data.labelled import DataError
from models.images import ImageError, open_rgb, resize, resized_size, to_square

_SHOWN = 10
_BLOCK = 1 << 20
_ORIENTATION = 0x0112  # Exif 2.3, table 4
_TURNED = (5, 6, 7, 8)  # the orientations that swap width and height
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
Picture = npt.NDArray[np.uint8]


class Pictures:
    """Decoded pictures, `[height, width, 3]` uint8 RGB each, of different sizes.

    Args:
        folder: where the file goes when they need more than `memory_limit` bytes; it
            has no name there and vanishes with this object.

    Raises:
        DataError: there is no room on the disk.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], memory_limit: int, folder: Path) -> None:
        sizes = [height * width * 3 for height, width in shapes]
        self._shapes = tuple(shapes)
        self._offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        total = int(self._offsets[-1])
        self.in_memory = total <= memory_limit
        self._bytes: Picture
        if self.in_memory:
            self._bytes = np.empty(total, np.uint8)
        else:
            self._bytes = _mapped(total, folder)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> Picture:
        height, width = self._shapes[index]
        start, end = self._offsets[index], self._offsets[index + 1]
        return self._bytes[start:end].reshape(height, width, 3)


def decode_resized(
    paths: Sequence[Path],
    rule: Preprocessing,
    memory_limit: int,
    folder: Path,
    on_image: Callable[[], None] | None = None,
) -> Pictures:
    """Whole photographs with the shorter side resized as the rule says, not cropped.

    Raises:
        DataError: images that cannot be decoded, all of them named; no room.
    """
    with ThreadPoolExecutor(_threads()) as pool:
        shapes = list(pool.map(lambda path: _resized_shape(path, rule), paths))
    pictures = Pictures([shape or (1, 1) for shape in shapes], memory_limit, folder)
    _fill(pictures, paths, lambda path: resize(open_rgb(path, rule.exif), rule), on_image)
    return pictures


def decode_squares(
    paths: Sequence[Path],
    rule: Preprocessing,
    memory_limit: int,
    folder: Path,
    on_image: Callable[[], None] | None = None,
) -> Pictures:
    """Photographs exactly as the model takes them, see `models.images.load_pixels`.

    Raises:
        DataError: images that cannot be decoded, all of them named; no room.
    """
    pictures = Pictures([(rule.height, rule.width)] * len(paths), memory_limit, folder)
    _fill(pictures, paths, lambda path: to_square(open_rgb(path, rule.exif), rule), on_image)
    return pictures


def _fill(
    pictures: Pictures,
    paths: Sequence[Path],
    decode: Callable[[Path], Image.Image],
    on_image: Callable[[], None] | None,
) -> None:
    def one(index: int) -> ImageError | None:
        try:
            pixels = np.asarray(decode(paths[index]), dtype=np.uint8)
            if pixels.shape != pictures[index].shape:
                raise ImageError(f"{paths[index]} changed while it was read.")
            pictures[index][:] = pixels
        except ImageError as error:
            return error
        return None

    broken = []
    with ThreadPoolExecutor(_threads()) as pool:
        for error in pool.map(one, range(len(paths))):
            if error is not None:
                broken.append(f"  {error.what} {error.why}".rstrip())
            if on_image is not None:
                on_image()
    if broken:
        rest = len(broken) - _SHOWN
        raise DataError(
            f"{len(broken)} image(s) cannot be decoded:\n"
            + "\n".join(broken[:_SHOWN] + ([f"  and {rest} more"] if rest > 0 else [])),
            "each of them would have to be learned from or judge",
            "remove them or copy them again from where they came",
        )


def _resized_shape(path: Path, rule: Preprocessing) -> tuple[int, int] | None:
    """Height and width of a resized photograph from its header; None where that fails.

    What is wrong with the file is said when it is decoded.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = rule.exif == "apply" and image.getexif().get(_ORIENTATION, 1) in _TURNED
        width, height = resized_size((height, width) if turned else (width, height), rule)
    except (OSError, SyntaxError, ValueError, ImageError, *_BOMBS):
        return None
    return height, width


def _mapped(total: int, folder: Path) -> Picture:
    """An unnamed file of `total` bytes, mapped into memory.

    Its room is taken at once: a page of a mapped file for which the disk has no block
    left kills the process with SIGBUS, which nobody can catch.
    """
    try:
        stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the map
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, total)
        else:  # macOS, Windows
            _write_zeros(stream, total)
    except OSError as error:
        raise DataError(
            f"There is no room for {total / 1e9:.1f} GB of decoded pictures in {folder}.",
            error.strerror or str(error),
            "free some space, choose another --out, or use smaller pictures",
        ) from error
    return np.memmap(stream, np.uint8, "r+", shape=(total,))


def _write_zeros(stream: IO[bytes], total: int) -> None:
    block = bytes(_BLOCK)
    for start in range(0, total, _BLOCK):
        stream.write(block[: total - start])
    stream.flush()


def _threads() -> int:
    return min(8, os.cpu_count() or 1)
