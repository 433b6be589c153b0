"""One file in two runtimes, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from exporter.prove.results import Versus

Unit = Literal["steps", "probability"]
Numbers = npt.NDArray[Any]


@dataclass
class Tally:
    """The numbers of one file in two runtimes, added up over images.

    Args:
        runtime: the other runtime's name.
    """

    runtime: str
    _unit: Unit = "probability"
    _elements: int = 0
    _differing: int = 0
    _largest: float = 0.0

    def add(self, unit: Unit, mine: Numbers, theirs: Numbers) -> None:
        """Take one image in: two arrays of the same shape.

        Raises:
            ValueError: their shapes differ.
        """
        if mine.shape != theirs.shape:
            raise ValueError(f"{mine.shape} against {theirs.shape}")
        with np.errstate(invalid="ignore"):  # infinity minus itself
            difference = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
        self._unit = unit
        self._elements += mine.size
        self._differing += int((difference != 0).sum())  # NaN and infinity always differ
        finite = np.isfinite(difference)
        self._largest = max(self._largest, float(difference.max(where=finite, initial=0.0)))

    def result(self) -> Versus | None:
        """What it came to; None before the first image."""
        if not self._elements:
            return None
        return Versus(self.runtime, self._unit, self._elements, self._differing, self._largest)
