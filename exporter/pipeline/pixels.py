"""The images of an export: chosen, hashed, decoded once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
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

_SHOWN = 10


@dataclass(frozen=True)
class ImageSet:
    """Images with their content hashes.

    Attributes:
        root: the folder they were listed from.
        files: in the order in which they are used.
        hashes: sha256 (hex) of each file.
        left_out: how many were passed over since int8 is calibrated on them.
    """

    root: Path
    files: tuple[ImageFile, ...]
    hashes: tuple[str, ...]
    left_out: int = 0

    @property
    def note(self) -> str:
        """What a report has to say of them; empty where there is nothing to say."""
        if not self.left_out:
            return ""
        return f"{self.left_out} image(s) of {self.root} left out: int8 was calibrated on them"

    def refuse_nothing_left(self) -> None:
        """Refuse a proof on nothing but calibration images.

        Raises:
            ImageError: every image was passed over.
        """
        if not self.files:
            raise ImageError(
                f"{self.root} holds calibration images only.",
                "an image that int8 was calibrated on is no test of it",
                "give --images photographs of its own; or leave it away: the proof then runs "
                "on the calibration images, and says so",
            )

    def record(self) -> dict[str, object]:
        """For the manifest: file names relative to the folder, with their hashes."""
        return {
            "count": len(self.files),
            "files": [
                {"path": file.path.relative_to(self.root).as_posix(), "sha256": sha}
                for file, sha in zip(self.files, self.hashes, strict=True)
            ],
        }


def choose(root: Path, limit: int | None, besides: Collection[str] = ()) -> ImageSet:
    """Up to `limit` images, spread evenly over the class folders and within each.

    Args:
        besides: sha256 of files to pass over: what calibrates does not also judge. Where
            one folder serves for both, the calibration has the first choice.

    Raises:
        ImageError: nothing usable in the folder, the same file twice among those chosen,
            or nothing left once `besides` is passed over.
    """
    listed = list_images(root)
    files = listed
    if besides:
        files = [file for file in listed if content_hash(file.path) not in besides]
    left_out = len(listed) - len(files)
    if limit is not None and len(files) > limit:
        files = spread(files, limit)
    hashes = tuple(content_hash(file.path) for file in files)
    _refuse_same(files, hashes)
    chosen = ImageSet(root, tuple(files), hashes, left_out)
    chosen.refuse_nothing_left()
    return chosen


def _refuse_same(files: Sequence[ImageFile], keys: Sequence[str]) -> None:
    """Refuse two images with one key; all such pairs are named.

    Raises:
        ImageError: there are some.
    """
    first: dict[str, ImageFile] = {}
    pairs = []
    for file, key in zip(files, keys, strict=True):
        other = first.setdefault(key, file)
        if other is not file:
            pairs.append((file.path, other.path))
    why = "a repeated image counts twice in the calibration and the proof"
    if len(pairs) == 1:
        raise ImageError(
            f"{pairs[0][0]} and {pairs[0][1]} are the same image.", why, "remove one of them"
        )
    if pairs:
        lines = [f"  {one} = {other}" for one, other in pairs[:_SHOWN]]
        if len(pairs) > _SHOWN:
            lines.append(f"  and {len(pairs) - _SHOWN} more")
        raise ImageError(
            f"{len(pairs)} pairs of images are the same image:\n" + "\n".join(lines),
            why,
            "remove one of each pair",
        )


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
        ImageError: one or more images cannot be decoded, or several show the very same
            pixels (a copy saved in another file); all of them are named.
    """
    shape = (len(images.files), rule.height, rule.width, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    broken: list[ImageError] = []
    keys = []
    # Written, not mapped: a mapped file on a full disk kills the process with SIGBUS.
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for file in images.files:
            try:
                content = load_pixels(file.path, rule).tobytes()
                stream.write(content)
                keys.append(hashlib.blake2b(content, digest_size=16).hexdigest())
            except ImageError as error:
                broken.append(error)
            on_image()
    raise_all(broken)
    _refuse_same(images.files, keys)


def stream(path: Path) -> Iterator[Pixels]:
    """The images of `decode`, one by one, from disk."""
    store = np.load(path, mmap_mode="r")
    for index in range(len(store)):
        yield np.array(store[index])
