"""Restate functions that torch's exporter would write out in operators that no target has.

torch.onnx gathers single pixels for an adaptive pooling whose output does not divide its
input, and writes a local response normalization as a 3-D pooling of a fifth axis. Both have
a plainer form: the first in slices and poolings, since all sizes are fixed, the second as
ONNX's own operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_LRN_SINCE = 13  # the opset that last changed ONNX's LRN
Size = int | None | Sequence[int | None]


@contextmanager
def restated() -> Iterator[None]:
    """Within it, three functions of `torch.nn.functional` take the plainer forms.

    Those are adaptive_avg_pool2d (but for the mean over the whole picture),
    adaptive_max_pool2d without indices, and local_response_norm of an odd size (ONNX centres
    the window of an even one otherwise). torch's modules call them by these names, and so do
    networks that have no module for them. Results are the same, but a local response
    normalization can only be traced within it, not run. For one thread at a time.
    """
    with ExitStack() as undo:
        for name, stand_in in _STAND_INS.items():
            usual = getattr(functional, name)
            undo.callback(setattr, functional, name, usual)
            setattr(functional, name, stand_in(usual))
        yield


def windows(size: int, wanted: int) -> list[tuple[int, int]]:
    """Where each of `wanted` adaptive windows over `size` pixels starts and stops.

    As torch has them: window i is `floor(i * size / wanted)` to `ceil((i + 1) * size / wanted)`.
    """
    return [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]


def _average(usual: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adaptive_avg_pool2d(input: Tensor, output_size: Size) -> Tensor:
        if _both(output_size) == [1, 1]:
            return usual(input, output_size)
        return _fixed_pool(input, output_size, functional.avg_pool2d)

    return adaptive_avg_pool2d


def _maximum(usual: Callable[..., Any]) -> Callable[..., Any]:
    def adaptive_max_pool2d(input: Tensor, output_size: Size, return_indices: bool = False) -> Any:
        if return_indices:
            return usual(input, output_size, return_indices)
        return _fixed_pool(input, output_size, functional.max_pool2d)

    return adaptive_max_pool2d


def _local_response(usual: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def local_response_norm(
        input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> Tensor:
        if size % 2 == 0:
            return usual(input, size, alpha, beta, k)
        attributes: dict[str, Any] = {
            "size": size,
            "alpha": float(alpha),
            "beta": float(beta),
            "bias": float(k),
        }
        return torch.onnx.ops.symbolic(
            "LRN", [input], attributes, dtype=input.dtype, shape=input.shape, version=_LRN_SINCE
        )

    return local_response_norm


_STAND_INS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "adaptive_avg_pool2d": _average,
    "adaptive_max_pool2d": _maximum,
    "local_response_norm": _local_response,
}


def _both(wanted: Size) -> list[int | None]:
    return [wanted, wanted] if wanted is None or isinstance(wanted, int) else list(wanted)


def _fixed_pool(values: Tensor, wanted: Size, pool: Callable[..., Tensor]) -> Tensor:
    """Adaptive pooling of pictures of a known size: `[..., H, W]` to `[..., h, w]`.

    A window is a rectangle, so rows can be pooled first and columns after them.
    """
    size = [int(length) for length in values.shape[-2:]]
    made = [b if a is None else a for a, b in zip(_both(wanted), size, strict=True)]
    if made == size:
        return values
    if not any(a % b for a, b in zip(size, made, strict=True)):
        kernel = [a // b for a, b in zip(size, made, strict=True)]
        return pool(values, kernel, kernel)
    return _along(_along(values, -2, made[0], pool), -1, made[1], pool)


def _along(values: Tensor, axis: int, wanted: int, pool: Callable[..., Tensor]) -> Tensor:
    size = int(values.shape[axis])
    if size == wanted:
        return values
    parts: dict[tuple[int, int], Tensor] = {}
    spans = windows(size, wanted)
    for start, stop in dict.fromkeys(spans):
        part = values.narrow(axis, start, stop - start)
        if stop - start > 1:
            part = pool(part, (stop - start, 1) if axis == -2 else (1, stop - start))
        parts[start, stop] = part
    return torch.cat([parts[span] for span in spans], axis)
