"""Small photographs of three classes that are told apart by colour and brightness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 150), "green": (90, 210, 110), "red": (220, 60, 60)}


def draw(folder: Path, per_class: int, noise: float = 40.0, seed: int = 0) -> Path:
    """Write `per_class` pictures of 36 x 40 pixels into a folder for each class."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(np.array(colour) + rng.normal(0, noise, (36, 40, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder
