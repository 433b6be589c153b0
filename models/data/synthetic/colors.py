"""Colours that any species may wear and any ground may have.

All species draw from the same palette, light on dark as often as dark on light,
so that a colour says nothing about the species.
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
_SKINS = (
    ((0.08, 0.03), (0.55, 0.15), (0.42, 0.12)),  # brown
    ((0.10, 0.02), (0.40, 0.12), (0.72, 0.12)),  # tan
    ((0.13, 0.02), (0.70, 0.15), (0.78, 0.12)),  # ochre
    ((0.03, 0.02), (0.70, 0.12), (0.55, 0.15)),  # russet
    ((0.20, 0.05), (0.45, 0.15), (0.45, 0.14)),  # olive
    ((0.30, 0.06), (0.50, 0.15), (0.50, 0.16)),  # green
    ((0.58, 0.05), (0.22, 0.12), (0.52, 0.16)),  # slate
    ((0.11, 0.05), (0.10, 0.08), (0.50, 0.25)),  # grey
    ((0.11, 0.03), (0.16, 0.08), (0.88, 0.07)),  # cream
    ((0.07, 0.06), (0.30, 0.20), (0.17, 0.06)),  # near black
)
_CONTRAST = 0.42  # least difference of luminance between ground colour and marks


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


def draw_skin(rng: Generator) -> Skin:
    """Colours of one snake; they do not depend on its species."""
    base = around(rng, *_SKINS[rng.integers(len(_SKINS))])
    candidates = [around(rng, *_SKINS[i]) for i in rng.permutation(len(_SKINS))]
    mark = next(
        (c for c in candidates if abs(luminance(c) - luminance(base)) > _CONTRAST),
        hsv(0.1, 0.2, 0.9 if luminance(base) < 0.5 else 0.1),
    )
    middle = 0.5 * (luminance(base) + luminance(mark))
    edge = hsv(0.12, 0.25, rng.uniform(0.85, 0.95))
    if middle > 0.42:
        edge = hsv(0.07, 0.4, rng.uniform(0.06, 0.16))
    crown = (base, mark, 0.5 * (base + mark))[rng.integers(3)] * rng.uniform(0.75, 1.1)
    iris = around(rng, (0.10, 0.06), (0.8, 0.2), (0.75, 0.2))
    return Skin(base, mark, edge, np.clip(crown, 0, 1).astype(np.float32), iris)
