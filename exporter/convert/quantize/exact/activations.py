"""Activations that stand on their own: what each of the 256 levels becomes is a table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Fused, HardSigmoid, HardSwish, Relu, Relu6, Sigmoid, Silu, Tanh
from exporter.convert.quantize.exact.elementwise import added, multiplied
from exporter.convert.quantize.exact.fixed_point import integers, to_int8
from exporter.convert.quantize.exact.writer import Steps, Writer, simulates
from exporter.convert.quantize.groups import SIGMOID, TANH
from exporter.convert.quantize.plan import Affine

_RELU6 = Affine(6.0 / 255, -128)
_INT8_MAX = 127


@simulates(Relu)
def _relu(node: Relu, to: Writer) -> Steps:
    return _zero_added(node, Fused.RELU, to)


@simulates(Relu6)
def _relu6(node: Relu6, to: Writer) -> Steps:
    return _zero_added(node, Fused.RELU6, to)


def _zero_added(node: Relu | Relu6, fused: Fused, to: Writer) -> Steps:
    """ADD of zero with a fused activation."""
    source = to.read(node)
    zero = Steps(to.constant(0.0), Affine(source.affine.scale, 0))
    return added(source, zero, 1, to.affine(node), fused, to)


@simulates(HardSwish)
def _hard_swish(node: HardSwish, to: Writer) -> Steps:
    """DEQUANTIZE, HARD_SWISH in float32 and QUANTIZE."""
    source, made = to.read(node), to.affine(node)
    return to.looked_up(source, hard_swish_table(source.affine, made), made)


@simulates(Sigmoid)
def _sigmoid(node: Sigmoid, to: Writer) -> Steps:
    """LOGISTIC to 1/256, then QUANTIZE where the plan has another scale."""
    return to.requantized(_logistic(to.read(node), to), to.affine(node))


@simulates(Tanh)
def _tanh(node: Tanh, to: Writer) -> Steps:
    """TANH to 1/128, then QUANTIZE where the plan has another scale."""
    source = to.read(node)
    made = to.looked_up(source, tanh_table(source.affine), TANH)
    return to.requantized(made, to.affine(node))


@simulates(Silu)
def _silu(node: Silu, to: Writer) -> Steps:
    """LOGISTIC and MUL."""
    source = to.read(node)
    return multiplied(source, _logistic(source, to), to.affine(node), Fused.NONE, to)


@simulates(HardSigmoid)
def _hard_sigmoid(node: HardSigmoid, to: Writer) -> Steps:
    """ADD of 3 with a fused RELU6, then MUL by 1/6."""
    shifted = added(to.read(node), _scalar(3.0, to), 1, _RELU6, Fused.RELU6, to)
    return multiplied(shifted, _scalar(1.0 / 6.0, to), to.affine(node), Fused.NONE, to)


def _scalar(value: float, to: Writer) -> Steps:
    """A positive number as the largest level."""
    return Steps(to.constant(float(_INT8_MAX)), Affine(value / _INT8_MAX, 0))


def _logistic(source: Steps, to: Writer) -> Steps:
    return to.looked_up(source, logistic_table(source.affine), SIGMOID)


def hard_swish_table(source: Affine, made: Affine) -> npt.NDArray[np.int8]:
    """What each level becomes by way of float32, rounded half to even, int8 `[256]`.

    XNNPACK multiplies by 1/6 and adds 1/2 in one operation with one rounding.
    """
    values = (integers() - source.zero_point).astype(np.float32) * np.float32(source.scale)
    sixth = np.float64(np.float32(1 / 6))
    gate = (values.astype(np.float64) * sixth + 0.5).astype(np.float32)
    result = np.clip(gate, np.float32(0), np.float32(1)) * values
    steps = np.rint(result * (np.float32(1) / np.float32(made.scale)))
    return to_int8(np.clip(steps, -512, 512).astype(np.int64) + made.zero_point)


def logistic_table(source: Affine) -> npt.NDArray[np.int8]:
    """LOGISTIC: what each level becomes at scale 1/256 and zero point -128, int8 `[256]`.

    The exponential and the quotient in float64, then float32, rounded half to even.
    """
    values = (integers() - source.zero_point).astype(np.float32) * np.float32(source.scale)
    power = np.exp(np.clip(values.astype(np.float64), -100.0, 100.0))
    share = (power / (1 + power)).astype(np.float32)
    return to_int8(np.rint(share * np.float32(256)).astype(np.int64) - 128)


def tanh_table(source: Affine) -> npt.NDArray[np.int8]:
    """TANH: what each level becomes at scale 1/128 and zero point 0, int8 `[256]`.

    The hyperbolic tangent in float32, rounded half to even.
    """
    values = (integers() - source.zero_point).astype(np.float32) * np.float32(source.scale)
    share = np.tanh(values.astype(np.float64)).astype(np.float32)
    return to_int8(np.rint(share * np.float32(128)).astype(np.int64))
