"""int8 as TFLite computes it, in float and with a gradient.

Activations: one scale and zero point a tensor, `scale * (clip(rint(x / scale) + zero,
-128, 127) - zero)`. Weights: one scale an output channel, zero point 0, in [-127, 127].
The gradient is the straight-through estimator's (Bengio et al. 2013, arXiv:1308.3432):
1 where nothing is clipped, 0 where something is. Biases are left alone: as int32 they
have 2^-31 of their range for a step.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from models.training.library import torch

LEVELS = 255  # steps between the lowest and the highest of 256 values
WEIGHT_LIMIT = 127
_SMALLEST_SCALE = 2.0**-24
_EMPTY_SCALE = 1.0 / LEVELS
Bounds = tuple[float, float]
ALL: Bounds = (-math.inf, math.inf)
SIGMOID = (1.0 / 256.0, -128)  # TFLite's LOGISTIC has no other scale and zero point
TANH = (1.0 / 128.0, 0)  # nor has its TANH


class Range(nn.Module):
    """The scale that one tensor, or several that share one, are rounded to.

    It comes from the mean over pictures of each one's smallest and largest value, which
    is what the export will measure; where `whole`, from the extremes over all of them.

    Attributes:
        given: whether the scale is the operator's own and nothing is measured.
        useful: no range has to reach further, as what reads the values cannot tell; it
            holds zero.
        scale, zero_point: float32 and int32, each a single number; an unmeasured range
            has a scale of 1.
        active: whether tensors are rounded; if not, they pass unchanged.
        watching: whether they are looked at.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, whole: bool = False, given: tuple[float, int] | None = None) -> None:
        super().__init__()
        self.whole = whole
        self.given = given is not None
        self.useful: Bounds = ALL
        self.active = True
        self.watching = False
        scale, zero = given or (1.0, 0)
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("zero_point", torch.tensor(zero, dtype=torch.int32))
        self._open: tuple[Tensor, Tensor] | None = None
        self._lows: list[Tensor] = []
        self._highs: list[Tensor] = []

    def forward(self, values: Tensor) -> Tensor:
        if self.watching and not self.given:
            self._watch(values.detach())
        if not self.active:
            return values
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(
            values, self.scale, self.zero_point, -128, 127
        )
        return rounded

    def _watch(self, values: Tensor) -> None:
        around = tuple(range(1, values.ndim))
        low, high = values.amin(around), values.amax(around)
        if self._open is not None:  # several tensors of one picture share this range
            low = torch.minimum(low, self._open[0])
            high = torch.maximum(high, self._open[1])
        self._open = low, high

    def close_batch(self) -> None:
        """All tensors of a batch have come by."""
        if self._open is not None:
            self._lows.append(self._open[0].double().cpu())
            self._highs.append(self._open[1].double().cpu())
            self._open = None

    def settle(self) -> None:
        """Take the scale from what was measured since the last time."""
        if self._lows:
            lows, highs = torch.cat(self._lows), torch.cat(self._highs)
            low = float(lows.min() if self.whole else lows.mean())
            high = float(highs.max() if self.whole else highs.mean())
            least, most = self.useful
            scale, zero = affine(max(min(low, 0.0), least), min(max(high, 0.0), most))
            self.scale.fill_(scale)
            self.zero_point.fill_(zero)
        self._lows, self._highs = [], []


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of a range that holds zero, zero exactly representable.

    `scale = (high - low) / 255`, `zero = round(-128 - low / scale)` (Jacob et al. 2018,
    arXiv:1712.05877, section 2.1).

    Raises:
        ArithmeticError: a bound is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ArithmeticError("an activation is not finite")
    width = high - low
    scale = float(np.float32(max(width / LEVELS, _SMALLEST_SCALE) if width > 0 else _EMPTY_SCALE))
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


class Rounded(nn.Module):
    """One place in the network where a tensor is rounded to a range."""

    def __init__(self, to: Range) -> None:
        super().__init__()
        self.to_range = to

    def forward(self, values: Tensor) -> Tensor:
        rounded: Tensor = self.to_range(values)
        return rounded


class RoundedSiLU(nn.Module):
    """`x sigmoid(x)` with a rounded sigmoid, as int8 has it: LOGISTIC and MUL."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Range(given=SIGMOID)

    def forward(self, values: Tensor) -> Tensor:
        gates: Tensor = self.gate(torch.sigmoid(values))
        return values * gates


class QuantizedWeights(nn.Module):
    """A convolution or linear layer that computes with rounded weights.

    The layer itself, its parameters and their names stay as they are. A batch norm behind
    it multiplies each output channel by a number, as rounding per channel allows: the
    product of the two is rounded alike before and after they are folded into one.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.active = True

    def forward(self, values: Tensor) -> Tensor:
        layer = self.layer
        weight = rounded_weights(layer.weight) if self.active else layer.weight
        if isinstance(layer, nn.Linear):
            return nn.functional.linear(values, weight, layer.bias)
        return layer._conv_forward(values, weight, layer.bias)


def rounded_weights(weight: Tensor) -> Tensor:
    """Weights `[out, ...]` on 255 steps an output channel; a channel of zeros stays zero."""
    largest = weight.detach().flatten(1).abs().amax(1)
    scale = torch.where(largest > 0, largest / WEIGHT_LIMIT, torch.ones_like(largest))
    zero = torch.zeros_like(scale, dtype=torch.int32)
    rounded: Tensor = torch.fake_quantize_per_channel_affine(
        weight, scale, zero, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT
    )
    return rounded
