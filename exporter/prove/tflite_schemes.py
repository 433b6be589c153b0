"""What the operators of a TFLite file may compute in, one rule a scheme.

The rules read the finished file only: types, scales and which tensors are constant. For
int8 they are those of the TFLite 8-bit quantization specification: weights int8,
symmetric, a scale for each output channel; bias int32; activations int8 per tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from exporter.bundle import Format
from exporter.prove.tflite_structure import WEIGHTED, Operator, Tensor, weighted

Rule = Callable[[tuple[Operator, ...]], Iterator[str]]
_ENDINGS = ("SOFTMAX", "LOGISTIC")  # float32 in every file: the contract's activation
_BETWEEN = ("QUANTIZE", "DEQUANTIZE")
# What may compute in float in an int8 file: no runtime has the first in int8, XNNPACK lacks
# the second.
_ISLANDS = ("LOCAL_RESPONSE_NORMALIZATION", "HARD_SWISH")
_SWAP_LAST = (0, 2, 1)
_INT8_BODY = {"INT8", "INT32"}


def faults(operators: tuple[Operator, ...], row: Format) -> list[str]:
    """What breaks the rules of a format; empty for a sound file."""
    return [*_stray_transposes(operators), *_RULES[row.key](operators)]


def _stray_transposes(operators: tuple[Operator, ...]) -> Iterator[str]:
    """A TRANSPOSE that is no channel shuffle: it turns one layout of pictures into another.

    A shuffle is [1, H, W, C] -> RESHAPE [H * W, g, C / g] -> TRANSPOSE (0, 2, 1) -> RESHAPE
    back: no value leaves its pixel.
    """
    producers, readers = _wires(operators)
    for operator in operators:
        if operator.kind != "TRANSPOSE":
            continue
        made = operator.outputs[0]
        before = producers.get(operator.inputs[0].name)
        after = readers.get(made.name, [])
        reshaped = [one for one in (before, *after) if one is not None and one.kind == "RESHAPE"]
        shuffles = (
            len(operator.inputs) == 2
            and operator.inputs[1].values == _SWAP_LAST
            and before is not None
            and len(after) == 1
            and len(reshaped) == 2
            and _is_pixelwise(before.inputs[0].shape, operator.inputs[0].shape)
            and before.inputs[0].shape == after[0].outputs[0].shape
        )
        if not shuffles:
            yield f"a TRANSPOSE makes {made.name}"


def _is_pixelwise(picture: tuple[int, ...], grouped: tuple[int, ...]) -> bool:
    """Whether a reshape from `[1, H, W, C]` has one row a pixel: `[H * W, g, C / g]`."""
    if len(picture) != 4 or len(grouped) != 3:
        return False
    return grouped[0] == int(np.prod(picture[:3])) and grouped[1] * grouped[2] == picture[3]


def _wires(
    operators: tuple[Operator, ...],
) -> tuple[Mapping[str, Operator], Mapping[str, list[Operator]]]:
    """Who makes each tensor and who reads it, by its name."""
    producers = {tensor.name: one for one in operators for tensor in one.outputs}
    readers: dict[str, list[Operator]] = {}
    for one in operators:
        for tensor in one.inputs:
            readers.setdefault(tensor.name, []).append(one)
    return producers, readers


def _float32(operators: tuple[Operator, ...]) -> Iterator[str]:
    for operator in operators:
        for tensor in operator.inputs:
            if tensor.constant and tensor.type in ("FLOAT16", "INT8", "UINT8"):
                yield f"{operator.kind} reads {tensor.name}, {tensor.type}, in a float32 file"


def _float16(operators: tuple[Operator, ...]) -> Iterator[str]:
    widened = _widened(operators, "FLOAT16")
    for operator, weight in weighted(operators):
        if weight.name not in widened and weight.type != "FLOAT16":
            yield f"the weights {weight.name} of a {operator.kind} are {weight.type}, not FLOAT16"


def _int8(operators: tuple[Operator, ...]) -> Iterator[str]:
    yield from _float_islands(operators)
    islands = {one.inputs[0].name for one in operators if _is_island(one)}
    exits = [
        operator
        for operator in operators
        if operator.kind == "DEQUANTIZE" and operator.outputs[0].name not in islands
    ]
    if len(exits) != 1:
        yield f"{len(exits)} DEQUANTIZE operators; one is expected, after the logits"
    for operator in operators:
        if operator.kind in (*_BETWEEN, *_ENDINGS) or _is_island(operator):
            continue
        for tensor in (*operator.inputs, *operator.outputs):
            if tensor.type not in _INT8_BODY:
                yield f"{operator.kind} computes in {tensor.type} ({tensor.name})"
    if operators and operators[-1].kind not in (*_ENDINGS, "DEQUANTIZE"):
        yield f"the file ends in {operators[-1].kind}"
    for operator, weight in weighted(operators):
        yield from _int8_layer(operator, weight)


def _is_island(operator: Operator) -> bool:
    return operator.kind in _ISLANDS and operator.inputs[0].type == "FLOAT32"


def _float_islands(operators: tuple[Operator, ...]) -> Iterator[str]:
    """What computes in float stands between a DEQUANTIZE and a QUANTIZE."""
    producers, readers = _wires(operators)
    for operator in operators:
        if not _is_island(operator):
            continue
        before = producers.get(operator.inputs[0].name)
        after = readers.get(operator.outputs[0].name, [])
        kinds = [one.kind for one in after]
        if before is None or before.kind != "DEQUANTIZE" or set(kinds) != {"QUANTIZE"}:
            yield f"{operator.kind} is not between DEQUANTIZE and QUANTIZE"


def _mixed(operators: tuple[Operator, ...]) -> Iterator[str]:
    """Each layer is int8, or float with weights in float or int8."""
    widened = _widened(operators, "INT8")
    for operator, weight in weighted(operators):
        computes = operator.inputs[0].type
        if computes == "INT8":
            yield from _int8_layer(operator, weight)
        elif computes != "FLOAT32":
            yield f"{operator.kind} computes in {computes} ({operator.outputs[0].name})"
        elif weight.type == "INT8":
            yield from _int8_weights(operator, weight)
        elif weight.name in widened:
            yield from _int8_weights(operator, widened[weight.name])


def _stored_in_int8(operators: tuple[Operator, ...]) -> Iterator[str]:
    """Float activations; every layer's weights lie in the file as int8."""
    widened = _widened(operators, "INT8")
    for operator, weight in weighted(operators):
        if operator.inputs[0].type != "FLOAT32":
            yield f"{operator.kind} computes in {operator.inputs[0].type}, not from FLOAT32"
        yield from _int8_weights(operator, widened.get(weight.name, weight))


