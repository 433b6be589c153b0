"""How often a venomous species is called harmless: the number that matters to a person.

An image's verdict comes from the attribute `venomous` of the answered class: 'yes', 'no' or
'unknown'; 'not sure' where the largest probability is below a threshold. With several classes
in an image, one venomous class makes the verdict 'yes', else one unknown class 'unknown', else
it is 'no'; where no class is at or above its threshold it is 'not sure'.

* The rate is: images of venomous species whose verdict is 'no', of all images of venomous
  species. 'Not sure' and 'unknown' are no false promise: they count below the line, not above.
* Images of species of which it is not known stand apart. Counted as if all of them were
  venomous they give a second, cautious rate.
* Images without any class (multi-label only) are harmless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.labels import Venomous

__all__ = [
    "CONFIDENCE",
    "Curve",
    "Safety",
    "Share",
    "Verdicts",
    "choose_threshold",
    "clopper_pearson",
    "count",
    "images_needed",
    "sweep",
    "verdicts",
]

CONFIDENCE = 0.95
DIGITS = 4  # of a threshold that is chosen
_HALVINGS = 50

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Share:
    """`count` of `of`, and between which shares the true one lies (Clopper-Pearson)."""

    count: int
    of: int

    @property
    def rate(self) -> float | None:
        """None of nothing."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """At 95 % confidence; (0, 1) of nothing."""
        return clopper_pearson(self.count, self.of)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What each image is and what was said of it.

    Attributes:
        sure: the largest probability, float64 `[n]`. Where an image may have several
            classes it is their own thresholds that decide: 1 where a class was found, -1
            where none was.
        said: 'yes', 'no' or 'unknown' `[n]`, whatever the threshold.
        truth: the same of the true classes.
    """

    sure: Floats
    said: Words
    truth: Words


@dataclass(frozen=True)
class Safety:
    """The counts at one threshold.

    Attributes:
        threshold: 'not sure' below it.
        called_harmless: verdict 'no' among the images of venomous species.
        cautious: the same where species of which it is not known count as venomous.
        called_venomous, called_unknown, not_sure: the other verdicts on venomous species.
        not_sure_of_all: 'not sure' among all images.
        false_alarms: verdict 'yes' among the images of harmless species.
        wrong_among_harmless: venomous species among all verdicts 'no'; it depends on how
            many images of venomous species the set has.
        unknown: images of species of which it is not known.
    """

    threshold: float
    called_harmless: Share
    cautious: Share
    called_venomous: Share
    called_unknown: Share
    not_sure: Share
    not_sure_of_all: Share
    false_alarms: Share
    wrong_among_harmless: Share
    unknown: int


@dataclass(frozen=True, eq=False)
class Curve:
    """Rates against the threshold, float64 `[m]` each.

    Attributes:
        thresholds: ascending from 0 to 1.
        called_harmless: see `Safety`, with the ends of its interval.
        not_sure: of the images of venomous species.
        not_sure_of_all: of all images.
    """

    thresholds: Floats
    called_harmless: Floats
    low: Floats
    high: Floats
    not_sure: Floats
    not_sure_of_all: Floats


def verdicts(
    probabilities: Any,
    truth: Any,
    venomous: Sequence[Venomous],
    thresholds: float | Sequence[float] | None = None,
) -> Verdicts:
    """What was said of each image, before any 'not sure'.

    Args:
        probabilities: `[n, classes]`.
        truth: integer `[n]`, or 0 and 1 in `[n, classes]` where an image has several classes.
        venomous: of each class.
        thresholds: with several classes an image: a class is found where its probability is
            at least this, one number or one a class.
    """
    table, right = np.asarray(probabilities), np.asarray(truth)
    attributes = np.array(venomous, dtype=np.str_)
    sure = table.max(axis=1).astype(np.float64)
    if right.ndim == 1:
        return Verdicts(sure, attributes[table.argmax(axis=1)], attributes[right.astype(int)])
    found = table >= np.asarray(0.5 if thresholds is None else thresholds, dtype=np.float64)
    sure = np.where(found.any(axis=1), 1.0, -1.0)
    return Verdicts(sure, _together(found, attributes), _together(right > 0.5, attributes))


def _together(present: npt.NDArray[np.bool_], attributes: Words) -> Words:
    yes = present[:, attributes == "yes"].any(axis=1)
    unknown = present[:, attributes == "unknown"].any(axis=1)
    return np.where(yes, "yes", np.where(unknown, "unknown", "no"))


