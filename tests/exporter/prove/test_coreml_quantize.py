"""`quantize` and `dequantize` alone: numbers worked out by hand and coremltools' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.coremltools_shim import import_coremltools
from exporter.prove.runtimes.coreml import CoreMLFileError
from exporter.prove.runtimes.coreml.description import read_description
from exporter.prove.runtimes.coreml.package import read_model_file
from exporter.prove.runtimes.coreml.program import Program
from exporter.prove.runtimes.coreml.runtime import _planes
from support.coreml_files import convert, needs_coremltools

pytestmark = needs_coremltools
SIZE = (6, 8)
LEVELS = np.linspace(0, 255, 3 * 6 * 8).astype(np.uint8)  # with 7 among the first


def evaluate(path: Path, pixels: np.ndarray) -> np.ndarray:
    model = read_model_file(path)
    description = read_description(model.spec)
    return Program(model, description).run(_planes(pixels, description.image))


def write(body: Callable[[Any, Any], Any], folder: Path, precision: str = "float32") -> Path:
    path = folder / "m.mlpackage"
    convert(body, path, precision=precision, target="iOS17", size=SIZE)
    return path


def pixels_of(values: np.ndarray) -> np.ndarray:
    """An image whose planes hold the values over and over, uint8 `[6, 8, 3]`."""
    return np.resize(values, (3, *SIZE)).transpose(1, 2, 0).astype(np.uint8)


def test_halves_go_to_even_and_the_ends_saturate(tmp_path: Path) -> None:
    """Quarter steps around the zero point and both ends of int8, by hand."""

    def body(x: Any, mb: Any) -> Any:
        steps = mb.mul(x=mb.sub(x=x, y=np.float32(100)), y=np.float32(0.5))
        scale, zero = np.float32(0.25), np.int8(5)
        made = mb.quantize(input=steps, scale=scale, zero_point=zero, output_dtype="int8")
        return mb.dequantize(input=made, scale=scale, zero_point=zero)

    def halved(x: Any, mb: Any) -> Any:
        """The quotient is (pixel - 100) / 2, halves included."""
        scale, zero = np.float32(2), np.int8(5)
        made = mb.quantize(
            input=mb.sub(x=x, y=np.float32(100)), scale=scale, zero_point=zero, output_dtype="int8"
        )
        return mb.dequantize(input=made, scale=scale, zero_point=zero)

    given = np.array([99, 100, 101, 102, 103, 105, 0, 255], np.uint8)
    found = evaluate(write(halved, tmp_path), pixels_of(given))[: len(given)]
    # in steps: -0.5, 0, 0.5, 1, 1.5, 2.5, -50 and 77.5
    np.testing.assert_array_equal(found, [0, 0, 0, 2, 4, 4, -100, 156])
    found = evaluate(write(body, tmp_path), pixels_of(given))[: len(given)]
    # 2 steps a pixel: 122 steps above the zero point and 133 below it are the ends
    np.testing.assert_array_equal(found, [-0.5, 0, 0.5, 1, 1.5, 2.5, -133 / 4, 122 / 4])


@dataclass(frozen=True)
class Case:
    """One pair of operations: their parameters and the type of arithmetic."""

    scale: Any
    zero_point: Any
    dtype: str
    axis: int | None = None
    precision: str = "float32"


CASES = {
    "int8": Case(0.37, np.int8(-12), "int8"),
    "int8_symmetric": Case(0.5, None, "int8"),
    "uint8": Case(0.1, None, "uint8"),
    "uint8_with_zero_point": Case(0.2, np.uint8(77), "uint8"),
    "channels": Case([0.1, 0.25, 1.5], np.array([-128, 0, 100], np.int8), "int8", 1),
    "rows_from_behind": Case([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], None, "uint8", -2),
    "float16": Case(0.37, np.int8(-12), "int8", precision="float16"),
    "float16_channels": Case([0.11, 0.25, 1.5], np.array([1, 2, 3], np.uint8), "uint8", 1,
                             "float16"),
}  # fmt: skip


def parameters(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    real = np.float16 if case.precision == "float16" else np.float32
    shared: dict[str, Any] = {"scale": np.asarray(case.scale, real)[()]}
    if case.zero_point is not None:
        shared["zero_point"] = case.zero_point
    if case.axis is not None:
        shared["axis"] = np.int32(case.axis)
    return shared, {**shared, "output_dtype": case.dtype}


@pytest.mark.parametrize("name", CASES)
def test_a_pair_gives_what_coremltools_computes_itself(name: str, tmp_path: Path) -> None:
    """Its numpy says the same to the last bit in float32.

    In float16 it rounds the quotient to float16 before it rounds it to an integer: there
    a quotient within 1/16 of a half may become the neighbouring integer.
    """
    case = CASES[name]
    shared, quantized = parameters(case)
    half = case.precision == "float16"
    shift, factor = np.float32(110), np.float32(0.173)
    kind = "fp16" if half else "fp32"

    def real(x: Any, mb: Any) -> Any:
        x = mb.mul(x=mb.sub(x=x, y=shift), y=factor)
        return mb.cast(x=x, dtype=kind) if half else x

    def body(x: Any, mb: Any) -> Any:
        made = mb.quantize(input=real(x, mb), **quantized)
        found = mb.dequantize(input=made, **shared)
        return mb.cast(x=found, dtype="fp32") if half else found

    pixels = pixels_of(LEVELS)
    found = evaluate(write(body, tmp_path), pixels)
    planes = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    given = ((planes - shift) * factor).astype(shared["scale"].dtype)
    wanted, integers = by_coremltools(given, quantized, shared)
    assert len(np.unique(integers)) > 15
    if not half:
        np.testing.assert_array_equal(found, wanted.reshape(-1))
        return
    scale = np.asarray(shared["scale"], np.float32)
    scale = scale.reshape(1, -1, 1, 1) if scale.ndim else scale
    quotient = given.astype(np.float32) / scale
    certain = np.abs(quotient % 1 - 0.5) > 1 / 16
    assert 0.5 < certain.mean() < 1
    np.testing.assert_array_equal(found[certain.reshape(-1)], wanted[certain])
    assert (np.abs(found.reshape(wanted.shape) - wanted) <= 1.05 * scale).all()


def by_coremltools(given: np.ndarray, quantized: Any, shared: Any) -> tuple[np.ndarray, np.ndarray]:
    """What coremltools folds a pair over a constant into: the result, and the integers."""
    ct = import_coremltools("a test")
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function

    with Function({}, opset_version=ct.target.iOS17):
        made = Builder.quantize(input=given, **quantized)
        found = Builder.dequantize(input=made, **shared)
    return found.op.materialized_val_inference().astype(np.float32), made.val


def test_not_a_number_has_no_integer(tmp_path: Path) -> None:
    def body(x: Any, mb: Any) -> Any:
        nothing = mb.real_div(x=x, y=mb.sub(x=x, y=np.float32(7)))
        nothing = mb.mul(x=nothing, y=mb.sub(x=x, y=np.float32(7)))  # infinity times zero
        made = mb.quantize(input=nothing, scale=np.float32(1), output_dtype="uint8")
        return mb.dequantize(input=made, scale=np.float32(1))

    path = write(body, tmp_path)
    with np.errstate(divide="ignore", invalid="ignore"):
        evaluate(path, pixels_of(LEVELS[LEVELS > 7]))
        with pytest.raises(CoreMLFileError, match="not a number has no integer"):
            evaluate(path, pixels_of(LEVELS))
