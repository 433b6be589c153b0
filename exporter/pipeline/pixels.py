"""The images of an export: chosen, hashed, decoded once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from models.contract import Preprocessing
from models.images import (
    ImageError,
    ImageFile,
    Pixels,
    content_hash,
    list_images,
    load_pixels,
    raise_all,
)


@dataclass(frozen=True)
class ImageSet:
    """Images with their content hashes.

    Attributes:
        root: the folder they were listed from.
        files: in the order in which they are used.
        hashes: sha256 (hex) of each file.
    """

    root: Path
    files: tuple[ImageFile, ...]
    hashes: tuple[str, ...]

    def record(self) -> dict[str, object]:
        """For the manifest: file names relative to the folder, with their hashes."""
        return {
            "count": len(self.files),
            "files": [
                {"path": file.path.relative_to(self.root).as_posix(), "sha256": sha}
                for file, sha in zip(self.files, self.hashes, strict=True)
            ],
        }


def choose(root: Path, limit: int | None) -> ImageSet:
    """Up to `limit` images, spread evenly over the class folders and within each.

    Raises:
        ImageError: nothing usable in the folder, or the same image twice.
    """
    files = list_images(root)
    if limit is not None and len(files) > limit:
        files = spread(files, limit)
    hashes: dict[str, Path] = {}
    for file in files:
        sha = content_hash(file.path)
        if sha in hashes:
            raise ImageError(
                f"{file.path} and {hashes[sha]} are the same image.",
                "a repeated image counts twice in the calibration and the proof",
                "remove one of them",
            )
        hashes[sha] = file.path
    return ImageSet(root, tuple(files), tuple(hashes))


def spread(files: list[ImageFile], limit: int) -> list[ImageFile]:
    """`limit` of the images: the classes in turn, evenly spaced within each class."""
    groups: dict[str | None, list[ImageFile]] = defaultdict(list)
    for file in files:
        groups[file.label].append(file)
    share = next(
        share
        for share in range(1, limit + 1)
        if share == limit or sum(min(share, len(group)) for group in groups.values()) >= limit
    )
    spaced = [
        [group[i * len(group) // min(share, len(group))] for i in range(min(share, len(group)))]
        for group in groups.values()
    ]
    in_turn = [file for row in zip_longest(*spaced) for file in row if file is not None]
    return in_turn[:limit]


def decode(images: ImageSet, rule: Preprocessing, path: Path, on_image: Callable[[], None]) -> None:
    """Decode all images into one uint8 array `[n, height, width, 3]` on disk (.npy).

    Raises:
        ImageError: one or more images cannot be decoded; all of them are named.
    """
    shape = (len(images.files), rule.height, rule.width, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    broken: list[ImageError] = []
    # Written, not mapped: a mapped file on a full disk kills the process with SIGBUS.
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for file in images.files:
            try:
                stream.write(load_pixels(file.path, rule).tobytes())
            except ImageError as error:
                broken.append(error)
            on_image()
    raise_all(broken)


def stream(path: Path) -> Iterator[Pixels]:
    """The images of `decode`, one by one, from disk."""
    store = np.load(path, mmap_mode="r")
    for index in range(len(store)):
        yield np.array(store[index])
