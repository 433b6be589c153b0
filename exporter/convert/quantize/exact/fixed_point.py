"""TFLite's fixed-point arithmetic, for the kernels that XNNPACK's delegate leaves to it.

Formulas: gemmlowp `fixedpoint.h` and TFLite `kernels/internal/quantization_util.cc`,
`reference/integer_ops`, `reference/hard_swish.h`; integers are held as int64 here and
saturate where theirs do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.convert.quantize.plan import Affine

Integers = npt.NDArray[np.int64]
_INT16 = 2**15 - 1


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

    def halved(self) -> int:
        """The factor's 16 upper bits, saturated to int16."""
        return min((self.fixed + 2**15) >> 16, _INT16)


def high_product(values: Integers, factor: int, bits: int) -> Integers:
    """`values * factor / 2^bits`, to the nearest, half up (SaturatingRoundingDoublingHighMul)."""
    return (values * factor + (1 << (bits - 1))) >> bits


def divide_by_power_of_two(values: Integers, exponent: int) -> Integers:
    """To the nearest, half away from zero (RoundingDivideByPOT)."""
    if exponent == 0:
        return values
    half = 1 << (exponent - 1)
    magnitude = (np.abs(values) + half) >> exponent
    return np.asarray(np.sign(values) * magnitude, np.int64)


def to_int8(values: Integers, low: int = -128, high: int = 127) -> npt.NDArray[np.int8]:
    """Clip to `[low, high]`, which lies within int8."""
    return np.clip(values, low, high).astype(np.int8)


def relu_table(source: Affine, made: Affine, cap: float | None) -> npt.NDArray[np.int8]:
    """RELU (`cap` None) or RELU6: what each level from -128 to 127 becomes, int8 `[256]`."""
    ratio = np.float32(source.scale) / np.float32(made.scale)
    scaled = Multiplier.of(float(ratio)).times(integers() - source.zero_point)
    high = 127
    if cap is not None:
        levels = math.floor(float(np.float32(cap) / np.float32(made.scale)) + 0.5)
        high = min(127, made.zero_point + levels)
    return to_int8(scaled + made.zero_point, made.zero_point, high)


def hard_swish_table(source: Affine, made: Affine) -> npt.NDArray[np.int8]:
    """HARD_SWISH in 16-bit fixed point: what each level becomes, int8 `[256]`."""
    fine = np.float32(source.scale) * np.float32(1 / 128)
    output = Multiplier.of(float(fine / np.float32(made.scale)))
    gate = Multiplier.of(float(fine / np.float32(3 / 32768)))
    value = (integers() - source.zero_point) << 7
    scaled = high_product(value, output.halved(), 15)
    opened = value
    if gate.shift > 0:
        opened = _int16(opened << (gate.shift - 1))
    opened = high_product(opened, gate.halved(), 15)
    if gate.shift > 0:
        opened = _int16(opened << 1)
    elif gate.shift < 0:
        opened = divide_by_power_of_two(opened, -gate.shift)
    opened = (opened + 2**15) >> 1
    product = _towards_zero(opened * scaled, 15)
    return to_int8(divide_by_power_of_two(product, -output.shift) + made.zero_point)


def _int16(values: Integers) -> Integers:
    return np.clip(values, -(2**15), _INT16)


def _towards_zero(values: Integers, bits: int) -> Integers:
    return np.asarray(np.sign(values) * (np.abs(values) >> bits), np.int64)
