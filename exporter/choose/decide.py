"""Which candidate to take: the file each would ship, the Pareto front, budget, and noise.

All here is arithmetic on a `Comparison`; the sentences are in `advice`. The rule:

1. A candidate is judged by the file it would ship: the first of `SHIPPABLE` that passed
   its parity gate and was measured.
2. Those over the budget fall out.
3. Those within noise of the most accurate of the rest are its equals: accuracy on a few
   hundred images cannot tell them apart.
4. Of the equals the fastest is taken; latencies within `SAME_SPEED` of the fastest's
   count as the same, and then the smallest file is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporter.choose.results import Budget, Comparison, Outcome

SHIPPABLE = ("tflite-int8", "tflite-float16", "tflite-float32")
NOISE = 1.0  # standard errors of a difference; Breiman et al. 1984 choose a tree so
SAME_SPEED = 0.10
MB = 1e6


@dataclass(frozen=True)
class Judged:
    """One candidate by the file that it would ship.

    Attributes:
        file: its format key.
        accuracy: top-1 of that file, in 0..1.
        error: one standard error of it, in 0..1.
        ms, p90: latency of one image: median and 90th percentile.
        bytes: its size.
        over_ms: milliseconds above the budget, 0 where it fits or there is none.
        over_mb: 10^6 bytes above the budget, likewise.
    """

    outcome: Outcome
    file: str
    accuracy: float
    error: float
    ms: float
    p90: float
    bytes: int
    over_ms: float = 0.0
    over_mb: float = 0.0

    @property
    def name(self) -> str:
        return self.outcome.name

    @property
    def mb(self) -> float:
        """Size in 10^6 bytes."""
        return self.bytes / MB

    @property
    def fits(self) -> bool:
        return self.over_ms == 0 and self.over_mb == 0

    def dominates(self, other: Judged) -> bool:
        """Whether it is at least as accurate and as fast, and better in one of the two."""
        no_worse = self.accuracy >= other.accuracy and self.ms <= other.ms
        return no_worse and (self.accuracy > other.accuracy or self.ms < other.ms)


@dataclass(frozen=True)
class Decision:
    """What follows from a comparison.

    Attributes:
        judged: candidates with a file to ship, in the order of the comparison.
        left_out: the others, each with the reason.
        front: those of `judged` that none dominates, by latency.
        best: the most accurate of those that fit; None where none fits.
        equals: those that fit and are within noise of `best`, which is one of them, by latency.
        taken: which to take; None where none fits.
        nearest: where none fits, the one that exceeds the budget by the smallest factor.
    """

    judged: tuple[Judged, ...]
    left_out: tuple[tuple[Outcome, str], ...]
    front: tuple[Judged, ...]
    best: Judged | None
    equals: tuple[Judged, ...]
    taken: Judged | None
    nearest: Judged | None

    def of(self, outcome: Outcome) -> Judged | None:
        """How a candidate was judged; None where it was left out."""
        return next((each for each in self.judged if each.name == outcome.name), None)


def decide(comparison: Comparison) -> Decision:
    """Judge all candidates; see the module's text for the rule."""
    judged, left_out = [], []
    for outcome in comparison.outcomes:
        found = judge(outcome, comparison.budget, comparison.test_images)
        if isinstance(found, str):
            left_out.append((outcome, found))
        else:
            judged.append(found)
    fitting = [each for each in judged if each.fits]
    best = most_accurate(fitting)
    equals = () if best is None else tuple(
        sorted((each for each in fitting if same_accuracy(each, best)), key=_by_speed)
    )  # fmt: skip
    return Decision(
        tuple(judged),
        tuple(left_out),
        pareto_front(judged),
        best,
        equals,
        cheapest(equals),
        None if fitting or not judged else min(
            judged, key=lambda each: (factor_over(each, comparison.budget), *_by_speed(each))
        ),
    )  # fmt: skip


def judge(outcome: Outcome, budget: Budget, images: int) -> Judged | str:
    """One candidate by the file that it would ship, or why it has none.

    Args:
        images: how many judged it, where the outcome does not say.
    """
    if outcome.failure:
        return outcome.failure
    failed, missing = [], []
    for key in SHIPPABLE:
        if key in outcome.gates_failed:
            failed.append(f"{key} ({outcome.gates_failed[key]})")
        elif not _measured(outcome, key):
            missing.append(key)
        else:
            return _judged(outcome, key, budget, outcome.test_images or images)
    reasons = []
    if failed:
        reasons.append("failed its gate: " + ", ".join(failed))
    if missing:
        reasons.append("not measured: " + ", ".join(missing))
    return "; ".join(reasons)


