"""Plots as inline SVG, drawn from numbers; colours come from the page's style sheet.

All are 640 wide and scale with the page; every inserted text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from exporter.diagnose.results import Histogram, Layer
from exporter.prove.report.charts import nice_step

_WIDTH = 640
_TOP_DB = 60.0  # what lies above is as good as exact, and would flatten the rest


@dataclass(frozen=True)
class Curve:
    """One line: a value a layer (None leaves a gap) and the class name of its colour."""

    values: Sequence[float | None]
    kind: str


def curves(lines: Sequence[Curve], names: Sequence[str], title: str) -> Markup:
    """dB over the layers.

    Args:
        names: of the layers, in the file's order.
    """
    left, bottom, height = 44, 34, 260
    found = [min(v, _TOP_DB) for line in lines for v in line.values if v is not None]
    if not found:
        return Markup("")
    step = nice_step(max(found) - min(found, default=0), 5)
    low, high = math.floor(min(found) / step) * step, math.ceil(max(found) / step) * step
    high = high if high > low else low + step
    last = max(len(names) - 1, 1)

    def x(place: int) -> float:
        return round(left + (_WIDTH - left - 8) * place / last, 1)

    def y(value: float) -> float:
        share = (min(value, _TOP_DB) - low) / (high - low)
        return round(8 + (height - bottom - 8) * (1 - share), 1)

    parts = [_open(height, title)]
    for index in range(round((high - low) / step) + 1):
        at = low + index * step
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH}" y1="{y(at)}" y2="{y(at)}"/>')
        parts.append(_text("tick", left - 6, y(at) + 5, f"{at:g}", "end"))
    for place in range(0, round(0.94 * len(names)), max(1, round(nice_step(len(names), 7)))):
        parts.append(_text("tick", x(place), height - 14, str(place), "middle"))
    parts.append(_text("tick", _WIDTH, height - 14, "layer", "end"))
    for line in lines:
        points = [(x(i), y(v)) if v is not None else None for i, v in enumerate(line.values)]
        parts.append(f'<path class="line {escape(line.kind)}" d="{_path(points)}"/>')
        parts += [
            f'<circle class="dot {escape(line.kind)}" cx="{point[0]}" cy="{point[1]}" r="2.6">'
            f"<title>{place} {escape(names[place])}: {line.values[place]:.1f} dB</title></circle>"
            for place, point in enumerate(points)
            if point is not None
        ]
    return _closed(parts)


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    text, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        text.append(f"{pen}{point[0]} {point[1]}")
        pen = "L"
    return "".join(text)


def histogram(seen: Histogram, bins: int, title: str) -> Markup:
    """Values as bars on a logarithmic count; the representable range is the shaded middle.

    Args:
        bins: how many of the bins lie in the representable range; as many on either side.
    """
    width, height, floor = 300, 92, 74
    counts = seen.counts
    used = [place for place, count in enumerate(counts) if count]
    first = min([bins, *used]) - 2
    last = max([2 * bins - 1, *used]) + 2
    top = math.log1p(max(counts))

    def x(place: float) -> float:
        return round(width * (place - first) / (last - first + 1), 2)

    parts = [_open(height, title, width)]
    parts.append(
        f'<rect class="held" x="{x(bins)}" y="0" width="{round(x(2 * bins) - x(bins), 2)}" '
        f'height="{floor}"/>'
    )
    for place in used:
        tall = round((floor - 4) * math.log1p(counts[place]) / top, 2) if top else 0
        outside = "" if bins <= place < 2 * bins else " outside"
        parts.append(
            f'<rect class="count{outside}" x="{x(place)}" y="{round(floor - tall, 2)}" '
            f'width="{max(round(x(1) - x(0) - 0.3, 2), 0.5)}" height="{tall}"/>'
        )
    for place, anchor in ((bins, "start"), (2 * bins, "end")):
        value = seen.low + place * seen.width
        at = min(max(x(place), 0), width)
        parts.append(f'<line class="edge" x1="{at}" x2="{at}" y1="0" y2="{floor}"/>')
        parts.append(_text("tick", at, height - 3, f"{value:.3g}", anchor))
    return _closed(parts)


def shares(rows: Sequence[tuple[str, Sequence[tuple[str, float, str]]]], title: str) -> Markup:
    """Stacked horizontal bars.

    Args:
        rows: a label, and its pieces: class name, length as a share of 1, tooltip.
    """
    if not rows:
        return Markup("")
    label, row, bar = 190, 26, 15
    parts = [_open(row * len(rows), title)]
    for place, (name, pieces) in enumerate(rows):
        y, x = place * row + 4, float(label)
        parts.append(_text("name", label - 8, y + bar - 3, shortened(name), "end"))
        for kind, share, said in pieces:
            wide = (_WIDTH - label) * share
            parts.append(
                f'<rect class="{escape(kind)}" x="{x:.2f}" y="{y}" width="{wide:.2f}" '
                f'height="{bar}"><title>{escape(said)}</title></rect>'
            )
            x += wide
    return _closed(parts)


def bars(rows: Sequence[tuple[str, float, float, str]], title: str) -> Markup:
    """Horizontal bars of two pieces each: below and above, scaled to the longest."""
    if not rows:
        return Markup("")
    label, value, row, bar = 190, 84, 26, 15
    longest = max(below + above for _, below, above, _ in rows)
    unit = (_WIDTH - label - value) / longest if longest else 0.0
    parts = [_open(row * len(rows), title)]
    for place, (name, below, above, said) in enumerate(rows):
        y = place * row + 4
        parts.append(_text("name", label - 8, y + bar - 3, shortened(name), "end"))
        middle, end = label + below * unit, label + (below + above) * unit
        for kind, start, stop in (("below", label, middle), ("above", middle, end)):
            parts.append(
                f'<rect class="{kind}" x="{start:.2f}" y="{y}" width="{stop - start:.2f}" '
                f'height="{bar}"/>'
            )
        parts.append(_text("value", round(end + 8, 2), y + bar - 3, said, "start"))
    return _closed(parts)


def title_of(layer: Layer) -> str:
    return f"{layer.index} {layer.tensor}"


def shortened(name: str, most: int = 22) -> str:
    """A long name with its middle left out: ends tell tensors apart."""
    if len(name) <= most:
        return name
    head = (most - 1) // 3
    return f"{name[:head]}…{name[-(most - 1 - head) :]}"


def _open(height: float, title: str, width: float = _WIDTH) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}" preserveAspectRatio="xMinYMin meet">'
    )


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _closed(parts: list[str]) -> Markup:
    return Markup("".join([*parts, "</svg>"]))  # every inserted text is escaped above
