"""The learning rate range test of Smith 2017 (arXiv:1506.01186, section 3.3).

The network learns for some steps at a rate that grows from next to nothing until the loss
bursts; the curve shows which rates it learns at. The network that did so is thrown away.

    RUN/lr-range.csv   rate, loss and smoothed loss of each step
    RUN/lr-range.png   the curve
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.training.record import write_text

STEPS = 100
LOWEST = 1e-7
HIGHEST = {"adamw": 1.0, "sgd": 10.0}
BURST = 2.0  # times the mean of the first losses: the test ends
_FIRST = 5
_DIVISOR = 10.0
_REACH = 4  # neighbours on each side that a loss is smoothed with
_NOTICEABLE = 3.0  # times the noise of the smoothed curve: so far the loss has to fall
_WEIGHTS = _REACH + 1.0 - np.abs(np.arange(-_REACH, _REACH + 1))


@dataclass(frozen=True)
class RateRange:
    """What a range test found.

    Attributes:
        rates: of the steps, growing; for the head or the layers that learn as fast.
        losses: of the batches, as many; the last one may have burst.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The losses without the batches' noise, see `smooth`."""
        return smooth(self.losses)

    @property
    def lowest(self) -> int:
        """The step at which the smoothed loss is lowest."""
        return int(np.argmin(self.smoothed))

    @property
    def fall(self) -> float:
        """How far the smoothed loss came down from the mean of the first losses."""
        return float(np.mean(self.losses[: 2 * _FIRST])) - self.smoothed[self.lowest]

    @property
    def noise(self) -> float:
        """The standard error of a smoothed loss, from how the losses scatter about it."""
        scatter = np.subtract(self.losses, self.smoothed)[: self.lowest + 1]
        return float(np.std(scatter) * np.linalg.norm(_WEIGHTS) / _WEIGHTS.sum())

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate at which the smoothed loss is lowest, two digits.

        That rate is where learning begins to burst; a tenth of it is well inside. None where
        the loss did not fall noticeably at any rate.
        """
        if len(self.losses) < 2 * _FIRST or self.fall <= _NOTICEABLE * self.noise:
            return None
        return float(f"{self.rates[self.lowest] / _DIVISOR:.1e}")


def rates(optimizer: str, steps: int = STEPS) -> tuple[float, ...]:
    """The learning rates of the steps, each the same factor above the one before."""
    found = np.geomspace(LOWEST, HIGHEST[optimizer], steps)
    return tuple(float(rate) for rate in found)


def smooth(losses: Sequence[float]) -> tuple[float, ...]:
    """Each loss averaged with its neighbours on both sides, nearer ones counting more.

    Weights fall in a straight line, to nothing at five steps away. So the curve is not
    behind the losses, as a running average is.
    """
    given = np.asarray(losses, np.float64)
    if not len(given):
        return ()
    there = np.convolve(np.ones_like(given), _WEIGHTS)[_REACH:-_REACH]
    return tuple((np.convolve(given, _WEIGHTS)[_REACH:-_REACH] / there).tolist())


def burst(losses: Sequence[float]) -> bool:
    """Whether the last loss is so high, or no number, that larger rates need not be tried."""
    *before, last = losses
    return not last <= BURST * float(np.mean(before[:_FIRST] or [1e9]))


def write(found: RateRange, folder: Path, architecture: str) -> tuple[Path, Path]:
    """Write the table and the picture; their paths."""
    table, picture = folder / "lr-range.csv", folder / "lr-range.png"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("learning_rate", "loss", "smoothed_loss"))
    for row in zip(found.rates, found.losses, found.smoothed, strict=True):
        writer.writerow([f"{value:.6g}" for value in row])
    folder.mkdir(parents=True, exist_ok=True)
    write_text(table, text.getvalue())
    _draw(found, picture, architecture)
    return table, picture


def _draw(found: RateRange, path: Path, architecture: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=120, layout="constrained")
    axes: Any = figure.add_subplot()
    curve, steps = found.smoothed, np.asarray(found.rates)
    axes.plot(steps, found.losses, ".", color="#9aa5b1", markersize=4, label="loss of a batch")
    axes.plot(steps, curve, color="#1f5fa8", linewidth=2, label="smoothed")
    axes.set_xscale("log")
    low, high = min(curve), float(np.mean(found.losses[: 2 * _FIRST]))
    room = max(high - low, 10.0 * found.noise)
    axes.set_ylim(low - 0.25 * room, high + 0.75 * room)  # what burst lies above
    suggestion = found.suggestion
    if suggestion is not None:
        axes.plot(steps[found.lowest], low, "o", color="#1f5fa8", label="lowest")
        axes.axvline(suggestion, color="#c2571a", linestyle="--", linewidth=1.5)
        axes.annotate(
            f"a tenth of it: {suggestion:g}", (suggestion, 1.0), (-6, -8), color="#c2571a",
            xycoords=("data", "axes fraction"), textcoords="offset points", ha="right", va="top",
        )  # fmt: skip
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_title(f"Learning rate range test: {architecture}", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", metadata={"Software": None})
    partial.replace(path)
