"""A network whose activations are rounded: PyTorch's numbers, Core ML's on a Mac, and damage."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.prove.runtimes.coreml import CoreMLFileError, CoreMLRuntime
from exporter.prove.runtimes.coreml.package import read_model_file
from models.contract import Contract, Label, Preprocessing
from support.coreml_files import convert, draw_images, edit, needs_coremltools, operations

pytestmark = needs_coremltools
SIZE = (6, 8)
FLOAT16, INT8, INT32 = 10, 21, 23  # DataType in coremltools' MIL.proto
LABELS = tuple(f"species {i}" for i in range(5))
CONTRACT = Contract(tuple(map(Label, LABELS)), Preprocessing(*SIZE, max(SIZE)))
SCALES = {"image": (1 / 64, 100), "conv": (0.02, 0), "sum": (0.03, 90), "logits": (0.04, 128)}


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    shapes = {"conv": (4, 3, 3, 3), "point": (4, 4, 1, 1), "head": (5, 4)}
    drawn = {
        name: (random.normal(0, 1.2, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    return drawn | {"conv_bias": random.normal(0.3, 0.3, 4).astype(np.float32), "spread": 3.0}


def network(x: Any, mb: Any) -> Any:
    """Conv with ReLU6, a sum of two branches, a classifier; a pair after each."""
    w = weights()

    def pair(x: Any, name: str) -> Any:
        scale, zero = SCALES[name]
        given: dict[str, Any] = {"scale": np.float32(scale)}
        if zero:
            given["zero_point"] = np.uint8(zero)
        made = mb.quantize(input=x, output_dtype="uint8", name=f"{name}_quantized", **given)
        return mb.dequantize(input=made, name=f"{name}_dequantized", **given)

    x = mb.mul(x=mb.sub(x=x, y=np.float32(120)), y=np.float32(1 / 60))
    x = pair(x, "image")
    x = mb.conv(x=x, weight=w["conv"], bias=w["conv_bias"], pad_type="same")
    x = pair(mb.relu6(x=x), "conv")
    x = pair(mb.add(x=x, y=mb.conv(x=x, weight=w["point"], pad_type="valid")), "sum")
    x = mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False)
    x = pair(mb.mul(x=mb.linear(x=x, weight=w["head"]), y=np.float32(w["spread"])), "logits")
    return mb.softmax(x=x, axis=-1, name="probabilities")


def by_torch(pixels: np.ndarray) -> np.ndarray:
    """The same with PyTorch's fake quantization."""
    import torch
    from torch.nn import functional

    w = {name: torch.from_numpy(np.asarray(value)) for name, value in weights().items()}

    def pair(x: Any, name: str) -> Any:
        return torch.fake_quantize_per_tensor_affine(x, *SCALES[name], 0, 255)

    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    x = pair((x - 120) * np.float32(1 / 60), "image")
    x = pair(functional.relu6(functional.conv2d(x, w["conv"], w["conv_bias"], padding=1)), "conv")
    x = pair(x + functional.conv2d(x, w["point"]), "sum").mean((2, 3))
    x = pair((x @ w["head"].T) * w["spread"].float(), "logits")
    return torch.softmax(x, -1).numpy()


@dataclass(frozen=True)
class Made:
    path: Path
    pixels: np.ndarray
    expected: np.ndarray


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("w8a8") / "m.mlpackage"
    convert(network, path, target="iOS17", size=SIZE, labels=list(LABELS))
    edited = edit(path, path.parent / "contract", store_contract)
    pixels = draw_images(6, 3, max(SIZE))[:, : SIZE[0], : SIZE[1]]
    return Made(edited, pixels, by_torch(pixels))


def store_contract(spec: Any) -> None:
    spec.description.metadata.userDefined["contract"] = CONTRACT.dumps()


def answers(path: Path, made: Made, natively: bool = False) -> np.ndarray:
    with CoreMLRuntime(run_natively=natively).open(path, CONTRACT) as session:
        return np.stack([session.probabilities(image) for image in made.pixels])


def test_a_network_gives_what_torch_gives(made: Made) -> None:
    assert made.expected.max(axis=1).mean() > 0.3
    spec = read_model_file(made.path).spec
    assert spec.specificationVersion == 8
    assert len(operations(spec, "quantize")) == len(operations(spec, "dequantize")) == 4
    assert np.abs(answers(made.path, made) - made.expected).max() < 1e-5


