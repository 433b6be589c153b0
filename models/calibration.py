"""How far a classifier's probabilities can be believed, and the one number that mends them.

Temperature scaling (Guo, Pleiss, Sun and Weinberger, On calibration of modern neural
networks, 2017, arXiv:1706.04599, section 4.2) divides all logits by one number T > 0, fitted
on images that the network was not trained on. The order of the classes stays, so accuracy
does; above 1 the classifier becomes less sure, below 1 surer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import OutputActivation

__all__ = [
    "BINS",
    "HIGHEST",
    "LOWEST",
    "Bin",
    "CrossValidated",
    "TemperatureFit",
    "activate",
    "cross_validated",
    "expected_calibration_error",
    "fit",
    "fit_temperature",
    "logits_of",
    "negative_log_likelihood",
    "reliability",
]

BINS = 15  # Guo 2017, table 1
LOWEST, HIGHEST = 0.25, 10.0  # temperatures that are believed
_STEPS = 40  # halvings of log(HIGHEST / LOWEST): closer than float64 can tell apart in the loss
_ROWS = 4096  # images that are summed at once
_TINY = 1e-12  # smaller probabilities are taken for this one: their logit must be finite

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature and how it was come by.

    Attributes:
        temperature: in [LOWEST, HIGHEST].
        note: why it is not the minimum of the loss; '' where it is.
    """

    temperature: float
    note: str = ""


