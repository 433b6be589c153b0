"""Small pictures and tables for tests of data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise(path: Path, seed: int, side: int = 8) -> Path:
    """A picture of coloured noise, which resembles no other one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 1, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def scene(seed: int, side: int = 64) -> Image.Image:
    """A picture with large and small shapes, which stays itself when it is made smaller."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cells in (3, 6, 12, 24):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        shapes = grid.resize((side, side), Image.Resampling.BICUBIC)
        total += np.asarray(shapes, float) / cells**0.5
    total = (total - total.min()) / (total.max() - total.min())
    return Image.fromarray((255 * total).astype(np.uint8))


def table(folder: Path, *lines: str) -> Path:
    """A table in `folder`."""
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n" if lines else "", encoding="utf-8")
    return path
