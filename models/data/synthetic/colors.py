"""Colours that the snakes wear.

Every species has a usual dress, as real ones do, and often wears any other: the
colours help, but they do not tell the species. All grounds are alike for all.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Color = npt.NDArray[np.floating[Any]]  # RGB, 0..1
Generator = np.random.Generator

# hue, saturation and value with the half-width each may stray by
_TONES = {
    "brown": ((0.08, 0.03), (0.55, 0.15), (0.42, 0.12)),
    "tan": ((0.10, 0.02), (0.40, 0.12), (0.72, 0.12)),
    "ochre": ((0.13, 0.02), (0.70, 0.15), (0.78, 0.12)),
    "russet": ((0.03, 0.02), (0.70, 0.12), (0.55, 0.15)),
    "olive": ((0.20, 0.05), (0.45, 0.15), (0.45, 0.14)),
    "green": ((0.30, 0.06), (0.50, 0.15), (0.50, 0.16)),
    "slate": ((0.58, 0.05), (0.22, 0.12), (0.52, 0.16)),
    "grey": ((0.11, 0.05), (0.10, 0.08), (0.50, 0.25)),
    "cream": ((0.11, 0.03), (0.16, 0.08), (0.88, 0.07)),
    "black": ((0.07, 0.06), (0.30, 0.20), (0.17, 0.06)),
}
_NAMES = tuple(_TONES)
_CONTRAST = 0.4  # least difference of luminance between ground colour and marks
_USUAL = 0.55  # how often a snake wears its species' usual dress


@dataclass(frozen=True)
class Skin:
    """The colours of one snake, RGB 0..1.

    Attributes:
        base: the ground colour.
        mark: the colour of the pattern.
        edge: what may line the pattern; differs from both.
        crown: the top of the head.
        iris: the eye.
    """

    base: Color
    mark: Color
    edge: Color
    crown: Color
    iris: Color


def hsv(hue: float, saturation: float, value: float) -> Color:
    """RGB 0..1 from hue, saturation and value 0..1 (the last two are clipped)."""
    rgb = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return np.array(rgb, np.float32)


def luminance(color: Color) -> float:
    """Rec. 709 weights on the RGB values as they are; 0..1."""
    return float(color @ np.array((0.2126, 0.7152, 0.0722), np.float32))


def around(rng: Generator, *ranges: tuple[float, float]) -> Color:
    """A colour drawn evenly from (centre, half-width) of hue, saturation and value."""
    hue, saturation, value = (centre + half * rng.uniform(-1.0, 1.0) for centre, half in ranges)
    return hsv(hue, saturation, value)


def draw_skin(rng: Generator, usual_base: str, usual_mark: str, usual: float = _USUAL) -> Skin:
    """Colours of one snake: its species' usual ones or, often, any others.

    Args:
        usual_base, usual_mark: names of tones.
        usual: how often they are worn.
    """
    chosen = [_NAMES[i] for i in rng.choice(len(_NAMES), 2, replace=False)]
    if rng.random() < usual:
        chosen = [usual_base, usual_mark]
    base, mark = (around(rng, *_TONES[name]) for name in chosen)
    mark = _apart(mark, base)
    edge = hsv(0.12, 0.25, rng.uniform(0.85, 0.95))
    if luminance(base) + luminance(mark) > 0.84:
        edge = hsv(0.07, 0.4, rng.uniform(0.06, 0.16))
    crown = (base, mark, 0.5 * (base + mark))[rng.integers(3)] * rng.uniform(0.75, 1.1)
    iris = around(rng, (0.10, 0.06), (0.8, 0.2), (0.75, 0.2))
    return Skin(base, mark, edge, np.clip(crown, 0.0, 1.0), iris)


def _apart(mark: Color, base: Color) -> Color:
    """The mark, darkened or brightened as far as it takes to be seen on the base."""
    here, there = luminance(mark), luminance(base)
    darker = here < there if abs(here - there) > 0.1 else there > 0.45
    if darker:
        wanted = max(there - _CONTRAST, 0.05)
        return mark * min(1.0, wanted / max(here, 1e-3))
    wanted = min(there + _CONTRAST, 0.92)
    return mark + (1.0 - mark) * max(0.0, (wanted - here) / (1.0 - here))