@dataclass(frozen=True)
class Bin:
    """Answers that the classifier was about equally sure of.

    Attributes:
        low, high: the bin's edges; probabilities in (low, high], in the first bin also 0.
        count: how many answers fell into it.
        confidence: their mean probability; 0 where there are none.
        accuracy: the share of them that was right; 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class CrossValidated:
    """The calibration error before and after, on images that no temperature was fitted on.

    Attributes:
        before: expected calibration error of the probabilities as they are.
        after: the same where each half got the temperature fitted on the other half.
        temperatures: the two that were fitted.
        after_probabilities: float64 `[n, classes]`, those that `after` is of.
    """

    before: float
    after: float
    temperatures: tuple[float, float]
    after_probabilities: Floats


def fit_temperature(logits: Any, targets: Any, activation: OutputActivation) -> float:
    """The temperature that makes the given answers most likely; see `fit`."""
    return fit(logits, targets, activation).temperature


def fit(logits: Any, targets: Any, activation: OutputActivation) -> TemperatureFit:
    """Find the temperature with the least negative log-likelihood.

    The loss is convex in 1 / T (a log-sum-exp minus a linear term), so its derivative
    crosses zero once, and halving an interval of log T finds it whatever the data.

    Args:
        logits: real `[n, classes]`, raw: not divided by a temperature before. NumPy or torch.
        targets: integer `[n]` for softmax; 0 or 1 in `[n, classes]` for sigmoid.
        activation: 'softmax' or 'sigmoid'.

    Returns:
        1 with a note where every answer is right (the surer, the likelier, without end:
        such images cannot say how sure to be) or all logits of each image are equal; LOWEST
        or HIGHEST with a note where the minimum lies beyond, as it does for a classifier
        that is always wrong.

    Raises:
        ValueError: no images, numbers that are not finite, or shapes that do not match.
    """
    scores, truth = _checked(logits, targets, activation)
    if _separated(scores, truth, activation):
        return TemperatureFit(
            1.0, "every answer is right: such images cannot say how sure to be, it stays at 1"
        )
    low, high = np.log(LOWEST), np.log(HIGHEST)
    slope_low, slope_high = (_slope(scores, truth, np.exp(-end)) for end in (low, high))
    if slope_low == slope_high == 0:
        return TemperatureFit(1.0, "the logits of each image are equal, it stays at 1")
    # The slope is with respect to 1 / T and grows with it: positive means a higher T is better.
    if slope_high >= 0:
        return TemperatureFit(
            HIGHEST, f"the answers are no better than chance, it is held at {HIGHEST:g}"
        )
    if slope_low <= 0:
        return TemperatureFit(
            LOWEST, f"surer answers would be likelier without end, it is held at {LOWEST:g}"
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _slope(scores, truth, np.exp(-middle)) > 0:
            low = middle
        else:
            high = middle
    return TemperatureFit(float(np.exp((low + high) / 2)))


def negative_log_likelihood(
    logits: Any, targets: Any, activation: OutputActivation, temperature: float = 1.0
) -> float:
    """Mean over the images (softmax) or over images and classes (sigmoid), in nats.

    Args:
        logits: real `[n, classes]`.
        targets: integer `[n]` for softmax; 0 or 1 in `[n, classes]` for sigmoid.

    Raises:
        ValueError: see `fit`.
    """
    scores, truth = _checked(logits, targets, activation)
    scores = scores / temperature
    if truth.ndim == 2:
        return float(np.mean(np.logaddexp(0.0, scores) - truth * scores))
    top = scores.max(axis=1, keepdims=True)
    normal = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0]
    return float(np.mean(normal - scores[np.arange(len(scores)), truth]))


def expected_calibration_error(probabilities: Any, targets: Any, bins: int = BINS) -> float:
    """The gap between how sure and how often right, over equal bins (Guo 2017, equation 3).

    sum over the bins of (answers in it / answers) * |mean probability - share right|.

    Args:
        probabilities: `[n, classes]` in [0, 1].
        targets: integer `[n]`: one answer an image, its largest probability; or 0 and 1
            in `[n, classes]`: one answer an image and class, its probability of being there.
        bins: how many of equal width.

    Raises:
        ValueError: no images, or shapes that do not match.
    """
    found = reliability(probabilities, targets, bins)
    total = sum(each.count for each in found)
    return sum(each.count / total * abs(each.confidence - each.accuracy) for each in found)


def reliability(probabilities: Any, targets: Any, bins: int = BINS) -> tuple[Bin, ...]:
    """The bins that `expected_calibration_error` sums, low to high; same arguments."""
    table, truth = _shaped(probabilities, targets)
    if truth.ndim == 1:
        sure = table.max(axis=1)
        right = table.argmax(axis=1) == truth
    else:
        sure, right = table.ravel(), truth.ravel() > 0.5
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    confidence = np.bincount(place, weights=sure, minlength=bins)
    accuracy = np.bincount(place, weights=right.astype(np.float64), minlength=bins)
    divisor = np.maximum(count, 1)
    return tuple(
        Bin(float(edges[k]), float(edges[k + 1]), int(count[k]), float(mean), float(share))
        for k, (mean, share) in enumerate(
            zip(confidence / divisor, accuracy / divisor, strict=True)
        )
    )


def cross_validated(
    logits: Any,
    targets: Any,
    activation: OutputActivation,
    bins: int = BINS,
    seed: int = 0,
) -> CrossValidated | None:
    """What a temperature does for images that it was not fitted on.

    The images are divided into two halves, class by class where each has one class; each
    half is given the temperature of the other.

    Args:
        logits: real `[n, classes]`.
        targets: integer `[n]` for softmax; 0 or 1 in `[n, classes]` for sigmoid.

    Returns:
        None for fewer than two images.

    Raises:
        ValueError: see `fit`.
    """
    scores, truth = _checked(logits, targets, activation)
    if len(scores) < 2:
        return None
    second = _halves(truth, seed)
    after = np.empty_like(scores)
    temperatures = []
    for half in (False, True):
        chosen = second == half
        found = fit_temperature(scores[chosen], truth[chosen], activation)
        after[~chosen] = activate(scores[~chosen], activation, found)
        temperatures.append(found)
    return CrossValidated(
        expected_calibration_error(activate(scores, activation), truth, bins),
        expected_calibration_error(after, truth, bins),
        (temperatures[0], temperatures[1]),
        after,
    )


def activate(logits: Any, activation: OutputActivation, temperature: float = 1.0) -> Floats:
    """Probabilities, float64 `[n, classes]`, of logits that are divided by a temperature."""
    scores = np.asarray(logits, dtype=np.float64) / temperature
    if activation == "sigmoid":
        return np.exp(-np.logaddexp(0.0, -scores))
    exponential = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def logits_of(probabilities: Any, activation: OutputActivation) -> Floats:
    """Logits that give these probabilities: for files that give nothing else.

    Softmax forgets what is common to the logits of an image, and a temperature does not
    care for it. Probabilities nearer to 0 (for sigmoid, to 0 or 1) than 1e-12 are taken
    for that.

    Args:
        probabilities: `[n, classes]` in [0, 1].
    """
    table = np.asarray(probabilities, dtype=np.float64)
    if activation == "sigmoid":
        table = np.clip(table, _TINY, 1 - _TINY)
        return np.log(table) - np.log1p(-table)
    return np.log(np.maximum(table, _TINY))


def _halves(truth: npt.NDArray[Any], seed: int) -> npt.NDArray[np.bool_]:
    """Which images are in the second half: every other one of each class, shuffled."""
    order = np.random.default_rng(seed).permutation(len(truth))
    if truth.ndim == 1:
        order = order[np.argsort(truth[order], kind="stable")]
    second = np.zeros(len(truth), dtype=np.bool_)
    second[order[1::2]] = True
    return second


def _slope(scores: Floats, truth: npt.NDArray[Any], inverse: float) -> float:
    """The derivative of the summed loss with respect to 1 / T."""
    total = 0.0
    for part, answers in _parts(scores, truth):
        if truth.ndim == 2:
            total += float(np.sum((activate(part, "sigmoid", 1 / inverse) - answers) * part))
            continue
        expected = np.sum(activate(part, "softmax", 1 / inverse) * part, axis=1)
        total += float(np.sum(expected - part[np.arange(len(part)), answers]))
    return total


def _parts(scores: Floats, truth: npt.NDArray[Any]) -> Iterator[tuple[Floats, npt.NDArray[Any]]]:
    for start in range(0, len(scores), _ROWS):
        yield scores[start : start + _ROWS], truth[start : start + _ROWS]


def _separated(scores: Floats, truth: npt.NDArray[Any], activation: OutputActivation) -> bool:
    """Whether every answer is right, and by itself."""
    if activation == "sigmoid":
        return bool(np.all(np.where(truth > 0.5, scores > 0, scores < 0)))
    rows = np.arange(len(scores))
    others = scores.copy()
    others[rows, truth] = -np.inf
    return bool(np.all(scores[rows, truth] > others.max(axis=1)))


def _checked(
    logits: Any, targets: Any, activation: OutputActivation
) -> tuple[Floats, npt.NDArray[Any]]:
    scores, truth = _shaped(logits, targets)
    if not np.all(np.isfinite(scores)):
        raise ValueError("logits that are not finite")
    if (truth.ndim == 2) != (activation == "sigmoid"):
        raise ValueError(f"targets of shape {truth.shape} for {activation}")
    if activation == "softmax":
        return scores - scores.max(axis=1, keepdims=True), truth
    return scores, truth


def _shaped(table: Any, targets: Any) -> tuple[Floats, npt.NDArray[Any]]:
    scores = np.asarray(table, dtype=np.float64)
    truth = np.asarray(targets)
    if scores.ndim != 2 or not len(scores):
        raise ValueError(f"numbers of shape {scores.shape}, not [images, classes]")
    if truth.shape not in (scores.shape, scores.shape[:1]):
        raise ValueError(f"{scores.shape} numbers for targets of shape {truth.shape}")
    if truth.ndim == 1:
        truth = truth.astype(np.int64)
        if truth.min() < 0 or truth.max() >= scores.shape[1]:
            raise ValueError("targets that are none of the classes")
    else:
        truth = truth.astype(np.float64)
    return scores, truth
