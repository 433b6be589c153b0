"""What an app makes of probabilities: one class, or those that reach their thresholds.

One class out of many (softmax): top-1 is the lowest index among the largest probabilities,
as an app takes it. An artifact agrees when the reference gives its answer the reference's own
largest probability: where the reference ties exactly, each of the tied classes agrees; any
other difference, however near, is a flip. Accuracy is top-1.

Several classes (sigmoid): the answer is the set of classes at or above their thresholds, see
`models.answers`. An artifact agrees when its set is the reference's; a class whose reference
probability lies within `TIED` of its threshold is decided by no one and agrees either way.
Accuracy is the macro F1: the mean over the classes that occur, in the truth or in an answer,
of `2 tp / (2 tp + fp + fn)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.answers import present
from models.contract import Contract

TIED = 1e-6  # the order of additions moves a probability by about as much
Vector = npt.NDArray[np.float32]
Classes = tuple[int, ...]


def top1(probabilities: Vector) -> int:
    """The lowest index among the largest values; NaN never wins."""
    return int(np.argmax(np.nan_to_num(probabilities, nan=-np.inf, posinf=np.inf, neginf=-np.inf)))


@dataclass(frozen=True)
class Rule:
    """How probabilities become an answer.

    Attributes:
        thresholds: one a class where there may be several answers; None for one.
    """

    thresholds: tuple[float, ...] | None = None

    @classmethod
    def of(cls, contract: Contract) -> Rule:
        return cls(contract.class_thresholds if contract.multi_label else None)

    def answer(self, probabilities: Vector) -> Classes:
        """The classes that are said to be there: one, or any number in the contract's order."""
        if self.thresholds is None:
            return (top1(probabilities),)
        return tuple(np.flatnonzero(present(probabilities, self.thresholds)).tolist())

    def agrees(self, reference: Vector, found: Vector) -> bool:
        """Whether two answers are the same one; NaN and infinity agree with nothing."""
        if not np.isfinite(found).all():
            return False
        if self.thresholds is None:
            return bool(reference[top1(found)] == reference.max())
        apart = present(reference, self.thresholds) != present(found, self.thresholds)
        return not bool((apart & (self._distances(reference) > TIED)).any())

    def margin(self, probabilities: Vector) -> float:
        """How far the probabilities are from another answer: first minus second, or the
        smallest distance of one from its threshold."""
        if self.thresholds is None:
            second, first = np.partition(probabilities, -2)[-2:]
            return float(first - second)
        return float(self._distances(probabilities).min())

    def decisive(self, reference: Vector, found: Vector) -> tuple[int, int]:
        """The class of either side that a report tells the probability of.

        Of one answer the two answers; of several the class that is in one answer only and
        whose probability differs most, else the reference's likeliest.
        """
        if self.thresholds is None:
            return top1(reference), top1(found)
        apart = present(reference, self.thresholds) != present(found, self.thresholds)
        if not apart.any():
            return top1(reference), top1(reference)
        difference = np.abs(np.nan_to_num(found) - reference)
        place = int(np.argmax(np.where(apart, difference, -1.0)))
        return place, place

    def _distances(self, probabilities: Vector) -> npt.NDArray[np.float64]:
        wanted = np.asarray(self.thresholds, dtype=np.float32).astype(np.float64)
        return np.abs(probabilities.astype(np.float64) - wanted)


class Accuracy:
    """Top-1, or macro F1 over several answers, added up image by image.

    Args:
        rule: how many answers there may be.
    """

    def __init__(self, rule: Rule) -> None:
        self._several = rule.thresholds is not None
        classes = len(rule.thresholds or ())
        self._found, self._missed, self._wrong = (np.zeros(classes, np.int64) for _ in range(3))
        self._right = 0
        self.images = 0

    def add(self, answer: Iterable[int], truth: Iterable[int]) -> None:
        """Take one image's answer and its true classes."""
        said, true = set(answer), set(truth)
        self.images += 1
        self._right += said == true
        if self._several:
            self._found[list(said & true)] += 1
            self._missed[list(true - said)] += 1
            self._wrong[list(said - true)] += 1

    @property
    def value(self) -> float | None:
        """0..1; None before the first image."""
        if not self.images:
            return None
        if not self._several:
            return self._right / self.images
        counted = 2 * self._found + self._missed + self._wrong
        occur = counted > 0
        each = 2 * self._found[occur] / counted[occur]
        return float(each.mean()) if occur.any() else 0.0
