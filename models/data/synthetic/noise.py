"""Smooth random fields, the same picture at every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.floating[Any]]


def field(
    rng: np.random.Generator,
    size: int,
    cells: int | tuple[int, int],
    octaves: int = 1,
    persistence: float = 0.5,
) -> Field:
    """Value noise: random grids, enlarged smoothly and summed.

    Args:
        size: side of the result in pixels.
        cells: how many random values lie along a side (rows, columns) in the first octave;
            each further octave doubles them.
        persistence: weight of an octave over that of the one before it.

    Returns:
        float32 `[size, size]`, mean about 0, standard deviation about 1 in the
        first octave.
    """
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        shape = ((rows << octave) + 1, (columns << octave) + 1)
        grid = rng.standard_normal(shape, dtype=np.float32)
        enlarged = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        total += persistence**octave * np.asarray(enlarged)
    return total


def smoothstep(low: float, high: float, x: Field) -> Field:
    """0 below `low`, 1 above `high`, a cubic between (Hermite: 3u^2 - 2u^3)."""
    u = np.clip((x - low) / (high - low), 0.0, 1.0).astype(np.float32)
    return u * u * (3.0 - 2.0 * u)
