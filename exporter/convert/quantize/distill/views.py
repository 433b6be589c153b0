"""More pictures out of a few: mirrored, cropped and resized, recoloured, mixed.

The float network labels any picture, so none of this has to keep a picture's class. What
the pictures must keep is what photographs look like to the first layers: crops are mild,
and a part of the pictures stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

Image = npt.NDArray[np.uint8]

PLAIN = 0.25  # share of the views that are only mirrored, or not even that
MIXED = 0.15
SMALLEST_AREA = 0.6
ASPECT = 4.0 / 3.0
GAIN, CHANNEL_GAIN, OFFSET = 0.2, 0.08, 12.0


def make_view(images: Sequence[Image], index: int, random: np.random.Generator) -> Image:
    """One view of an image: uint8 `[H, W, 3]`, as the image.

    Args:
        images: for mixing; all of one size.
        index: which of them to view.
        random: decides all that is left to chance, in a fixed order.
    """
    found = _mirrored(images[index], random)
    if random.random() < PLAIN:
        return found
    pixels = _cropped(found, random).astype(np.float64)
    if random.random() < MIXED:
        share = random.uniform(0.2, 0.5)
        other = _mirrored(images[int(random.integers(len(images)))], random)
        pixels = (1 - share) * pixels + share * other
    gains = random.uniform(1 - GAIN, 1 + GAIN) * random.uniform(
        1 - CHANNEL_GAIN, 1 + CHANNEL_GAIN, 3
    )
    pixels = pixels * gains + random.uniform(-OFFSET, OFFSET)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _mirrored(image: Image, random: np.random.Generator) -> Image:
    return np.ascontiguousarray(image[:, ::-1]) if random.random() < 0.5 else image


def _cropped(image: Image, random: np.random.Generator) -> Image:
    """A part of the image, resized to its size with a bilinear filter."""
    height, width = image.shape[:2]
    area = random.uniform(SMALLEST_AREA, 1.0)
    aspect = ASPECT ** random.uniform(-1.0, 1.0)
    rows = int(np.clip(np.rint(height * np.sqrt(area / aspect)), 1, height))
    columns = int(np.clip(np.rint(width * np.sqrt(area * aspect)), 1, width))
    top = int(random.integers(height - rows + 1))
    left = int(random.integers(width - columns + 1))
    part = image[top : top + rows, left : left + columns].astype(np.float32)
    given = torch.from_numpy(part).permute(2, 0, 1)[None]
    resized = functional.interpolate(
        given, (height, width), mode="bilinear", align_corners=False, antialias=True
    )
    values = resized[0].permute(1, 2, 0).numpy()
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
