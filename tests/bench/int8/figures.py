"""Fidelity of logits against the float network's, with bootstrap intervals over images.

Logits are centred an image (their mean over the classes is taken away) before anything
is compared: softmax loses that constant, and `exporter parity` compares the same way.

    SQNR    10 log10(sum y^2 / sum (y' - y)^2), sums over images and classes, in dB
    error   mean of |y' - y| over images and classes
    agreement  share of images whose top-1 is the float network's
    drop    float top-1 minus this top-1, in points (hundredths)

Intervals are 95 % percentile bootstrap intervals: images are drawn with replacement,
`DRAWS` times with a fixed seed, and every quantizer sees the same draws, so that
differences are paired (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.prove.answering import Rule, top1
from exporter.prove.compare import MAX_SQNR_DB

DRAWS, SEED = 4000, 20240
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class PerImage:
    """One quantizer's answers, summed up image by image; each is float64 `[N]`.

    Attributes:
        signal: sum of squared reference logits; 0 where the answer is not finite.
        noise: sum of squared errors; 0 where the answer is not finite.
        error: mean absolute error; 0 where the answer is not finite.
        finite: 1 where all logits are finite, else 0.
        agreed, right, reference_right: 1 or 0.
    """

    signal: Floats
    noise: Floats
    error: Floats
    finite: Floats
    agreed: Floats
    right: Floats
    reference_right: Floats


@dataclass(frozen=True)
class Figures:
    """What is said of one quantizer.

    Attributes:
        sqnr: decibels. error: of logits. agreement, top1: shares. drop: points.
        not_finite: images with a NaN or an infinity.
    """

    sqnr: Estimate
    error: Estimate
    agreement: Estimate
    top1: Estimate
    drop: Estimate
    not_finite: int


Measure = Callable[[PerImage, Floats], Floats]


def compare(reference: Floats, found: Floats, truth: npt.NDArray[np.int64]) -> PerImage:
    """Logits `[N, classes]` against the float network's, up to a constant an image.

    Raises:
        ValueError: shapes differ.
    """
    if reference.shape != found.shape or truth.shape != reference.shape[:1]:
        raise ValueError(f"{found.shape} and {truth.shape} against {reference.shape}")
    finite = np.asarray(np.isfinite(found).all(axis=1))
    wide = np.where(finite[:, None], found, 0.0).astype(np.float64)
    exact = _centred(np.asarray(reference, np.float64))
    error = _centred(wide) - exact
    kept: Floats = finite.astype(np.float64)
    return PerImage(
        signal=np.square(exact).sum(axis=1) * kept,
        noise=np.square(error).sum(axis=1) * kept,
        error=np.abs(error).mean(axis=1) * kept,
        finite=kept,
        agreed=np.array(
            [float(Rule().agrees(y, x)) for y, x in zip(reference, found, strict=True)]
        ),
        right=kept * np.array([float(top1(x) == t) for x, t in zip(found, truth, strict=True)]),
        reference_right=np.array(
            [float(top1(y) == t) for y, t in zip(reference, truth, strict=True)]
        ),
    )


def _centred(logits: Floats) -> Floats:
    return logits - logits.mean(axis=1, keepdims=True)


def sqnr(images: PerImage, weights: Floats) -> Floats:
    """Decibels for each row of weights `[draws, N]`, at most `MAX_SQNR_DB`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10((weights @ images.signal) / (weights @ images.noise))
    return np.minimum(ratio, MAX_SQNR_DB)


def error(images: PerImage, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return (weights @ images.error) / (weights @ images.finite)


def agreement(images: PerImage, weights: Floats) -> Floats:
    return _mean(weights, images.agreed)


def accuracy(images: PerImage, weights: Floats) -> Floats:
    return _mean(weights, images.right)


def drop(images: PerImage, weights: Floats) -> Floats:
    return 100 * _mean(weights, images.reference_right - images.right)


def _mean(weights: Floats, values: Floats) -> Floats:
    return (weights @ values) / weights.sum(axis=1)


def resamples(images: int, draws: int = DRAWS, seed: int = SEED) -> Floats:
    """How often each image is drawn, float64 `[draws, images]`; the same at each call."""
    counts = np.random.default_rng(seed).multinomial(
        images, np.full(images, 1 / images), size=draws
    )
    return counts.astype(np.float64)


def estimate(of: Callable[[Floats], Floats], images: int, weights: Floats) -> Estimate:
    """A figure over all images, with its percentile interval over resamples.

    A resample of nothing but images that are not finite has no figure and counts for none.
    """
    value = float(of(np.ones((1, images)))[0])
    spread = of(weights)
    low, high = np.nanpercentile(spread, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def figures(images: PerImage, weights: Floats) -> Figures:
    """All of one quantizer's figures."""
    count = len(images.signal)

    def of(measure: Measure) -> Estimate:
        return estimate(lambda drawn: measure(images, drawn), count, weights)

    return Figures(
        sqnr=of(sqnr),
        error=of(error),
        agreement=of(agreement),
        top1=of(accuracy),
        drop=of(drop),
        not_finite=int(count - images.finite.sum()),
    )


def difference(of: Measure, one: PerImage, other: PerImage, weights: Floats) -> Estimate:
    """`one`'s figure minus `other`'s, over the same images."""
    return estimate(lambda drawn: of(one, drawn) - of(other, drawn), len(one.signal), weights)
