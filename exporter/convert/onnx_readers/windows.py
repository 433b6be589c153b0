"""Sliding windows: strides, paddings and dilations as ONNX writes them."""

from __future__ import annotations

from typing import Any

from exporter.convert.graph import Padding, Pair
from exporter.convert.onnx_readers.registry import Unsupported


def pair(given: Any, what: str, default: int = 1) -> Pair:
    """Two positive whole numbers, for height and width.

    Raises:
        Unsupported: there are not two (a 1-D or 3-D operator).
    """
    values = [default, default] if given is None else [int(v) for v in given]
    if len(values) != 2:
        raise Unsupported(f"its {what} has {len(values)} axes, only 2-D operators are known")
    return (values[0], values[1])


def padding(
    given: dict[str, Any], size: Pair, kernel: Pair, strides: Pair, dilations: Pair
) -> Padding:
    """Top, left, bottom, right; `auto_pad` worked out (ONNX operators, Conv).

    SAME gives `ceil(size / stride)` outputs; the odd one goes to the bottom and right
    with SAME_UPPER, to the top and left with SAME_LOWER.
    """
    rule = given.get("auto_pad", "NOTSET")
    if rule == "NOTSET":
        top, left, bottom, right = [int(v) for v in given.get("pads", (0, 0, 0, 0))]
        if min(top, left, bottom, right) < 0:
            raise Unsupported("its padding is negative")
        return (top, left, bottom, right)
    if rule == "VALID":
        return (0, 0, 0, 0)
    if rule not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"its auto_pad is {rule!r}")
    before, after = [], []
    for axis in range(2):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        outputs = -(-size[axis] // strides[axis])
        total = max((outputs - 1) * strides[axis] + reach - size[axis], 0)
        small = total // 2
        before.append(small if rule == "SAME_UPPER" else total - small)
        after.append(total - small if rule == "SAME_UPPER" else small)
    return (before[0], before[1], after[0], after[1])


def outputs(size: Pair, kernel: Pair, strides: Pair, pads: Padding) -> Pair:
    """How many windows fit, rounded down."""
    height = (size[0] + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
    width = (size[1] + pads[1] + pads[3] - kernel[1]) // strides[1] + 1
    return (height, width)


def extended(size: Pair, wanted: Pair, kernel: Pair, strides: Pair, pads: Padding) -> Padding:
    """`pads` with so much more at the bottom and right that `wanted` windows fit."""
    bottom = max(pads[2], (wanted[0] - 1) * strides[0] + kernel[0] - size[0] - pads[0])
    right = max(pads[3], (wanted[1] - 1) * strides[1] + kernel[1] - size[1] - pads[1])
    return (pads[0], pads[1], bottom, right)
