"""From which probability on a class counts as there, chosen for each class by its F1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

UNTUNED = 0.5  # of a class that no image has


def tune_thresholds(probabilities: Any, targets: Any) -> tuple[float, ...]:
    """The threshold of best F1 for each class, on images that it is tuned on.

    A class counts as there where its probability is at least the threshold. Only the distinct
    probabilities matter, and every division between two neighbours is tried, so that no
    threshold at all has a better F1. The threshold lies halfway between the lowest probability
    that counts and the highest that does not (0 where all count). Of several divisions with the
    best F1 the one whose threshold is nearest to 0.5 is taken, of two as near the higher. A
    class that no image has keeps 0.5: nothing is known about it.

    Args:
        probabilities: `[images, classes]`, between 0 and 1.
        targets: `[images, classes]`, 1 where the image has the class, else 0.

    Raises:
        ValueError: other shapes or values.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(targets)
    if table.ndim != 2 or table.shape != truth.shape:
        raise ValueError(f"probabilities {table.shape} and targets {truth.shape}")
    if not ((table >= 0) & (table <= 1)).all():
        raise ValueError("probabilities lie between 0 and 1")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("targets are 0 and 1")
    return tuple(
        _best(column, there.astype(bool)) for column, there in zip(table.T, truth.T, strict=True)
    )


def _best(scores: npt.NDArray[np.float64], there: npt.NDArray[np.bool_]) -> float:
    positives = int(there.sum())
    if positives == 0:
        return UNTUNED
    distinct, place = np.unique(scores, return_inverse=True)
    # How many images have at least each distinct score, and how many of those the class.
    counted = np.cumsum(np.bincount(place)[::-1])[::-1]
    found = np.cumsum(np.bincount(place, weights=there)[::-1])[::-1]
    f1 = 2 * found / (counted + positives)
    below = np.concatenate([[0.0], distinct[:-1]])
    middles = (distinct + below) / 2
    # Between neighbouring floats there may be no middle; then the score itself divides them.
    middles = np.where(middles > below, middles, distinct)
    best = np.flatnonzero(f1 == f1.max())
    distance = np.abs(middles[best] - UNTUNED)
    return float(middles[best][distance == distance.min()].max())
