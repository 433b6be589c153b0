"""Adds up, image by image, what is to be known of one tensor; its memory does not grow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from exporter.diagnose.probes import Floats
from exporter.diagnose.results import PARTS, Channels, Histogram, Noise, Range
from exporter.diagnose.tflite_file import Tensor, Values
from exporter.prove.compare import MAX_SQNR_DB

BINS = 64  # over the representable range, and as many below and above
NARROW = 1 / 16
_LEVELS = 256
_SAME = 1e-6  # of a channel's largest magnitude: float noise of a constant


@dataclass
class NoiseTally:
    """Sums of squares.

    Attributes:
        compared: how many images were added; nothing is known while it is 0.
    """

    compared: int = 0
    signal: float = 0.0
    accumulated: float = 0.0
    same_input: float = 0.0
    own: float = 0.0
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    isolated: int = 0

    def add(self, wanted: Floats, found: Floats) -> None:
        """One image: a tensor in the float network, and in the int8 one (not equalized)."""
        self.compared += 1
        self.signal += power(wanted)
        self.accumulated += power(found - wanted)

    def add_isolated(self, parts: dict[str, Floats]) -> None:
        """The same image at the same input: the parts of the error, not equalized."""
        self.isolated += 1
        own = parts["weights"] + parts["rounding"] + parts["clipping"]
        self.own += power(own)
        self.same_input += power(own + parts["input"])
        for name, values in parts.items():
            self.parts[name] += power(values)

    @property
    def noise(self) -> Noise | None:
        if not self.isolated or self.signal == 0.0:
            return None
        return Noise(**{name: value / self.signal for name, value in self.parts.items()})

    def decibels(self, noise: float) -> float | None:
        """SNR of a noise power; None where there is no signal."""
        return decibels(self.signal, noise)


class RangeTally:
    """One int8 tensor's values, as its range, levels and channels see them.

    The histogram's bins are laid by the representable range, which is known beforehand, so
    one pass is enough: `BINS` bins inside and as many on either side.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._levels = np.zeros(_LEVELS, np.int64)
        self._counts = np.zeros(3 * BINS, np.int64)
        self._below = self._above = self._values = 0
        self._int8: tuple[Values, Values] | None = None
        self._float: tuple[Floats, Floats] | None = None

    def add_levels(self, levels: npt.NDArray[np.int8]) -> None:
        """One image of the int8 network."""
        self._levels += np.bincount(levels.view(np.uint8).reshape(-1), minlength=_LEVELS)
        self._int8 = _extremes(levels, self._int8)

    def add_values(self, values: Floats) -> None:
        """One image of the float network, equalized."""
        tensor = self._tensor
        self._float = _extremes(values, self._float)
        half = tensor.scale / 2
        self._values += values.size
        self._below += int(np.count_nonzero(values < tensor.low - half))
        self._above += int(np.count_nonzero(values > tensor.high + half))
        places = (values.reshape(-1) - np.float32(tensor.low)) * np.float32(1 / self._width)
        places += np.float32(BINS)
        np.clip(places, 0, 3 * BINS - 1, out=places)
        self._counts += np.bincount(places.astype(np.intp), minlength=3 * BINS)

    @property
    def _width(self) -> float:
        return (self._tensor.high - self._tensor.low) / BINS

    def range(self) -> Range:
        tensor = self._tensor
        counts = np.roll(self._levels, _LEVELS // 2)  # from -128 up
        used = counts[counts > 0] / max(int(counts.sum()), 1)
        seen = self._values > 0
        observed = None
        if self._float is not None:
            observed = (float(self._float[0].min()), float(self._float[1].max()))
        return Range(
            observed=observed,
            representable=(tensor.low, tensor.high),
            step=tensor.scale,
            below=self._below / self._values if seen else None,
            above=self._above / self._values if seen else None,
            levels_used=int(used.size),
            entropy_bits=abs(float(-(used * np.log2(used)).sum())),
            histogram=Histogram(
                tensor.low - BINS * self._width, self._width, tuple(self._counts.tolist())
            )
            if seen
            else None,
        )

    def channels(self) -> Channels | None:
        """Channels that carry little; None without values of the float network."""
        if self._float is None or self._int8 is None:
            return None
        low, high = (each.astype(np.float64) for each in self._float)
        reach = np.maximum(np.abs(low), np.abs(high))
        still = high - low <= _SAME * reach
        zero = still & (reach == 0)
        varies = ~still
        lost = varies & (self._int8[0] == self._int8[1])
        narrow = varies & (high - low < NARROW * (self._tensor.high - self._tensor.low))
        return Channels(len(low), _where(zero), _where(still & ~zero), _where(lost), _where(narrow))


def decibels(signal: float, noise: float) -> float | None:
    """10 log10 of two powers' ratio, at most `MAX_SQNR_DB`; None where there is no signal."""
    if signal == 0.0:
        return None
    if noise == 0.0:
        return MAX_SQNR_DB
    return min(10.0 * math.log10(signal / noise), MAX_SQNR_DB)


def power(values: Floats) -> float:
    """The sum of squares."""
    flat = values.reshape(-1)
    return float(np.dot(flat, flat))


def _where(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(mask))


def _extremes(values: Values, before: tuple[Values, Values] | None) -> tuple[Values, Values]:
    """Least and greatest value of each channel, with those seen before."""
    flat = values.reshape(-1, values.shape[-1])
    low, high = flat.min(axis=0), flat.max(axis=0)
    if before is None:
        return low, high
    return np.minimum(low, before[0]), np.maximum(high, before[1])