def _measured(outcome: Outcome, key: str) -> bool:
    if key not in outcome.accuracy or key not in outcome.latency or key not in outcome.sizes:
        return False
    return math.isfinite(outcome.accuracy[key]) and math.isfinite(outcome.latency[key].median)


def _judged(outcome: Outcome, key: str, budget: Budget, images: int) -> Judged:
    accuracy, latency, size = outcome.accuracy[key], outcome.latency[key], outcome.sizes[key]
    return Judged(
        outcome,
        key,
        accuracy,
        standard_error(accuracy, images),
        latency.median,
        latency.p90,
        size,
        0.0 if budget.ms is None else max(latency.median - budget.ms, 0.0),
        0.0 if budget.mb is None else max(size / MB - budget.mb, 0.0),
    )


def pareto_front(judged: Iterable[Judged]) -> tuple[Judged, ...]:
    """Those that none dominates, by latency; equal points are all on it."""
    front: list[Judged] = []
    for each in sorted(judged, key=lambda each: (each.ms, -each.accuracy, each.name)):
        better = not front or each.accuracy > front[-1].accuracy
        same = front and (each.accuracy, each.ms) == (front[-1].accuracy, front[-1].ms)
        if better or same:
            front.append(each)
    return tuple(front)


def most_accurate(judged: Sequence[Judged]) -> Judged | None:
    """The most accurate; of several the fastest, then the smallest, then the first name."""
    return min(judged, key=lambda each: (-each.accuracy, *_by_speed(each)), default=None)


def cheapest(equals: Sequence[Judged]) -> Judged | None:
    """Of candidates of one accuracy: the smallest of those that are as fast as the fastest."""
    if not equals:
        return None
    quick = min(each.ms for each in equals) * (1 + SAME_SPEED)
    return min(
        (each for each in equals if each.ms <= quick),
        key=lambda each: (each.bytes, each.ms, -each.accuracy, each.name),
    )


def factor_over(judged: Judged, budget: Budget) -> float:
    """The larger of its latency and size, each as a multiple of what is allowed."""
    factors = [0.0]
    if budget.ms is not None:
        factors.append(judged.ms / budget.ms)
    if budget.mb is not None:
        factors.append(judged.mb / budget.mb)
    return max(factors)


def standard_error(share: float, images: int) -> float:
    """Of a share of right answers among `images`, both in 0..1.

    One right and one wrong answer are added, so that all right does not count as certain;
    Agresti and Caffo 2000 do so for differences of two shares.
    """
    if images <= 0:
        return 0.5
    middle = (share * images + 1) / (images + 2)
    return math.sqrt(middle * (1 - middle) / (images + 2))


def same_accuracy(one: Judged, other: Judged) -> bool:
    """Whether two accuracies differ by no more than the noise of their difference.

    Both saw the same images, and what is hard for one is mostly hard for the other, so
    that the true noise is smaller than this, which takes them as independent.
    """
    return abs(one.accuracy - other.accuracy) <= noise_between(one, other)


def noise_between(one: Judged, other: Judged) -> float:
    """One standard error of the difference of two accuracies, in 0..1, times `NOISE`."""
    return NOISE * math.hypot(one.error, other.error)


def drop_noise(outcome: Outcome, images: int) -> float:
    """One standard error of the accuracy that int8 lost, in 0..1.

    Float and int8 answered the same images, so only answers that changed count: with a
    share f of them, the variance is at most f / images. Where f is not known, the two
    accuracies are taken as independent, which is far too much.
    """
    images = outcome.test_images or images
    if images <= 0:
        return 0.5
    agreement = outcome.agreement.get("tflite-int8")
    if agreement is not None:
        changed = ((1 - agreement) * images + 1) / (images + 2)
        return math.sqrt(changed / images)
    accuracies = (outcome.accuracy.get(key, 0.5) for key in ("torch", "tflite-int8"))
    return math.hypot(*(standard_error(share, images) for share in accuracies))


def _by_speed(judged: Judged) -> tuple[float, int, str]:
    return judged.ms, judged.bytes, judged.name