def _int8_weights_only(operators: tuple[Operator, ...]) -> Iterator[str]:
    yield from _stored_in_int8(operators)
    for operator, weight in weighted(operators):
        if weight.type != "FLOAT32":
            yield f"{operator.kind} reads weights as {weight.type}: it would round activations"


def _int16(operators: tuple[Operator, ...]) -> Iterator[str]:
    """16-bit activations without a zero point, int8 weights, 64-bit biases."""
    widened = _widened(operators, "INT8")
    layers = 0
    for operator, weight in weighted(operators):
        source = operator.inputs[0]
        yield from _int8_weights(operator, widened.get(weight.name, weight))
        if source.type == "FLOAT32":
            continue
        layers += 1
        if source.type != "INT16" or any(source.zero_points):
            yield f"{operator.kind} reads {source.name}: {source.type}, {source.zero_points}"
        for bias in operator.inputs[2:]:
            if bias.type != "INT64":
                yield f"the bias {bias.name} of a {operator.kind} is {bias.type}, not INT64"
    if not layers:
        yield "no layer computes in int16"


def _widened(operators: tuple[Operator, ...], stored: str) -> Mapping[str, Tensor]:
    """Constants that a DEQUANTIZE turns into float, by the name of what it makes."""
    return {
        operator.outputs[0].name: operator.inputs[0]
        for operator in operators
        if operator.kind == "DEQUANTIZE"
        and operator.inputs[0].constant
        and operator.inputs[0].type == stored
    }


def _int8_layer(operator: Operator, weight: Tensor) -> Iterator[str]:
    yield from _int8_weights(operator, weight)
    for bias in operator.inputs[2:]:
        if bias.type != "INT32":
            yield f"the bias {bias.name} of a {operator.kind} is {bias.type}, not INT32"


def _int8_weights(operator: Operator, weight: Tensor) -> Iterator[str]:
    axis = WEIGHTED[operator.kind]
    where = f"the weights {weight.name} of a {operator.kind}"
    if not weight.constant or weight.type != "INT8":
        yield f"{where} are {weight.type}, not constant INT8"
        return
    channels = weight.shape[axis]
    if len(weight.scales) != channels or (channels > 1 and weight.axis != axis):
        yield f"{where} have {len(weight.scales)} scale(s) for {channels} output channels"
    if any(weight.zero_points):
        yield f"{where} are not symmetric"
    if not all(np.isfinite(weight.scales)) or min(weight.scales, default=0) <= 0:
        yield f"{where} have a scale that is not positive"


SOUND: Mapping[str, str] = {  # what a file that breaks none of its rules is, in words
    "tflite-float32": "every constant float32",
    "tflite-float16": "every weight float16",
    "tflite-int8": "int8 from QUANTIZE to DEQUANTIZE, weights per channel",
    "tflite-mixed": "each layer int8 or float, int8 weights per channel",
    "tflite-dynamic": "float activations, every weight int8 per channel",
    "tflite-int8-weights": "float arithmetic, every weight int8 per channel",
    "tflite-int16": "int16 activations, every weight int8 per channel",
}
_RULES: Mapping[str, Rule] = {
    "tflite-float32": _float32,
    "tflite-float16": _float16,
    "tflite-int8": _int8,
    "tflite-mixed": _mixed,
    "tflite-dynamic": _stored_in_int8,
    "tflite-int8-weights": _int8_weights_only,
    "tflite-int16": _int16,
}
