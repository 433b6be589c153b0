"""Restate modules that torch's exporter would write out in operators that no target has.

torch.onnx gathers single pixels for an adaptive pooling whose output does not divide its
input, and writes a local response normalization as a 3-D pooling of a fifth axis. Both have
a plainer form: the first in slices and poolings, since all sizes are fixed, the second as
ONNX's own operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_LRN_SINCE = 13  # the opset that last changed ONNX's LRN
Size = tuple[int | None, int | None]


def restate(module: nn.Module) -> None:
    """Replace such modules within another one, in place, each by one with the same results.

    Those are AdaptiveAvgPool2d (but for the mean over the whole picture), AdaptiveMaxPool2d
    and LocalResponseNorm, without hooks.
    LocalResponseNorm's stand-in can only be traced, not run; one of an even size stays, as
    ONNX centres its window otherwise.
    """
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            other = None if child is None else _restated(child)
            if other is not None:
                setattr(parent, name, other)


def _restated(part: nn.Module) -> nn.Module | None:
    if part._forward_hooks or part._forward_pre_hooks:
        return None
    if type(part) is nn.AdaptiveAvgPool2d and part.output_size not in (1, (1, 1)):
        return _FixedPool(part.output_size, functional.avg_pool2d)
    if type(part) is nn.AdaptiveMaxPool2d and not part.return_indices:
        return _FixedPool(part.output_size, functional.max_pool2d)
    if type(part) is nn.LocalResponseNorm and part.size % 2 == 1:
        return _LocalResponseNorm(part)
    return None


def windows(size: int, wanted: int) -> list[tuple[int, int]]:
    """Where each of `wanted` adaptive windows over `size` pixels starts and stops.

    As torch has them: window i is `floor(i * size / wanted)` to `ceil((i + 1) * size / wanted)`.
    """
    return [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]


class _FixedPool(nn.Module):
    """Adaptive pooling of pictures of a known size: `[..., H, W]` to `[..., h, w]`.

    A window is a rectangle, so rows can be pooled first and columns after them.
    """

    def __init__(self, wanted: int | Size | None, pool: Callable[..., Tensor]) -> None:
        super().__init__()
        self.wanted: Size = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        self.pool = pool

    def forward(self, values: Tensor) -> Tensor:
        size = [int(length) for length in values.shape[-2:]]
        made = [b if a is None else a for a, b in zip(self.wanted, size, strict=True)]
        if made == size:
            return values
        if not any(a % b for a, b in zip(size, made, strict=True)):
            kernel = [a // b for a, b in zip(size, made, strict=True)]
            return self.pool(values, kernel, kernel)
        return self._along(self._along(values, -2, made[0]), -1, made[1])

    def _along(self, values: Tensor, axis: int, wanted: int) -> Tensor:
        size = int(values.shape[axis])
        if size == wanted:
            return values
        parts: dict[tuple[int, int], Tensor] = {}
        spans = windows(size, wanted)
        for start, stop in dict.fromkeys(spans):
            part = values.narrow(axis, start, stop - start)
            if stop - start > 1:
                part = self.pool(part, (stop - start, 1) if axis == -2 else (1, stop - start))
            parts[start, stop] = part
        return torch.cat([parts[span] for span in spans], axis)


class _LocalResponseNorm(nn.Module):
    """ONNX's LRN, which is torch's local response normalization where the size is odd."""

    def __init__(self, norm: nn.LocalResponseNorm) -> None:
        super().__init__()
        self.attributes: dict[str, Any] = {
            "size": norm.size,
            "alpha": float(norm.alpha),
            "beta": float(norm.beta),
            "bias": float(norm.k),
        }

    def forward(self, values: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            "LRN",
            [values],
            self.attributes,
            dtype=values.dtype,
            shape=values.shape,
            version=_LRN_SINCE,
        )
