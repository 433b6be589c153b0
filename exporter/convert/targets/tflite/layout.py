"""From the graph's NCHW to TFLite's NHWC; the only place that does it.

No operator moves data for it: shapes, axes and constants are rewritten while the
file is written, and what cannot be rewritten is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Shape

_AXES = (0, 3, 1, 2)  # where N, C, H and W go in NHWC


def shape(nchw: Shape) -> Shape:
    """The NHWC shape of an NCHW tensor; `[1, n]` stays as it is.

    Raises:
        ValueError: a rank other than 2 or 4.
    """
    if len(nchw) == 2:
        return tuple(nchw)
    if len(nchw) == 4:
        return (nchw[0], nchw[2], nchw[3], nchw[1])
    raise ValueError(f"rank {len(nchw)}: only [1, n] and [1, C, H, W] tensors are known")


def axis(nchw: int, rank: int) -> int:
    """The NHWC axis of an NCHW one, counted from the front."""
    front = nchw % rank
    return _AXES[front] if rank == 4 else front


def operand(values: npt.NDArray[Any], rank: int) -> npt.NDArray[Any]:
    """A constant that broadcasts in NCHW against `rank` axes, as one that does so in NHWC.

    Leading axes of length 1 are dropped: a value per channel becomes `[C]`.
    """
    full = values.reshape((1,) * (rank - values.ndim) + values.shape)
    if rank == 4:
        full = full.transpose(0, 2, 3, 1)
    while full.ndim > 1 and full.shape[0] == 1:
        full = full[0]
    return np.ascontiguousarray(full)


def conv_weight(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`[out, in / groups, kh, kw]` to CONV_2D's `[out, kh, kw, in / groups]`."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1))


def dense_weight(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`[out, in]`, which FULLY_CONNECTED takes as it is."""
    return np.ascontiguousarray(values)


def depthwise_weight(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`[out, 1, kh, kw]` to DEPTHWISE_CONV_2D's `[1, kh, kw, out]`."""
    return np.ascontiguousarray(values.transpose(1, 2, 3, 0))
