"""What the windows of an average pool hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import AveragePool


def window_counts(node: AveragePool, height: int, width: int) -> npt.NDArray[np.int64]:
    """How many pixels each window's mean is over, int64 `[1, 1, H, W]` of the output.

    Args:
        height, width: of what is pooled, without padding.
    """
    counts: list[list[int]] = []
    for axis, size in enumerate((height, width)):
        before, after = node.padding[axis], node.padding[axis + 2]
        inside = np.ones(size, np.int64)
        edge = 1 if node.include_padding else 0
        padded = np.pad(inside, (before, after), constant_values=edge)
        starts = range(0, len(padded) - node.kernel[axis] + 1, node.strides[axis])
        counts.append([int(padded[at : at + node.kernel[axis]].sum()) for at in starts])
    rows, columns = (np.array(each, np.int64) for each in counts)
    return rows[None, None, :, None] * columns
