"""A confusion matrix as a picture, for 2 classes or for 1000."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.metrics import most_confused, order_by_confusion

FEW = 20  # classes up to which they keep their order and have counts in their cells
_LISTED = 40
_LONGEST = 24  # characters of a name
_INK, _SOFT, _LINE = "#1d2320", "#5d6862", "#dfdfd8"
_BLUE, _RED = (47, 109, 181), (179, 38, 30)
_PANEL = 3.9  # inches

Figure = Callable[[float, float], Any]


@dataclass(frozen=True)
class _Layout:
    """Sizes in inches.

    Attributes:
        side: of the matrix.
        margin: for names, on the left and below.
        font: of names, in points.
        step: every so many names are written.
    """

    side: float
    margin: float
    font: float
    step: int

    @property
    def width(self) -> float:
        return self.margin + self.side + 0.25 + _PANEL

    @property
    def height(self) -> float:
        return self.margin + self.side + 0.45


def draw(
    counts: npt.NDArray[Any], names: Sequence[str], figure: Figure, path: Path, dpi: int
) -> None:
    """Draw it; see `pictures.confusion`."""
    few = len(counts) <= FEW
    order = list(range(len(counts))) if few else list(order_by_confusion(counts))
    laid, words = counts[np.ix_(order, order)], [shortened(names[each]) for each in order]
    layout = _layout(len(counts), words)
    drawn = figure(layout.width, layout.height)
    axes = drawn.add_axes((
        layout.margin / layout.width, layout.margin / layout.height,
        layout.side / layout.width, layout.side / layout.height,
    ))  # fmt: skip
    axes.imshow(_colours(laid), interpolation="nearest", aspect="auto")
    _label(axes, words, layout, few)
    if few:
        _numbers(axes, laid)
    _panel(drawn, layout, counts, names, few)
    drawn.savefig(path, dpi=dpi, metadata={"Software": None})


def _layout(classes: int, words: Sequence[str]) -> _Layout:
    font = 9.0 if classes <= FEW else 6.0
    side = max(3.2, 0.44 * classes) if classes <= FEW else min(13.0, max(8.0, 0.105 * classes))
    room = side / classes * 72  # points a name has
    longest = max(map(len, words))
    return _Layout(side, 0.45 + 0.0082 * font * longest, font, math.ceil(1.12 * font / room))


def _colours(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """RGB `[n, n, 3]`: blue on the diagonal, red off it, by the square root of the row's share,
    so that a confusion of a few percent can be seen."""
    support = counts.sum(axis=1, keepdims=True)
    depth = np.sqrt(counts / np.maximum(support, 1))[..., None]
    tone = np.where(np.eye(len(counts), dtype=bool)[..., None], _BLUE, _RED) / 255.0
    ground = np.where(support[..., None] > 0, 1.0, 0.94)
    return ground * (1 - depth) + tone * depth


def _label(axes: Any, words: Sequence[str], layout: _Layout, few: bool) -> None:
    places = range(0, len(words), layout.step)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(list(places))
        axis.set_ticklabels(
            [words[each] for each in places], fontsize=layout.font, color=_INK, parse_math=False
        )
    axes.tick_params(axis="x", labelrotation=90, length=2 if few else 1, pad=2, color=_LINE)
    axes.tick_params(axis="y", length=2 if few else 1, pad=2, color=_LINE)
    axes.set_xlabel("answer", fontsize=9, color=_SOFT)
    axes.set_ylabel("truth", fontsize=9, color=_SOFT)
    axes.set_title(
        f"{len(words)} classes" + ("" if few else ", those that are confused side by side")
        + ("" if layout.step == 1 else f"; one name in {layout.step}"),
        fontsize=10, color=_INK, loc="left",
    )  # fmt: skip
    for spine in axes.spines.values():
        spine.set_color(_LINE)
    if few:
        for place in range(1, len(words)):
            axes.axhline(place - 0.5, color=_LINE, linewidth=0.5)
            axes.axvline(place - 0.5, color=_LINE, linewidth=0.5)


def _numbers(axes: Any, counts: npt.NDArray[Any]) -> None:
    support = np.maximum(counts.sum(axis=1), 1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = counts[row, column] / support[row] > 0.3
        axes.text(
            column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=8.5,
            color="white" if dark else _INK,
        )  # fmt: skip


def _panel(
    drawn: Any, layout: _Layout, counts: npt.NDArray[Any], names: Sequence[str], few: bool
) -> None:
    """Beside the matrix: how to read it, and the pairs."""
    left = (layout.margin + layout.side + 0.25) / layout.width
    line = 0.19 / layout.height
    top = (layout.margin + layout.side) / layout.height

    def say(row: float, text: str, size: float = 8.5, colour: str = _INK, **more: Any) -> None:
        drawn.text(left, top - row * line, text, fontsize=size, color=colour, va="top",
                   parse_math=False, **more)  # fmt: skip

    say(0, "blue: right; red: taken for another class;", 8.5, _SOFT)
    say(1, "the deeper, the larger the row's share", 8.5, _SOFT)
    _scales(drawn, layout, left, top - 3.4 * line)
    pairs = most_confused(counts)
    if not pairs:
        say(5, "no image was taken for another class", 9, _INK)
        return
    say(5, "taken for another class most often", 9.5, _INK, weight="bold")
    rows = min(_LISTED, int((layout.side + layout.margin * 0.9) / 0.19) - 8, len(pairs))
    for row, pair in enumerate(pairs[:rows]):
        words = f"{shortened(names[pair.truth], 19)} → {shortened(names[pair.answer], 19)}"
        say(6.3 + row, f"{pair.count:>4} ", 8, _INK, family="monospace")
        drawn.text(left + 0.42 / layout.width, top - (6.3 + row) * line,
                   f"{words}  ({100 * pair.share:.0f} %)", fontsize=8, color=_INK, va="top",
                   parse_math=False)  # fmt: skip
    if rows < len(pairs):
        rest = sum(pair.count for pair in pairs[rows:])
        say(6.6 + rows, f"and {rest} more images in {len(pairs) - rows} other pairs", 8, _SOFT)


def _scales(drawn: Any, layout: _Layout, left: float, bottom: float) -> None:
    """Two strips of colour with their percentages."""
    shares = np.array([0.01, 0.05, 0.2, 0.5, 1.0])
    for place, tone in enumerate((_BLUE, _RED)):
        axes = drawn.add_axes((
            left + place * 1.75 / layout.width, bottom,
            1.6 / layout.width, 0.13 / layout.height,
        ))  # fmt: skip
        depth = np.sqrt(shares)[None, :, None]
        axes.imshow((1 - depth) + np.array(tone) / 255 * depth, aspect="auto")
        axes.set_yticks([])
        axes.set_xticks(range(len(shares)))
        axes.set_xticklabels([f"{100 * share:g}%" for share in shares], fontsize=7, color=_SOFT)
        axes.tick_params(length=0, pad=1.5)
        for spine in axes.spines.values():
            spine.set_color(_LINE)


def shortened(name: str, longest: int = _LONGEST) -> str:
    """A name with its middle left out where it is too long: species differ at either end."""
    if len(name) <= longest:
        return name
    head = (longest - 1) // 2
    return f"{name[:head]}…{name[len(name) - (longest - 1 - head) :]}"
