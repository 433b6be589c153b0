"""docs/contract.md, "Resize, to the bit", in numpy: what the text says and nothing else.

The Kotlin core and the page follow the same text. That this agrees with Pillow on every
size is what makes the text right; the parameters exist so that tests can break it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def triangle(x: float) -> float:
    """The bilinear filter: 1 - |x| inside [-1, 1], else 0."""
    return max(0.0, 1.0 - abs(x))


@dataclass(frozen=True)
class Rule:
    """What the definition fixes.

    Attributes:
        bits: fractional bits of a weight.
        round_between: the horizontal pass ends in rounded 8-bit values.
        shape: the filter, of support 1.
        antialias: the filter is stretched where the picture shrinks.
        height_first: the passes in the wrong order.
    """

    bits: int = 22
    round_between: bool = True
    shape: Callable[[float], float] = triangle
    antialias: bool = True
    height_first: bool = False


EXACT = Rule()


def weights(old: int, new: int, rule: Rule = EXACT) -> list[tuple[int, list[int]]]:
    """For each new sample: the first old sample it uses, and the fixed-point weights from there."""
    scale = old / new
    stretch = max(scale, 1.0) if rule.antialias else 1.0
    found = []
    for place in range(new):
        center = (place + 0.5) * scale
        first = max(int(center - stretch + 0.5), 0)
        last = min(int(center + stretch + 0.5), old)
        raw = [rule.shape((i - center + 0.5) * (1.0 / stretch)) for i in range(first, last)]
        total = 0.0
        for value in raw:  # in this order: another one rounds differently
            total += value
        found.append((first, [math.floor(v / total * (1 << rule.bits) + 0.5) for v in raw]))
    return found


def resize_rows(
    pixels: npt.NDArray[Any], width: int, rule: Rule = EXACT
) -> npt.NDArray[np.float64]:
    """One horizontal pass, `[rows, old, 3]` to `[rows, width, 3]`, not rounded yet.

    Returns:
        The values in grey levels, exact in float64 (they have `rule.bits` fractional bits).
    """
    out = np.empty((pixels.shape[0], width, pixels.shape[2]))
    given = pixels.astype(np.float64)
    for place, (first, factors) in enumerate(weights(pixels.shape[1], width, rule)):
        part = given[:, first : first + len(factors)]
        out[:, place] = np.tensordot(part, np.array(factors, float), ([1], [0])) / (1 << rule.bits)
    return out


def to_bytes(values: npt.NDArray[Any]) -> Pixels:
    """Half up, then into 0..255."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def resize(pixels: Pixels, width: int, height: int, rule: Rule = EXACT) -> Pixels:
    """`[old height, old width, 3]` uint8 to `[height, width, 3]` uint8."""
    if rule.height_first:
        return resize(resize(pixels, pixels.shape[1], height), width, height)
    between: npt.NDArray[Any] = pixels
    if width != pixels.shape[1]:
        rows = resize_rows(pixels, width, rule)
        between = to_bytes(rows) if rule.round_between else rows
    if height != pixels.shape[0]:
        between = resize_rows(between.transpose(1, 0, 2), height, rule).transpose(1, 0, 2)
    return to_bytes(between)


def square_offsets(width: int, height: int, crop: int) -> tuple[int, int]:
    """Left and top of the centre crop: half of what is over, half to even."""

    def half(over: int) -> int:
        down = over // 2
        return down + (1 if over % 2 and down % 2 else 0)

    return half(width - crop), half(height - crop)


def over_white(value: int, alpha: int) -> int:
    """One channel of a transparent pixel laid over white, as Pillow's alpha_composite does it."""
    weight = alpha << 7
    mixed = value * weight + 255 * ((255 << 7) - weight) + (0x80 << 7)
    return (((mixed >> 8) + mixed) >> 8) >> 7
