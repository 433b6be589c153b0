"""Activations that stand on their own; those fused into a node are in its options."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.convert.graph import (
    HardSigmoid,
    HardSwish,
    LocalResponseNorm,
    Node,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Softmax,
    Tanh,
)
from exporter.convert.quantize.plan import Affine
from exporter.convert.targets.tflite.lowering import Lowering, Op, Value, lowers

# The TFLite 8-bit quantization specification fixes what int8 LOGISTIC and TANH give.
LOGISTIC_OUTPUT = Affine(1.0 / 256, -128)
TANH_OUTPUT = Affine(1.0 / 128, 0)
_RELU6_OUTPUT = Affine(6.0 / 255, -128)
_INT8_MAX = 127
_COARSEST = 256.0  # steps of a sum in one of an operand; beyond it XNNPACK leaves ADD alone


@lowers(Relu)
def _relu(node: Relu, to: Lowering) -> None:
    """RELU; in int8, where XNNPACK has none, see `_zero_added`."""
    _zero_added(node, Op.RELU, schema.ActivationFunctionType.RELU, to)


@lowers(Relu6)
def _relu6(node: Relu6, to: Lowering) -> None:
    """RELU6; in int8, where XNNPACK has none, see `_zero_added`."""
    _zero_added(node, Op.RELU6, schema.ActivationFunctionType.RELU6, to)


def _zero_added(node: Relu | Relu6, kind: int, activation: int, to: Lowering) -> None:
    """In int8 ADD of zero with a fused activation: XNNPACK takes it, and it has 20 bits.

    The operator itself in float, in int16, and where ADD's sums could wrap.
    """
    source, wanted = to.read(node), to.affine(node.output)
    narrow = source.affine and wanted and source.affine.scale < _COARSEST * wanted.scale
    if source.affine is None or to.is_int16 or not narrow:
        to.op(kind, [source], to.make(node, non_negative=True))
        return
    options = schema.AddOptionsT()
    options.fusedActivationFunction = activation
    zero = to.int8_constant(
        f"{node.name}/zero", np.zeros(1, np.int8), Affine(source.affine.scale, 0)
    )
    to.op(Op.ADD, [source, zero], to.make(node, non_negative=True), options)


@lowers(HardSwish)
def _hard_swish(node: HardSwish, to: Lowering) -> None:
    """HARD_SWISH; an int8 one computes in float, between DEQUANTIZE and QUANTIZE.

    XNNPACK takes these three and leaves int8 HARD_SWISH alone, which cuts the graph in
    many parts; nor is any form in integers faster, and none is exact
    (docs/quantization.md).
    """
    if to.affine(node.output) is None:
        to.op(Op.HARD_SWISH, [to.read(node)], to.make(node))
        return
    source = to.read_float(node)
    result = to.temporary(f"{node.output}/real", source.shape, None)
    to.op(Op.HARD_SWISH, [source], result)
    to.op(Op.QUANTIZE, [result], to.make(node))


@lowers(Sigmoid)
def _sigmoid(node: Sigmoid, to: Lowering) -> None:
    """LOGISTIC; in int8 a QUANTIZE follows where the plan wants another scale."""
    source = to.read(node)
    wanted = to.affine(node.output)
    if wanted is None or wanted == LOGISTIC_OUTPUT:
        to.op(Op.LOGISTIC, [source], to.make(node, non_negative=True))
        return
    gate = to.temporary(f"{node.output}/logistic", source.shape, LOGISTIC_OUTPUT)
    to.op(Op.LOGISTIC, [source], gate)
    to.op(Op.QUANTIZE, [gate], to.make(node, non_negative=True))


@lowers(Tanh)
def _tanh(node: Tanh, to: Lowering) -> None:
    """TANH; in int8 a QUANTIZE follows where the plan wants another scale."""
    source = to.read(node)
    wanted = to.affine(node.output)
    if wanted is None or wanted == TANH_OUTPUT:
        to.op(Op.TANH, [source], to.make(node))
        return
    made = to.temporary(f"{node.output}/tanh", source.shape, TANH_OUTPUT)
    to.op(Op.TANH, [source], made)
    to.op(Op.QUANTIZE, [made], to.make(node))


@lowers(LocalResponseNorm)
def _local_response_norm(node: LocalResponseNorm, to: Lowering) -> None:
    """LOCAL_RESPONSE_NORMALIZATION, which no runtime has in int8: it computes in float32.

    Its window reaches `radius` channels to either side and its alpha is not divided by
    the window's size.
    """
    source = to.read_float(node)
    options = schema.LocalResponseNormalizationOptionsT()
    options.radius = node.size // 2
    options.bias, options.beta = node.bias, node.beta
    options.alpha = node.alpha / node.size
    if to.affine(node.output) is None:
        to.op(Op.LOCAL_RESPONSE_NORMALIZATION, [source], to.make(node), options)
        return
    made = to.temporary(f"{node.output}/normalized", source.shape, None)
    to.op(Op.LOCAL_RESPONSE_NORMALIZATION, [source], made, options)
    to.op(Op.QUANTIZE, [made], to.make(node))


@lowers(Silu)
def _silu(node: Silu, to: Lowering) -> None:
    """LOGISTIC and MUL, as tf.nn.silu becomes."""
    source = to.read(node)
    affine = None if source.affine is None else LOGISTIC_OUTPUT
    gate = to.temporary(f"{node.output}/gate", source.shape, affine)
    to.op(Op.LOGISTIC, [source], gate)
    to.op(Op.MUL, [source, gate], to.make(node), schema.MulOptionsT())


@lowers(HardSigmoid)
def _hard_sigmoid(node: HardSigmoid, to: Lowering) -> None:
    """relu6(x + 3) * (1 / 6): ADD with a fused RELU6, then MUL."""
    source = to.read(node)
    affine = None if source.affine is None else _RELU6_OUTPUT
    shifted = to.temporary(f"{node.output}/shifted", source.shape, affine)
    options = schema.AddOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    to.op(Op.ADD, [source, _scalar(node, "three", 3.0, source, to)], shifted, options)
    sixth = _scalar(node, "sixth", 1.0 / 6.0, source, to)
    to.op(Op.MUL, [shifted, sixth], to.make(node, non_negative=True), schema.MulOptionsT())


def _scalar(node: Node, name: str, value: float, like: Value, to: Lowering) -> Value:
    """A positive number; in int8 the largest level stands for it."""
    title = f"{node.name}/{name}"
    if like.affine is None:
        return to.floats(title, np.array([value], np.float32))
    level = np.array([_INT8_MAX], np.int8)
    return to.int8_constant(title, level, Affine(value / _INT8_MAX, 0))


@lowers(Softmax)
def _softmax(node: Softmax, to: Lowering) -> None:
    """SOFTMAX; it ends the model and stays in float, the plan covers no more than logits."""
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    to.op(Op.SOFTMAX, [to.read(node)], to.make(node, non_negative=True), options)
