"""Which classes a classifier of several answers says are there: one rule for all readers.

A class is there where its probability is at or above its threshold, both as float32: the
files give float32, so a probability that was written down as the threshold reaches it. The
Android app and the page compare likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["present"]


def present(probabilities: Any, thresholds: Sequence[float]) -> npt.NDArray[np.bool_]:
    """What is there.

    Args:
        probabilities: `[..., classes]`; NaN is never there.
        thresholds: one a class, see `models.contract.Contract.class_thresholds`.

    Returns:
        bool, of the shape of `probabilities`.

    Raises:
        ValueError: another number of thresholds than of classes.
    """
    found = np.asarray(probabilities, dtype=np.float32)
    wanted = np.asarray(thresholds, dtype=np.float32)
    if found.shape[-1:] != wanted.shape:
        raise ValueError(f"{found.shape[-1:]} classes, {wanted.shape} thresholds")
    there: npt.NDArray[np.bool_] = found >= wanted
    return there
