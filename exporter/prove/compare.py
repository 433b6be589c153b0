"""The metrics, in plain numpy: one artifact's answers against the reference's.

Rules that the figures depend on:

* Answers, agreement and accuracy are those of `answering`: top-1, or the set of classes
  at or above their thresholds with the macro F1.
* Top-5 agreement is the share of the reference's five first classes that are among
  the artifact's five first, averaged over images; with five classes or fewer the
  first `classes - 1` are compared, since all of them would always agree.
* Softmax logits are recovered as log-probabilities minus their mean over the
  compared classes (softmax loses one constant an image and nothing else); sigmoid
  logits as log(p / (1 - p)). Only classes whose reference probability the file's
  number format can hold are compared; the artifact's is clamped into that range, so
  that a class it lost shows as an error and not as infinity.
* SQNR is 10 log10(sum of squared reference logits / sum of squared errors) over all
  images, capped at `MAX_SQNR_DB`, which outputs equal to the last bit get.
* An image with a NaN or infinity agrees with nothing and counts in no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt

from exporter.prove.answering import Accuracy, Rule
from exporter.prove.results import ArtifactResult, ImageResult
from models.contract import Contract, OutputActivation

MAX_SQNR_DB = 200.0  # float32 carries 24 bits: nothing measurable lies above 150 dB
TOP = 5

Floats = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NumberFormat:
    """The probabilities that a file's arithmetic can hold with full precision.

    Attributes:
        floor: the smallest; below it lie denormals or zero.
        ceiling: the largest from which a sigmoid logit can still be told.
        below_one: the largest number below 1.
    """

    floor: float
    ceiling: float
    below_one: float


FLOAT32 = NumberFormat(floor=2.0**-120, ceiling=1 - 2.0**-14, below_one=1 - 2.0**-24)
FLOAT16 = NumberFormat(floor=2.0**-14, ceiling=1 - 2.0**-7, below_one=1 - 2.0**-11)


@dataclass(frozen=True)
class Metrics:
    """What `Comparison` measured; see the module's rules and `results.ArtifactResult`.

    Attributes:
        not_finite: how many images gave a NaN or an infinity.
        sum_error: largest distance of an image's sum of probabilities from 1.
        range_error: largest distance of a probability from the interval [0, 1].
    """

    images: int
    labelled: int
    not_finite: int
    sum_error: float
    range_error: float
    max_probability_difference: float | None
    mean_probability_difference: float | None
    max_logit_difference: float | None
    mean_logit_difference: float | None
    logit_sqnr_db: float | None
    top1_agreement: float
    top5_agreement: float
    accuracy: float | None
    reference_accuracy: float | None
    worst: tuple[ImageResult, ...]
    flipped: tuple[ImageResult, ...]

    def put_into(self, result: ArtifactResult) -> ArtifactResult:
        """The result with the figures of the same names."""
        shared = {entry.name for entry in fields(self)} & {entry.name for entry in fields(result)}
        return replace(result, **{name: getattr(self, name) for name in shared})


def top_overlap(reference: Vector, found: Vector, count: int = TOP) -> float:
    """Share of the reference's first classes that the artifact has among its first."""
    if not np.isfinite(found).all():
        return 0.0
    count = min(count, len(reference) - 1)
    ours = set(np.argsort(-found, kind="stable")[:count].tolist())
    theirs = np.argsort(-reference, kind="stable")[:count].tolist()
    return sum(index in ours for index in theirs) / count


def logit_pair(
    reference: Vector, found: Vector, activation: OutputActivation, numbers: NumberFormat
) -> tuple[Floats, Floats] | None:
    """Both logits over the classes that can be compared; None where there are too few.

    Args:
        reference, found: finite probabilities `[classes]`.

    Returns:
        float64 `[compared]` twice; for softmax each with mean 0.
    """
    wide, ours = reference.astype(np.float64), found.astype(np.float64)
    if activation == "softmax":
        held = wide >= numbers.floor
        if held.sum() < 2:  # one class alone is 0 after centring: it says nothing
            return None
        theirs = np.log(wide[held])
        mine = np.log(np.maximum(ours[held], numbers.floor))
        return theirs - theirs.mean(), mine - mine.mean()
    held = (wide >= numbers.floor) & (wide <= numbers.ceiling)
    if not held.any():
        return None
    clamped = np.clip(ours[held], numbers.floor, numbers.below_one)
    return np.log(wide[held] / (1 - wide[held])), np.log(clamped / (1 - clamped))


