"""Bars as inline SVG, drawn from numbers; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH = 640
_LABEL = 160
_VALUE = 170
_ROW = 34
_BAR = 18


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: shown at its left.
        value: its length, in the unit of the chart; not negative.
        text: shown at its right.
        whisker: an upper mark such as the 90th percentile, or None.
        kind: a class name for its colour: 'reference', 'float32', 'float16', 'int8'.
    """

    label: str
    value: float
    text: str
    whisker: float | None = None
    kind: str = "float32"


def nice_step(largest: float, ticks: int = 4) -> float:
    """The smallest of 1, 2, 2.5, 5 x 10^n that needs at most `ticks` steps to `largest`."""
    if largest <= 0:
        return 1.0
    rough = largest / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if factor * power >= rough * (1 - 1e-9):
            return factor * power
    return 10.0 * power


def bar_chart(bars: Sequence[Bar], unit: str, title: str) -> Markup:
    """Horizontal bars from zero, with a light grid; scales with the width of the page."""
    if not bars:
        return Markup("")
    largest = max(max(bar.value, bar.whisker or 0.0) for bar in bars)
    step = nice_step(largest)
    top = step * max(1, math.ceil(largest / step - 1e-9))
    span = _WIDTH - _LABEL - _VALUE
    height = _ROW * len(bars) + 26

    def x(value: float) -> float:
        return round(_LABEL + span * value / top, 2)

    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" preserveAspectRatio="xMinYMin meet">'
    ]
    for index in range(round(top / step) + 1):
        at = x(index * step)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{height - 20}"/>')
        parts.append(
            f'<text class="tick" x="{at}" y="{height - 4}" text-anchor="middle">'
            f"{index * step:g}</text>"
        )
    parts.append(
        f'<text class="tick" x="{_WIDTH}" y="{height - 4}" text-anchor="end">{escape(unit)}</text>'
    )
    for row, bar in enumerate(bars):
        parts += _bar(bar, _ROW * row + 4, x)
    parts.append("</svg>")
    return Markup("".join(parts))  # every inserted text is escaped above and in _bar


def _bar(bar: Bar, y: float, x: object) -> list[str]:
    assert callable(x)
    middle = y + _BAR / 2
    end = max(x(bar.value), _LABEL + 1.5)
    parts = [
        f'<text class="name" x="{_LABEL - 10}" y="{middle + 5}" text-anchor="end">'
        f"{escape(bar.label)}</text>",
        f'<rect class="bar {escape(bar.kind)}" x="{_LABEL}" y="{y}" '
        f'width="{round(end - _LABEL, 2)}" height="{_BAR}" rx="2"/>',
    ]
    text_at = end
    if bar.whisker is not None:
        mark = x(bar.whisker)
        text_at = max(end, mark)
        parts.append(
            f'<path class="whisker" d="M{end} {middle}H{mark}M{mark} {y + 3}V{y + _BAR - 3}"/>'
        )
    parts.append(
        f'<text class="value" x="{text_at + 8}" y="{middle + 5}">{escape(bar.text)}</text>'
    )
    return parts
