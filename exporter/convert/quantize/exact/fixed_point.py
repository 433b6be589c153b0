"""TFLite's fixed-point arithmetic, for the kernels that XNNPACK's delegate leaves to it.

Formulas: gemmlowp `fixedpoint.h` and TFLite `kernels/internal/quantization_util.cc`,
`reference/integer_ops`; integers are held as int64 here and
saturate where theirs do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def integers() -> Integers:
    """Every int8 level from -128 to 127, int64 `[256]`."""
    return np.arange(-128, 128, dtype=np.int64)


@dataclass(frozen=True)
class Multiplier:
    """A real factor as `fixed * 2^(shift - 31)`, fixed in [2^30, 2^31)."""

    fixed: int
    shift: int

    @classmethod
    def of(cls, factor: float) -> Multiplier:
        """`QuantizeMultiplier`: 31 bits, half away from zero; too small ones become 0."""
        mantissa, shift = math.frexp(factor)
        fixed = math.floor(mantissa * 2.0**31 + 0.5)
        if fixed == 2**31:
            fixed, shift = fixed // 2, shift + 1
        return cls(0, 0) if shift < -31 else cls(fixed, shift)

    def times(self, values: Integers) -> Integers:
        """`MultiplyByQuantizedMultiplier` as built for x86: it rounds twice, half up."""
        left, right = max(self.shift, 0), max(-self.shift, 0)
        product = high_product(values << left, self.fixed, 31)
        return product if not right else (product + (1 << (right - 1))) >> right


def high_product(values: Integers, factor: int, bits: int) -> Integers:
    """`values * factor / 2^bits`, to the nearest, half up (SaturatingRoundingDoublingHighMul)."""
    return (values * factor + (1 << (bits - 1))) >> bits


def to_int8(values: Integers, low: int = -128, high: int = 127) -> npt.NDArray[np.int8]:
    """Clip to `[low, high]`, which lies within int8."""
    return np.clip(values, low, high).astype(np.int8)
