"""Plots as inline SVG; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH = 540


def count_bars(rows: Sequence[tuple[str, int, bool]], title: str) -> Markup:
    """Horizontal bars of counts.

    Args:
        rows: name, count, whether the class is rare.
    """
    if not rows:
        return Markup("")
    label, value, step, bar = 172, 46, 22, 14
    unit = (_WIDTH - label - value) / max(count for _, count, _ in rows)
    parts = [_open(step * len(rows) + 4, title)]
    for place, (name, count, rare) in enumerate(rows):
        y = place * step + 4
        parts.append(_text("name", label - 8, y + bar - 3, _shortened(name, 24), "end"))
        parts.append(
            f'<rect class="{"bar rare" if rare else "bar"}" x="{label}" y="{y}" '
            f'width="{max(count * unit, 1):.2f}" height="{bar}"><title>{escape(name)}: {count}'
            "</title></rect>"
        )
        parts.append(_text("tick", label + count * unit + 7, y + bar - 3, str(count), "start"))
    return Markup("".join([*parts, "</svg>"]))


def histogram(values: Sequence[float], title: str, logarithmic: bool = True) -> Markup:
    """How often values occur, in 24 bins; on a logarithmic axis of values if asked."""
    if not values:
        return Markup("")
    width, height, floor, bins = 380, 150, 124, 24
    scale = math.log if logarithmic else float
    back = math.exp if logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    if high - low < 1e-6:  # all alike
        low, high = low - 0.5, high + 0.5
    counts = [0] * bins
    for value in values:
        counts[min(int((scale(value) - low) / (high - low) * bins), bins - 1)] += 1
    parts = [_open(height, title, width)]
    for place, count in enumerate(counts):
        if not count:
            continue
        tall = max(floor * count / max(counts) * 0.94, 1.5)
        span = f"{back(low + (high - low) * place / bins):.3g} to " + (
            f"{back(low + (high - low) * (place + 1) / bins):.3g}"
        )
        parts.append(
            f'<rect class="bar" x="{width * place / bins:.2f}" y="{floor - tall:.2f}" '
            f'width="{width / bins - 1:.2f}" height="{tall:.2f}"><title>{span}: {count}'
            "</title></rect>"
        )
    parts.append(f'<line class="edge" x1="0" x2="{width}" y1="{floor}" y2="{floor}"/>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = back(low + (high - low) * share)
        parts.append(_text("tick", width * share, height - 8, f"{at:.3g}", anchor))
    return Markup("".join([*parts, "</svg>"]))


def _shortened(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _open(height: float, title: str, width: float = _WIDTH) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}" preserveAspectRatio="xMinYMin meet">'
    )


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
