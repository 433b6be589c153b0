"""Sums, differences and products.

XNNPACK's `qs8-vadd` multiplies both operands by whole factors of up to 21 bits, adds, and
shifts right with one rounding, half up; `qs8-vmul` multiplies the product of both by a
float32 and rounds half to even.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from exporter.convert.graph import Add, Fused, GraphError, Mul, Sub
from exporter.convert.quantize.exact.writer import Steps, Writer, simulates
from exporter.convert.quantize.plan import Affine

_FACTOR_BITS = 20
_COARSEST = 256.0  # steps of the result in one of an operand; beyond it LiteRT's sums wrap


@simulates(Add)
def _add(node: Add, to: Writer) -> Steps:
    return added(to.read(node, 0), to.read(node, 1), 1, to.affine(node), node.fused, to)


@simulates(Sub)
def _sub(node: Sub, to: Writer) -> Steps:
    return added(to.read(node, 0), to.read(node, 1), -1, to.affine(node), node.fused, to)


@simulates(Mul)
def _mul(node: Mul, to: Writer) -> Steps:
    return multiplied(to.read(node, 0), to.read(node, 1), to.affine(node), node.fused, to)


def added(one: Steps, other: Steps, sign: int, made: Affine, fused: Fused, to: Writer) -> Steps:
    """`one + sign * other`."""
    first = np.float32(one.affine.scale) / np.float32(made.scale)
    second = np.float32(other.affine.scale) / np.float32(made.scale)
    if sign > 0:
        _check(max(first, second))
    shift = _FACTOR_BITS - (math.frexp(float(max(first, second)))[1] - 1)
    factors = [int(np.rint(math.ldexp(float(each), shift))) for each in (first, second)]
    total = to.constant(2.0 ** (shift - 1), np.float64)
    for operand, factor in zip((one, other), (factors[0], sign * factors[1]), strict=True):
        wide = to.cast(operand.name, TensorProto.DOUBLE)
        total = to.op("Add", [total, to.op("Mul", [wide, to.constant(factor, np.float64)])])
    scaled = to.op("Mul", [total, to.constant(2.0**-shift, np.float64)])
    whole = to.cast(to.op("Floor", [scaled]), TensorProto.FLOAT)
    return to.rounded(whole, made, fused)


def multiplied(one: Steps, other: Steps, made: Affine, fused: Fused, to: Writer) -> Steps:
    """`one * other`."""
    factor = np.float32(one.affine.scale) * np.float32(other.affine.scale) / np.float32(made.scale)
    _check(factor)
    product = to.op("Mul", [one.name, other.name])
    return to.rounded(to.op("Mul", [product, to.constant(factor)]), made, fused)


def _check(ratio: np.float32) -> None:
    if ratio >= _COARSEST:
        raise GraphError(
            f"one step of an operand is {ratio:.3g} steps of the result: XNNPACK leaves such a "
            "sum or product to a kernel that overflows"
        )
