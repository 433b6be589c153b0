"""What a calibration set has to be before anything is measured on it.

Enough images, none of them twice, and none that also judges the result. MobileNetV2 with
ImageNet weights, `mean_min_max` ranges alone, simulated on 40 other photographs, for sets
drawn at random from 100: logit SQNR 15.0-19.2 dB with one image (agreement down to 0.55),
19.2-19.8 with 2, 18.7-19.7 with 4, 19.4-20.2 with 8, 19.7-20.0 with 16, 19.6-19.9 with 32,
19.5 with all 100. With fewer than 8 the rest of the default quantizer (biases, equalization,
rounding: 4 dB) is left out as well. Hence 8 at least; 50 are recommended, for classes and
light that a few happen not to show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from exporter.pipeline.pixels import ImageSet, stream
from exporter.pipeline.request import RequestError
from models.contract import Preprocessing
from models.images import ImageError, Pixels, load_pixels, raise_all

FEWEST = 8


def check_count(calibration: ImageSet, allow_few: bool = False) -> None:
    """Refuse a calibration set of fewer than `FEWEST` images.

    Raises:
        RequestError: it is too small and nobody said that it may be.
    """
    count = len(calibration.files)
    if count >= FEWEST or allow_few:
        return
    raise RequestError(
        f"{calibration.root}: {count} image{'s' if count > 1 else ''} to calibrate on.",
        f"int8 takes its ranges from them; with fewer than {FEWEST} they hang on which images "
        "those are, and biases cannot be corrected",
        "add photographs like those in use, about 100 of them, "
        "or go on all the same with --allow-few-images",
    )


def hash_squares(images: ImageSet, rule: Preprocessing) -> tuple[str, ...]:
    """A hash over each image's pixels as the model takes them; decodes all of them.

    Raises:
        ImageError: one or more cannot be decoded; all of them are named.
    """
    hashes, broken = [], []
    for file in images.files:
        try:
            hashes.append(_hash(load_pixels(file.path, rule)))
        except ImageError as error:
            broken.append(error)
    raise_all(broken)
    return tuple(hashes)


def without_calibrated(images: ImageSet, hashes: Sequence[str], decoded: Path) -> ImageSet:
    """The images of a proof without those that show the same pixels as a calibration image.

    `pixels.choose` has passed over the same files already; this finds the same photograph
    saved again without loss, renamed, or with other metadata.

    Args:
        hashes: of `images`, from `hash_squares`.
        decoded: the calibration images, from `pixels.decode`.

    Raises:
        ImageError: none is left.
    """
    seen = {_hash(pixels) for pixels in stream(decoded)}
    kept = [place for place, known in enumerate(hashes) if known not in seen]
    dropped = len(hashes) - len(kept)
    if not dropped:
        return images
    left = replace(
        images,
        files=tuple(images.files[place] for place in kept),
        hashes=tuple(images.hashes[place] for place in kept),
        left_out=images.left_out + dropped,
    )
    left.refuse_nothing_left()
    return left


def _hash(pixels: Pixels) -> str:
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()