@dataclass
class Comparison:
    """Adds up image by image; keeps a summary of each, never its probabilities.

    Args:
        activation: the contract's.
        numbers: the number format of the file's output arithmetic.
        keep_worst: how many of the worst images to name.
        thresholds: of the classes, for sigmoid; None for 0.5 each.
    """

    activation: OutputActivation
    numbers: NumberFormat = FLOAT32
    keep_worst: int = 10
    thresholds: tuple[float, ...] | None = None
    _seen: list[ImageResult] = field(default_factory=list)
    _flipped: list[ImageResult] = field(default_factory=list)
    _not_finite: int = 0
    _accuracies: tuple[Accuracy, Accuracy] | None = None  # the reference's, the artifact's
    _agreed: int = 0
    _overlap: float = 0.0
    _difference_sum: float = 0.0
    _difference_count: int = 0
    _difference_max: float | None = None
    _sum_error: float = 0.0
    _range_error: float = 0.0
    _logit_sum: float = 0.0
    _logit_count: int = 0
    _logit_max: float | None = None
    _signal: float = 0.0
    _noise: float = 0.0

    @classmethod
    def of(cls, contract: Contract, numbers: NumberFormat = FLOAT32) -> Comparison:
        """By the contract's activation and thresholds."""
        several = contract.class_thresholds if contract.multi_label else None
        return cls(contract.activation, numbers, thresholds=several)

    def _rule(self, classes: int) -> Rule:
        if self.activation == "softmax":
            return Rule()
        return Rule(self.thresholds or (0.5,) * classes)

    def add(
        self,
        image: str,
        reference: Vector,
        found: Vector,
        label: str | None = None,
        truth: Sequence[int] | None = None,
    ) -> None:
        """Take one image in.

        Args:
            image: its name in reports.
            reference: finite probabilities, float32 `[classes]`.
            found: the artifact's, float32 `[classes]`; may hold NaN.
            label: the true class as a person reads it, if known.
            truth: the indices of the true classes, if known; just one for softmax.
        """
        if found.shape != reference.shape:
            raise ValueError(f"{image}: {found.shape} against {reference.shape}")
        finite = bool(np.isfinite(found).all())
        largest = self._add_differences(reference, found) if finite else 1.0
        self._not_finite += not finite
        rule = self._rule(len(reference))
        agreed = rule.agrees(reference, found)
        self._agreed += agreed
        self._overlap += top_overlap(reference, found)
        answers = rule.answer(reference), rule.answer(found) if finite else ()
        if truth is not None:
            if self._accuracies is None:
                self._accuracies = Accuracy(rule), Accuracy(rule)
            for accuracy, answer in zip(self._accuracies, answers, strict=True):
                accuracy.add(answer, truth)
        before, after = rule.decisive(reference, found)
        several = self.activation == "sigmoid"
        summary = ImageResult(
            image=image,
            label=label,
            reference_top=before,
            top=after,
            reference_probability=float(reference[before]),
            probability=float(found[after]) if finite else 0.0,
            reference_margin=rule.margin(reference),
            max_difference=largest,
            reference_classes=answers[0] if several else None,
            classes=answers[1] if several else None,
        )
        self._seen.append(summary)
        if not agreed:
            self._flipped.append(summary)

    def _add_differences(self, reference: Vector, found: Vector) -> float:
        wide = found.astype(np.float64)
        difference = np.abs(wide - reference.astype(np.float64))
        largest = float(difference.max())
        self._difference_sum += float(difference.sum())
        self._difference_count += difference.size
        self._difference_max = max(self._difference_max or 0.0, largest)
        self._sum_error = max(self._sum_error, abs(float(wide.sum()) - 1.0))
        outside = max(-float(wide.min()), float(wide.max()) - 1.0, 0.0)
        self._range_error = max(self._range_error, outside)
        pair = logit_pair(reference, found, self.activation, self.numbers)
        if pair is not None:
            theirs, ours = pair
            error = ours - theirs
            self._logit_sum += float(np.abs(error).sum())
            self._logit_count += error.size
            self._logit_max = max(self._logit_max or 0.0, float(np.abs(error).max()))
            self._signal += float(np.square(theirs).sum())
            self._noise += float(np.square(error).sum())
        return largest

    def metrics(self) -> Metrics:
        """The figures over everything added so far.

        Raises:
            ValueError: nothing was added.
        """
        images = len(self._seen)
        if not images:
            raise ValueError("no image was compared")
        reference, own = self._accuracies or (None, None)
        worst = sorted(self._seen, key=lambda result: (-result.max_difference, result.image))
        return Metrics(
            images=images,
            labelled=own.images if own else 0,
            not_finite=self._not_finite,
            sum_error=self._sum_error,
            range_error=self._range_error,
            max_probability_difference=self._difference_max,
            mean_probability_difference=_ratio(self._difference_sum, self._difference_count),
            max_logit_difference=self._logit_max,
            mean_logit_difference=_ratio(self._logit_sum, self._logit_count),
            logit_sqnr_db=_decibels(self._signal, self._noise) if self._logit_count else None,
            top1_agreement=self._agreed / images,
            top5_agreement=self._overlap / images,
            accuracy=own.value if own else None,
            reference_accuracy=reference.value if reference else None,
            worst=tuple(worst[: self.keep_worst]),
            flipped=tuple(sorted(self._flipped, key=lambda result: -result.reference_margin)),
        )


def _ratio(total: float, count: int) -> float | None:
    return total / count if count else None


def _decibels(signal: float, noise: float) -> float | None:
    if noise == 0.0:
        return MAX_SQNR_DB
    if signal == 0.0:
        return None
    return min(10.0 * math.log10(signal / noise), MAX_SQNR_DB)
