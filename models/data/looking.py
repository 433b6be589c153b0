"""Every image decoded once: which are broken, how large they are, which look alike.

Two images are near copies where their perceptual hashes differ in few bits and small
grey pictures of them correlate. The hash is imagehash's `phash`: the signs of the 64
lowest frequencies of a 32 x 32 cosine transform against their median. It stays the same
under another size, quality or brightness, not under a mirror or a narrower crop.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.data.folder import BrokenImage, workers
from models.data.labelled import DataError, Item
from models.data.words import listed, plural
from models.errors import MissingExtraError
from models.images import ImageError, open_rgb

NEAR_BITS = 6  # of 64; measured in docs/data.md
_SMALL = 16  # side of the pictures that are correlated
_CORRELATED = 0.95
_FLAT = 2.0  # standard deviation in units of 0..255 below which a picture shows nothing
MOST_BITS = 10

Small = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """What was seen of one image.

    Attributes:
        width, height: in pixels, upright.
        hash: 64 bits; None of a picture that shows nothing but one tone.
        small: uint8 `[16, 16]`, grey.
    """

    width: int
    height: int
    hash: int | None
    small: Small


@dataclass(frozen=True)
class Looks:
    """All of them.

    Attributes:
        by_digest: one for each content that could be decoded.
        broken: the images that could not, in the order of the items.
    """

    by_digest: dict[str, Look]
    broken: tuple[BrokenImage, ...]


def look_at(
    items: Sequence[Item],
    on_image: Callable[[int, int], None] | None = None,
    hashes: bool = True,
) -> Looks:
    """Decode each image once, files of the same content once together.

    Args:
        on_image: called in this thread after each content: how many are done, of how many.
        hashes: without, only whether they can be decoded and how large they are is found.

    Raises:
        MissingExtraError: imagehash is wanted and not installed.
    """
    if hashes and importlib.util.find_spec("imagehash") is None:
        raise MissingExtraError("imagehash", "train", "Finding near copies")
    first = list({item.digest: item for item in items}.values())
    seen: dict[str, Look] = {}
    reasons: dict[str, str] = {}
    with ThreadPoolExecutor(workers()) as pool:
        results = pool.map(lambda item: _look(item, hashes), first)
        for done, (item, result) in enumerate(zip(first, results, strict=True), 1):
            if isinstance(result, Look):
                seen[item.digest] = result
            else:
                reasons[item.digest] = result
            if on_image is not None:
                on_image(done, len(first))
    broken = [
        BrokenImage(item.path, reasons[item.digest]) for item in items if item.digest in reasons
    ]
    return Looks(seen, tuple(broken))


def refuse_many_broken(broken: Sequence[BrokenImage], images: int, most: float) -> None:
    """Refuse a set of which too much cannot be decoded.

    Args:
        images: how many there are, broken ones included.
        most: the share that may be broken, 0 to 1.

    Raises:
        DataError: more are; the first are named.
    """
    if not 0.0 <= most <= 1.0:
        raise DataError(
            f"The share of broken images that is let pass is {most!r}.",
            "it is a share of all images",
            "give a number from 0 to 1; 0.05 is usual",
        )
    if len(broken) > most * images:
        share = f"{100 * len(broken) / images:.1f} %"
        raise DataError(
            f"{plural(len(broken), 'image')} of {images} ({share}) cannot be decoded:\n"
            + listed([f"  {each.path}: {each.reason}" for each in broken]),
            f"at most {100 * most:g} % may be left out without asking",
            "copy them again from where they came or remove them; "
            "--most-broken lets more of them pass",
        )


def near_pairs(looks: Sequence[Look | None], bits: int = NEAR_BITS) -> list[tuple[int, int, int]]:
    """Which of the images look alike.

    Hashes that differ in at most `bits` bits agree in at least one of `bits + 1` bands, so
    that only images with a band in common are compared (Manku et al. 2007, 'Detecting
    near-duplicates for web crawling').

    Of images with the same hash each is compared with the first one, not all with all:
    hundreds of frames of one scene would make a million pairs.

    Returns:
        (first, second, bits that differ), first < second, in ascending order.

    Raises:
        DataError: `bits` is not between 0 and 10.
    """
    if not 0 <= bits <= MOST_BITS:
        raise DataError(
            f"Near copies of {bits} bits were asked for.",
            "hashes have 64 bits, and from a dozen on everything resembles everything",
            f"give a number from 0 to {MOST_BITS}; {NEAR_BITS} is usual",
        )
    places = [
        place for place, look in enumerate(looks) if look is not None and look.hash is not None
    ]
    if len(places) < 2:
        return []
    hashes = np.array([looks[place].hash for place in places], np.uint64)  # type: ignore[union-attr]
    different, owner, which = np.unique(hashes, return_index=True, return_inverse=True)
    same = np.stack([owner[which], np.arange(len(hashes))], 1)
    found = np.concatenate(
        [same[same[:, 0] != same[:, 1]], np.sort(owner[_hash_pairs(different, bits)], 1)]
    )
    if not len(found):
        return []
    small = np.stack([looks[place].small for place in places]).reshape(len(places), -1)  # type: ignore[union-attr]
    flat = small.astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6
    alike = np.einsum("ij,ij->i", flat[found[:, 0]], flat[found[:, 1]]) >= _CORRELATED
    found = found[alike]
    differing = np.bitwise_count(hashes[found[:, 0]] ^ hashes[found[:, 1]])
    return sorted(
        (places[a], places[b], int(d)) for (a, b), d in zip(found.tolist(), differing, strict=True)
    )


def _hash_pairs(hashes: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.int64]:
    """`[pairs, 2]` indices of hashes that differ in at most `bits` bits."""
    edges = np.linspace(0, 64, bits + 2).round().astype(int)
    found: list[npt.NDArray[np.int64]] = []
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=~band[order[0]]))
        for bucket in np.split(order, starts[1:]):
            found += _bucket_pairs(hashes, bucket, bits)
    pairs = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
    return np.unique(np.sort(pairs, 1), axis=0)


def _bucket_pairs(
    hashes: npt.NDArray[np.uint64], bucket: npt.NDArray[np.int64], bits: int
) -> Iterable[npt.NDArray[np.int64]]:
    for start in range(len(bucket) - 1):
        one, others = bucket[start], bucket[start + 1 :]
        near = others[np.bitwise_count(hashes[others] ^ hashes[one]) <= bits]
        if len(near):
            yield np.stack([np.full(len(near), one), near], 1)


def _look(item: Item, hashes: bool) -> Look | str:
    """What is to be seen, or why nothing is."""
    try:
        picture = open_rgb(item.path)
    except ImageError as error:
        return error.why or error.what
    width, height = picture.size
    if not hashes:
        return Look(width, height, None, np.zeros((0, 0), np.uint8))
    import imagehash

    grey = picture.resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    small = np.asarray(grey.resize((_SMALL, _SMALL), Image.Resampling.BOX))
    if float(small.std()) < _FLAT:
        return Look(width, height, None, small)
    return Look(width, height, int(str(imagehash.phash(grey)), 16), small)
