"""The pictures of an evaluation as PNG files, drawn with matplotlib.

Blue is right and red is wrong in all of them; shapes and words say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exporter.evaluate.matrix import draw as _matrix
from models.calibration import Bin
from models.errors import MissingExtraError
from models.safety import Curve

__all__ = ["calibration", "confusion", "require", "safety"]

INK, SOFT, LINE = "#1d2320", "#5d6862", "#dfdfd8"
BLUE, RED, GREY = "#2f6db5", "#b3261e", "#8b9099"
_DPI = 150


def require() -> None:
    """Find out before the long work that nothing could be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    _figure(1, 1)


def confusion(matrix: Any, names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, with the pairs that are taken for each other most beside it.

    Up to 20 classes stay in their order and have counts in their cells; more are laid so that
    those that are confused lie together. Classes that occur nowhere are left out.

    Args:
        matrix: counts `[classes, classes]`, the truth in rows.
        names: of the classes.
    """
    counts = np.asarray(matrix)
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    _matrix(counts[np.ix_(used, used)], [names[int(each)] for each in used], _figure, path, _DPI)


def calibration(
    before: Sequence[Bin],
    error: float,
    after: Sequence[Bin],
    error_after: float | None,
    temperature: float,
    path: Path,
) -> None:
    """Draw how often answers are right against how sure they are (a reliability diagram).

    Args:
        before, after: bins of the probabilities as they are and with a temperature; `after`
            may be empty.
        error, error_after: their expected calibration errors.
        temperature: what it would be.
    """
    panels = [(before, f"as it is: calibration error {_percent(error)}")]
    if after and error_after is not None:
        said = f"with a temperature near {temperature:.2f}: {_percent(error_after)}"
        panels.append((after, said))
    figure = _figure(4.4 * len(panels) + 0.3, 5.0)
    axes = figure.subplots(
        2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(3.2, 1)
    )
    for column, (bins, title) in enumerate(panels):
        _reliability(axes[0][column], axes[1][column], bins)
        axes[0][column].set_title(title, fontsize=10, color=INK)
    axes[0][0].set_ylabel("share that is right")
    axes[1][0].set_ylabel("answers")
    figure.tight_layout()
    _save(figure, path)


def _reliability(upper: Any, lower: Any, bins: Sequence[Bin]) -> None:
    width = bins[0].high - bins[0].low
    middles = [(each.low + each.high) / 2 for each in bins]
    filled = [(middle, each) for middle, each in zip(middles, bins, strict=True) if each.count]
    for middle, each in filled:
        upper.bar(middle, each.accuracy, width * 0.92, color=BLUE, alpha=0.85, zorder=2)
        gap, start = each.confidence - each.accuracy, min(each.confidence, each.accuracy)
        upper.bar(
            middle, abs(gap), width * 0.92, bottom=start, zorder=3, fill=gap < 0,
            facecolor="white" if gap < 0 else "none", alpha=0.65 if gap < 0 else 1,
            edgecolor=RED, linewidth=1.0, hatch="////",
        )  # fmt: skip
    upper.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=4)
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    lower.bar(middles, [each.count for each in bins], width * 0.92, color=GREY, zorder=2)
    lower.set_xlabel("how sure (probability)")
    if len(filled) == 1 or max(each.count for each in bins) > 50:
        lower.set_yscale("symlog", linthresh=10)
    upper.text(
        0.03, 0.97, "hatched: the gap to what was promised", transform=upper.transAxes,
        fontsize=8, color=RED, va="top", zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )  # fmt: skip
    for axes in (upper, lower):
        _plain_axes(axes)


def safety(
    curve: Curve,
    venomous: int,
    threshold: float,
    path: Path,
    most: float | None = None,
    chosen: float | None = None,
) -> None:
    """Draw what a threshold for 'not sure' buys and what it costs.

    Args:
        curve: from `models.safety.sweep`.
        venomous: how many images of venomous species it is of.
        threshold: the contract's.
        most: the rate that was asked for, or None.
        chosen: the threshold for it, or None.
    """
    figure = _figure(8.4, 5.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.25, 1))
    x = curve.thresholds
    upper.fill_between(
        x, curve.low, curve.high, color=RED, alpha=0.15, linewidth=0, label="95 % interval"
    )
    upper.plot(x, curve.called_harmless, color=RED, linewidth=2, label="called harmless")
    if most is not None:
        upper.axhline(most, color=INK, linewidth=1, linestyle=(0, (4, 3)),
                      label=f"asked for: {_percent(most)}")  # fmt: skip
    upper.set_ylabel(f"of {venomous} images of\nvenomous species")
    upper.set_ylim(0, _ceiling(curve, most))
    lower.plot(x, curve.not_sure_of_all, color=BLUE, linewidth=2, label="'not sure', all images")
    lower.plot(x, curve.not_sure, color=GREY, linewidth=2, linestyle=(0, (5, 2)),
               label="'not sure', venomous species")  # fmt: skip
    lower.set_ylim(0, 1)
    lower.set_xlim(0, 1)
    lower.set_ylabel("share of images")
    lower.set_xlabel("threshold: below it the answer is 'not sure'")
    for axes in (upper, lower):
        axes.yaxis.set_major_formatter(lambda value, _: _percent(value))
        _marks(axes, threshold, chosen)
        _plain_axes(axes)
        axes.legend(fontsize=8.5, facecolor="white", edgecolor="white", framealpha=0.85, loc="best")
    figure.tight_layout()
    _save(figure, path)


def _ceiling(curve: Curve, most: float | None) -> float:
    """The top of the scale: the rate without any 'not sure', with room, at least 2 %."""
    highest = float(np.nanmax(curve.high)) if np.isfinite(curve.high).any() else 1.0
    return min(1.02, max(1.08 * highest, 0.02, 2 * (most or 0)))


def _marks(axes: Any, threshold: float, chosen: float | None) -> None:
    axes.axvline(threshold, color=SOFT, linewidth=1.2, linestyle=":",
                 label=f"the model's: {threshold:g}")  # fmt: skip
    if chosen is not None:
        axes.axvline(chosen, color=INK, linewidth=1.4, label=f"for the rate: {chosen:g}")


def _plain_axes(axes: Any) -> None:
    axes.grid(axis="y", color=LINE, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=SOFT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.xaxis.label.set(fontsize=9, color=INK)
    axes.yaxis.label.set(fontsize=9, color=INK)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _figure(width: float, height: float) -> Any:
    """A figure of so many inches, without a window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train", "Drawing the pictures") from error
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
