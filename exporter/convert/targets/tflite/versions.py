"""Which version of each TFLite operator a file needs, and which runtime first had it.

An operator's version says what its kernel must understand; a runtime refuses a
file with a version above its own. So the lowest that holds is written. The rules
are those of TensorFlow's `lite/tools/versioning/op_version.cc`, the runtimes
those of `runtime_version.cc` beside it, for the operators that this exporter
writes; anything else raises `KeyError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ai_edge_litert.schema_py_generated import BuiltinOperator as Op
from ai_edge_litert.schema_py_generated import TensorType

METADATA_KEY = "min_runtime_version"
METADATA_BYTES = 16


@dataclass(frozen=True)
class Signature:
    """What the version of an operator depends on.

    Attributes:
        kind: a member of the schema's BuiltinOperator.
        inputs: the TensorType of each input.
        output: that of the output.
        grouped: a convolution whose filter sees only a part of the input channels.
        dilated: a convolution with a dilation other than 1.
        per_channel: its weights, or what it dequantizes, have more than one scale.
        rescale: for MUL, input scale * input scale / output scale; 0 where not quantized.
    """

    kind: int
    inputs: tuple[int, ...]
    output: int = TensorType.FLOAT32
    grouped: bool = False
    dilated: bool = False
    per_channel: bool = False
    rescale: float = 0.0


_INT8_IS_2 = frozenset(
    (Op.ADD, Op.SUB, Op.MUL, Op.MAX_POOL_2D, Op.AVERAGE_POOL_2D, Op.PAD, Op.PADV2,
     Op.CONCATENATION, Op.SOFTMAX, Op.MEAN, Op.RELU6, Op.RELU, Op.LOGISTIC, Op.DEQUANTIZE,
     Op.SLICE, Op.TANH, Op.TRANSPOSE)
)  # fmt: skip
_INT16_IS_3 = frozenset(
    (Op.ADD, Op.MAX_POOL_2D, Op.AVERAGE_POOL_2D, Op.PAD, Op.MEAN, Op.RELU6, Op.RELU)
)
_ALWAYS_1 = frozenset((Op.RESHAPE, Op.HARD_SWISH, Op.LOCAL_RESPONSE_NORMALIZATION))
_WEIGHTED = {  # version by what is read: float32, int8, int16, float32 with int8 weights
    Op.CONV_2D: (1, 3, 4, 5),
    Op.DEPTHWISE_CONV_2D: (1, 3, 5, 6),
    Op.FULLY_CONNECTED: (1, 4, 7, 12),
}

_PER_CHANNEL_DENSE = "2.12.0"
_FIRST_RUNTIME: dict[int, tuple[str, ...]] = {  # by version, from 1
    Op.ADD: ("1.5.0", "1.14.0", "2.4.0"),
    Op.AVERAGE_POOL_2D: ("1.5.0", "1.14.0", "2.3.0"),
    Op.CONCATENATION: ("1.5.0", "1.14.0"),
    Op.CONV_2D: ("1.5.0", "1.14.0", "1.14.0", "2.3.0", "2.4.0", "2.9.0"),
    Op.DEPTHWISE_CONV_2D: ("1.5.0", "1.12.0", "1.14.0", "2.2.0", "2.3.0", "2.3.0"),
    Op.DEQUANTIZE: ("1.13.1", "1.14.0", "1.15.0", "2.2.0", "2.7.0"),
    Op.FULLY_CONNECTED: ("1.5.0", "1.10.0", "1.14.0", "1.14.0", "2.0.0", "2.1.0", "2.3.0",
                         "2.3.0", "2.3.0", "2.11.0", "2.13.0", "2.17.0"),
    Op.HARD_SWISH: ("1.15.0",),
    Op.LOCAL_RESPONSE_NORMALIZATION: ("1.5.0",),
    Op.LOGISTIC: ("1.14.0", "1.14.0"),
    Op.MAX_POOL_2D: ("1.5.0", "1.14.0", "2.3.0"),
    Op.MEAN: ("1.6.0", "1.14.0", "2.4.0"),
    Op.MUL: ("1.5.0", "1.14.0", "1.15.0"),
    Op.PAD: ("1.5.0", "1.14.0", "2.4.0"),
    Op.PADV2: ("1.9.0", "1.14.0"),
    Op.QUANTIZE: ("1.14.0", "1.15.0"),
    Op.RELU: ("1.5.0", "2.1.0", "2.5.0"),
    Op.RELU6: ("1.5.0", "1.14.0", "2.5.0"),
    Op.RESHAPE: ("1.5.0",),
    Op.SLICE: ("1.14.0", "1.14.0"),
    Op.SOFTMAX: ("1.5.0", "1.14.0"),
    Op.SUB: ("1.6.0", "1.14.0"),
    Op.TANH: ("1.14.0", "1.14.0"),
    Op.TRANSPOSE: ("1.6.0", "1.14.0"),
}  # fmt: skip


def operator_version(signature: Signature) -> int:
    """The lowest version of one operator that holds for these inputs.

    Raises:
        KeyError: an operator that this exporter does not write.
    """
    kind, source = signature.kind, signature.inputs[0]
    if kind in _WEIGHTED:
        return _weighted_version(signature)
    if kind == Op.MUL and signature.rescale >= 1.0:
        return 3
    if kind == Op.QUANTIZE:
        return 2 if signature.output == TensorType.INT16 else 1
    if kind == Op.DEQUANTIZE:
        if source in (TensorType.FLOAT16, TensorType.INT16):
            return 3
        if signature.per_channel:
            return 5
    if source == TensorType.INT16 and kind in _INT16_IS_3:
        return 3
    if kind in _INT8_IS_2 and source != TensorType.INT16:
        return 2 if source == TensorType.INT8 else 1
    if kind in _ALWAYS_1:
        return 1
    raise KeyError(kind)


def _weighted_version(signature: Signature) -> int:
    kind, source = signature.kind, signature.inputs[0]
    if kind == Op.CONV_2D and signature.grouped:
        return 6
    plain, int8, int16, hybrid = _WEIGHTED[kind]
    if source == TensorType.INT16:
        return int16
    if source == TensorType.INT8:
        return int8
    if TensorType.INT8 in signature.inputs[1:]:
        return hybrid
    if kind == Op.DEPTHWISE_CONV_2D and signature.dilated:
        return 2
    return plain


def first_runtime(signature: Signature) -> str:
    """The first TensorFlow Lite release that computes this operator right.

    That is the release of its version, but for one operator whose version does not
    tell: FULLY_CONNECTED with a scale per channel has the version of one scale, and
    an old kernel would read the first scale for all. 2.12.0 is the oldest release
    that this exporter's files were run with and found right.
    """
    int8 = signature.inputs[0] == TensorType.INT8
    if signature.kind == Op.FULLY_CONNECTED and signature.per_channel and int8:
        return _PER_CHANNEL_DENSE
    return _FIRST_RUNTIME[signature.kind][operator_version(signature) - 1]


def highest(releases: Iterable[str]) -> str:
    """The latest of some releases, compared number by number ('1.5.0' if there are none)."""
    return max(releases, key=_numbers, default="1.5.0")


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
