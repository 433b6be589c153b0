"""Rounding that gradients pass through: straight-through estimators (Bengio et al. 2013).

The scales learn as in LSQ (Esser et al. 2020, equation 3), the zero points as in LSQ+
(Bhalgat et al. 2020, section 3.2). With c = clip(round(x / s), -128 - z, 127 - z) and y = s c:

    dy/dx = 1 inside, 0 where clipped
    dy/ds = c - x / s inside, c where clipped
    dy/dz = 0 inside, -s where clipped
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LOWEST, HIGHEST = -128, 127
_LIMIT = 127.0


class RoundActivation(torch.autograd.Function):
    """`y = s * (clip(round(x / s) + z, -128, 127) - z)`; the simulator's arithmetic.

    Args (of `apply`):
        values: float32, any shape.
        scale: float32, one number.
        zero_point: float32, one whole number.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        low, high = LOWEST - float(zero_point), HIGHEST - float(zero_point)
        result = (values / scale).round_().clamp_(low, high).mul_(scale)
        ctx.save_for_backward(values, result, scale)
        step = float(scale)
        ctx.bounds = ((low - 0.5) * step, (high + 0.5) * step)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
        values, result, scale = ctx.saved_tensors
        (above,) = gradients
        below = torch.ops.aten.hardtanh_backward(above, values, *ctx.bounds)
        by_scale = by_zero = None
        if ctx.needs_input_grad[1]:
            by_scale = (_dot(above, result) - _dot(below, values)) / scale
        if ctx.needs_input_grad[2]:
            by_zero = -scale * (above.sum() - below.sum())
        return below, by_scale, by_zero


class RoundWeight(torch.autograd.Function):
    """Weights in steps to the nearest whole number in [-127, 127]; the gradient as it is."""

    @staticmethod
    def forward(ctx: Any, steps: Tensor) -> Tensor:
        return steps.round().clamp_(-_LIMIT, _LIMIT)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return torch.dot(_flat(one), _flat(other))


def _flat(values: Tensor) -> Tensor:
    """All numbers in one order, that of channels-last pictures, mostly without a copy."""
    return (values.permute(0, 2, 3, 1) if values.dim() == 4 else values).reshape(-1)