def count(found: Verdicts, threshold: float) -> Safety:
    """Count the verdicts where 'not sure' is said below a threshold, which is in [0, 1]."""
    answered = found.sure >= threshold
    venomous, harmless = found.truth == "yes", found.truth == "no"
    risky = ~harmless
    no = answered & (found.said == "no")

    def share(what: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_]) -> Share:
        return Share(int((what & of).sum()), int(of.sum()))

    return Safety(
        threshold=threshold,
        called_harmless=share(no, venomous),
        cautious=share(no, risky),
        called_venomous=share(answered & (found.said == "yes"), venomous),
        called_unknown=share(answered & (found.said == "unknown"), venomous),
        not_sure=share(~answered, venomous),
        not_sure_of_all=share(~answered, np.ones_like(answered)),
        false_alarms=share(answered & (found.said == "yes"), harmless),
        wrong_among_harmless=share(venomous, no),
        unknown=int((found.truth == "unknown").sum()),
    )


def choose_threshold(found: Verdicts, most: float) -> float | None:
    """The smallest threshold at which at most `most` of the venomous are called harmless.

    Rounded up to four digits, where that leaves it at 1 or below; it holds for these images,
    and for others within what the interval says.

    Args:
        most: a share in [0, 1).

    Returns:
        None where no threshold up to 1 does it, or there is no image of a venomous species.
    """
    venomous = found.truth == "yes"
    if not venomous.any():
        return None
    missed = np.sort(found.sure[venomous & (found.said == "no") & (found.sure >= 0)])[::-1]
    allowed = math.floor(most * int(venomous.sum()) + 1e-9)
    if len(missed) <= allowed:
        return 0.0
    return _just_above(float(missed[allowed]))


def _just_above(value: float) -> float | None:
    """The smallest number of four digits above a value; of more digits near 1."""
    for digits in range(DIGITS, 17, 2):
        step = 10**digits
        place = math.floor(value * step)
        while place / step <= value:
            place += 1
        if place < step:
            return place / step
    return 1.0 if value < 1 else None


def sweep(found: Verdicts, points: int = 1001) -> Curve:
    """The rates at `points` thresholds from 0 to 1; NaN where there is no venomous species."""
    thresholds = np.linspace(0.0, 1.0, points)
    venomous = found.truth == "yes"
    missed = venomous & (found.said == "no")

    def at_least(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        held = np.sort(found.sure[chosen])
        return len(held) - np.searchsorted(held, thresholds, side="left")

    total, everything = int(venomous.sum()), np.ones_like(venomous)
    called = at_least(missed)
    ends = {int(value): clopper_pearson(int(value), total) for value in np.unique(called)}
    divisor = float(total) if total else np.nan
    return Curve(
        thresholds,
        called / divisor,
        np.array([ends[int(value)][0] for value in called]),
        np.array([ends[int(value)][1] for value in called]),
        1 - at_least(venomous) / divisor,
        1 - at_least(everything) / max(len(venomous), 1),
    )


def images_needed(most: float, confidence: float = CONFIDENCE) -> int:
    """How many images of venomous species, none of them called harmless, rule out a rate.

    The upper end of the two-sided interval of 0 of n is 1 - (alpha / 2)^(1 / n), which has to
    be at most `most`, a share in (0, 1).
    """
    return math.ceil(math.log((1 - confidence) / 2) / math.log1p(-most))


def clopper_pearson(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Between which shares the true one lies, whatever it is (Clopper and Pearson 1934).

    The lower end is the p with P(X >= successes) = alpha / 2, the upper one that with
    P(X <= successes) = alpha / 2, where X is binomial of `trials` and p. The interval holds
    the true share at least as often as `confidence` says; Wilson's may fall below that for
    rare events, which is what is counted here.

    Returns:
        (0, 1) of no trials.
    """
    if trials == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _solve(successes - 1, trials, 1 - tail)
    high = 1.0 if successes == trials else _solve(successes, trials, tail)
    return low, high


def _solve(successes: int, trials: int, wanted: float) -> float:
    """The p with P(X <= successes) = wanted; the probability falls as p grows."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _at_most(successes, trials, middle) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(successes: int, trials: int, p: float) -> float:
    """P(X <= successes) for a binomial X, by a sum of exponentials of logarithms."""
    k = np.arange(successes + 1)
    logs = _log_choose(trials, successes) + k * math.log(p) + (trials - k) * math.log1p(-p)
    return float(np.exp(logs).sum())


def _log_choose(trials: int, successes: int) -> Floats:
    """log(trials over k) for k from 0 to `successes`."""
    k = np.arange(1, successes + 1)
    return np.concatenate([[0.0], np.cumsum(np.log((trials - k + 1) / k))])