def _parameter(spec: Any, op: Any, name: str) -> Any:
    wanted = op.inputs[name].arguments[0].name
    return next(c for c in operations(spec, "const") if c.outputs[0].name == wanted)


def _scale(spec: Any, kind: str, place: int, factor: float) -> None:
    constant = _parameter(spec, operations(spec, kind)[place], "scale")
    constant.attributes["val"].immediateValue.tensor.floats.values[0] *= factor


def double_a_scale(spec: Any) -> None:
    _scale(spec, "quantize", 2, 2.0)


def double_both_scales(spec: Any) -> None:
    _scale(spec, "quantize", 1, 2.0)
    _scale(spec, "dequantize", 1, 2.0)


def move_a_zero_point(spec: Any) -> None:
    constant = _parameter(spec, operations(spec, "dequantize")[2], "zero_point")
    constant.attributes["val"].immediateValue.tensor.bytes.values = bytes([95])


def move_both_zero_points(spec: Any) -> None:
    for kind in ("quantize", "dequantize"):
        constant = _parameter(spec, operations(spec, kind)[2], "zero_point")
        constant.attributes["val"].immediateValue.tensor.bytes.values = bytes([0])


def drop_both_zero_points(spec: Any) -> None:
    for kind in ("quantize", "dequantize"):
        op = operations(spec, kind)[2]
        _remove(spec, _parameter(spec, op, "zero_point"))
        del op.inputs["zero_point"]


def _remove(spec: Any, op: Any) -> None:
    function = spec.mlProgram.functions["main"]
    function.block_specializations[function.opset].operations.remove(op)


def skip_a_pair(spec: Any) -> None:
    """The network reads the image as it was before it was rounded."""
    first, second = operations(spec, "quantize")[0], operations(spec, "dequantize")[0]
    conv = operations(spec, "conv")[0]
    conv.inputs["x"].arguments[0].name = first.inputs["input"].arguments[0].name
    for op in (first, second):
        for name in ("scale", "zero_point", "output_dtype"):
            if name in op.inputs:
                _remove(spec, _parameter(spec, op, name))
    _remove(spec, second)
    _remove(spec, first)


@pytest.mark.parametrize(
    "change",
    [double_a_scale, double_both_scales, move_a_zero_point, move_both_zero_points,
     drop_both_zero_points, skip_a_pair],
)  # fmt: skip
def test_other_numbers_give_other_probabilities(
    made: Made, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    mutant = edit(made.path, tmp_path, change)
    assert np.abs(answers(mutant, made) - made.expected).max() > 5e-4


# --- refused -------------------------------------------------------------------------


def lower_version(spec: Any) -> None:
    spec.specificationVersion = 7


def older_opset(spec: Any) -> None:
    function = spec.mlProgram.functions["main"]
    function.block_specializations["CoreML6"].CopyFrom(function.block_specializations["CoreML7"])
    del function.block_specializations["CoreML7"]
    function.opset = "CoreML6"


def read_the_integers(spec: Any) -> None:
    """A convolution that reads what `quantize` made: the `dequantize` is missing."""
    conv, wrong = operations(spec, "conv")[1], operations(spec, "quantize")[1]
    conv.inputs["x"].arguments[0].name = wrong.outputs[0].name


def dequantize_a_float(spec: Any) -> None:
    quantize, dequantize = (operations(spec, kind)[1] for kind in ("quantize", "dequantize"))
    dequantize.inputs["input"].CopyFrom(quantize.inputs["input"])


def quantize_integers(spec: Any) -> None:
    first, second = operations(spec, "quantize")[:2]
    second.inputs["input"].arguments[0].name = first.outputs[0].name


def _add_axis(spec: Any, place: int, value: int) -> None:
    op = operations(spec, "quantize")[place]
    kinds = ((c, c.outputs[0].type.tensorType) for c in operations(spec, "const"))
    axis = next(c for c, kind in kinds if kind.dataType == INT32 and kind.rank == 0)
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset].operations
    copy = type(axis)()
    copy.CopyFrom(axis)
    copy.outputs[0].name = "added_axis"
    copy.attributes["name"].immediateValue.tensor.strings.values[0] = "added_axis"
    copy.attributes["val"].immediateValue.tensor.ints.values[0] = value
    block.insert(0, copy)
    op.inputs["axis"].arguments.add().name = "added_axis"


