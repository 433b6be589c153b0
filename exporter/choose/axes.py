"""Axes of a picture: from values to pixels, linear or logarithmic, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from exporter.prove.report.charts import nice_step

SPREAD = 6.0  # largest over smallest from which a logarithmic axis shows more
_MARGIN = 0.07  # of the length, on either side


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `stop`.

    Attributes:
        ticks: the values that are labelled, ascending, within `low` and `high`.
        log: whether equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; beyond the ends for values beyond them."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        return round(self.start + (self.stop - self.start) * share, 1)


@dataclass(frozen=True)
class ShareAxis:
    """Percent that are right, so that equal ratios of what is wrong are equally far apart.

    90 and 95 % are then as far from each other as 95 and 97.5 %: half as many errors.

    Attributes:
        wrong: the logarithmic axis of percent that are wrong.
        ticks: percent that are right.
    """

    wrong: Axis
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """The pixel of a percentage that is right; 100 % lies at the axis's end."""
        return self.wrong.at(min(max(100 - value, self.wrong.low), self.wrong.high))


def shares(values: Iterable[float], floor: float, start: float, stop: float) -> Axis | ShareAxis:
    """An axis for percent that are right: linear unless the errors are spread widely.

    Args:
        values: 0..100, at least one.
        floor: the smallest error that is told from none, in percent.
    """
    found = list(values)
    wrong = [max(100 - value, floor) for value in found]
    if max(wrong) / min(wrong) < SPREAD:
        return linear(found, start, stop, bounds=(0.0, 100.0))
    axis = scaled(wrong, stop, start)
    axis = replace(axis, high=min(axis.high, 100.0))
    return ShareAxis(axis, tuple(round(100 - tick, 10) for tick in reversed(axis.ticks)))


def scaled(values: Iterable[float], start: float, stop: float, ticks: int = 6) -> Axis:
    """An axis for values above zero: logarithmic where they are spread widely.

    Args:
        values: at least one; all are within the axis, with a margin.
        ticks: about how many.
    """
    found = list(values)
    least, most = min(found), max(found)
    if least <= 0 or most / least < SPREAD:
        if most < 1.1 * least:
            return linear([0.0, 1.5 * most], start, stop, ticks)
        low = 0.0 if least < 0.5 * most else least / (1 + _MARGIN)
        return linear([low, most * (1 + _MARGIN)], start, stop, ticks)
    reach = max(math.log(most / least), math.log(2)) * _MARGIN
    low, high = least * math.exp(-reach), most * math.exp(reach)
    return Axis(low, high, start, stop, _decades(low, high, ticks), log=True)


def linear(
    values: Iterable[float],
    start: float,
    stop: float,
    ticks: int = 6,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Axis:
    """An axis that begins and ends at ticks.

    Args:
        values: at least one.
        bounds: values beyond which there is nothing, such as 0 and 1 of a share.
    """
    found = list(values)
    least, most = min(found), max(found)
    if most - least <= 1e-6 * max(abs(most), 1e-6):
        reach = 0.5 * abs(least) if abs(least) > 1e-3 else 0.5
        least, most = least - reach, most + reach
        least, most = max(least, bounds[0]), min(most, bounds[1])
    step = nice_step(most - least, ticks)
    low = max(step * math.floor(least / step + 1e-9), bounds[0])
    high = min(step * math.ceil(most / step - 1e-9), bounds[1])
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    marks = tuple(round(step * (first + place), 10) for place in range(count))
    return Axis(low, high, start, stop, marks)


def _decades(low: float, high: float, ticks: int) -> tuple[float, ...]:
    """1, 2 and 5 of each power of ten; fewer of them where that is too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks: tuple[float, ...] = ()
    for factors in ((1, 2, 3, 4, 6, 8), (1, 2, 5), (1, 3), (1,)):
        marks = tuple(
            float(f"{factor}e{power}")
            for power in powers
            for factor in factors
            if low <= float(f"{factor}e{power}") <= high
        )
        if len(marks) <= 1.5 * ticks:
            break
    return marks