def axis_with_one_scale(spec: Any) -> None:
    _add_axis(spec, 1, 1)


def lengthen_a_scale(spec: Any) -> None:
    constant = _parameter(spec, operations(spec, "quantize")[1], "scale")
    for kind in (constant.outputs[0].type, constant.attributes["val"].type):
        kind.tensorType.rank = 1
        kind.tensorType.dimensions.add().constant.size = 4
    constant.attributes["val"].immediateValue.tensor.floats.values[:] = [0.02] * 4


def scale_along_the_rows(spec: Any) -> None:
    lengthen_a_scale(spec)
    _add_axis(spec, 1, 2)


def scale_beyond_the_axes(spec: Any) -> None:
    lengthen_a_scale(spec)
    _add_axis(spec, 1, 4)


def zero_a_scale(spec: Any) -> None:
    _scale(spec, "quantize", 1, 0.0)


def turn_a_scale_negative(spec: Any) -> None:
    _scale(spec, "dequantize", 1, -1.0)


def zero_point_of_another_type(spec: Any) -> None:
    constant = _parameter(spec, operations(spec, "quantize")[0], "zero_point")
    for kind in (constant.outputs[0].type, constant.attributes["val"].type):
        kind.tensorType.dataType = INT8


def result_of_another_type(spec: Any) -> None:
    constant = _parameter(spec, operations(spec, "quantize")[1], "output_dtype")
    constant.attributes["val"].immediateValue.tensor.strings.values[0] = "int8"


def four_bits(spec: Any) -> None:
    constant = _parameter(spec, operations(spec, "quantize")[1], "output_dtype")
    constant.attributes["val"].immediateValue.tensor.strings.values[0] = "uint4"


def declare_another_result(spec: Any) -> None:
    operations(spec, "dequantize")[1].outputs[0].type.tensorType.dataType = FLOAT16


def lose_a_scale(spec: Any) -> None:
    op = operations(spec, "dequantize")[1]
    _remove(spec, _parameter(spec, op, "scale"))
    del op.inputs["scale"]


def add_an_input(spec: Any) -> None:
    op = operations(spec, "quantize")[1]
    op.inputs["rounding"].CopyFrom(op.inputs["scale"])


REFUSED: list[tuple[Callable[[Any], None], str]] = [
    (lower_version, "CoreML7 needs version 8"),
    (older_opset, "CoreML6 does not have"),
    (read_the_integers, "not a float tensor"),
    (dequantize_a_float, "not a int8 or uint8 tensor"),
    (quantize_integers, "not a float tensor"),
    (axis_with_one_scale, "a single scale with none"),
    (lengthen_a_scale, "goes with an axis"),
    (scale_along_the_rows, "along axis 2"),
    (scale_beyond_the_axes, "along axis 4"),
    (zero_a_scale, "not a positive number"),
    (turn_a_scale_negative, "not a positive number"),
    (zero_point_of_another_type, "its 'zero_point' is int8[], not uint8"),
    (result_of_another_type, "declared uint8, it is int8"),
    (four_bits, "quantizes to 'uint4'"),
    (declare_another_result, "declared float16, it is float32"),
    (lose_a_scale, "it lacks 'scale'"),
    (add_an_input, "rounding"),
]


@pytest.mark.parametrize(
    ("change", "word"), REFUSED, ids=[change.__name__ for change, _ in REFUSED]
)
def test_a_contradiction_is_refused(
    made: Made, tmp_path: Path, change: Callable[[Any], None], word: str
) -> None:
    with pytest.raises(CoreMLFileError) as caught:
        answers(edit(made.path, tmp_path, change), made)
    assert word in str(caught.value)


@pytest.mark.skipif(
    sys.platform != "darwin" or int(platform.mac_ver()[0].split(".")[0]) < 14,
    reason="Core ML runs these operations on macOS 14 and later only",
)
def test_the_evaluator_gives_what_core_ml_gives(made: Made) -> None:
    assert np.abs(answers(made.path, made, natively=True) - answers(made.path, made)).max() < 1e-3
