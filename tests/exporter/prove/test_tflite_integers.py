"""The last integers of a quantized TFLite file, against an interpreter that keeps all tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from exporter.prove.runtimes.litert import LiteRtRuntime
from exporter.prove.tflite_integers import with_integer_output
from support import tflite_files, tinyfiles

PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("integers")
    for precision in ("float32", "float16", "int8"):
        tinyfiles.write_tflite(made / f"{precision}.tflite", precision)
    return made


def logits_tensor(model: bytes) -> tuple[int, float, int]:
    """Index, scale and zero point of what the last DEQUANTIZE reads."""
    graph = tflite_files.model_of(model).subgraphs[0]
    index = graph.operators[-2].inputs[0]
    quantization = graph.tensors[index].quantization
    return index, float(quantization.scale[0]), int(quantization.zeroPoint[0])


def run(model: bytes, pixels: np.ndarray, tensor: int | None = None, **options: Any) -> np.ndarray:
    interpreter = Interpreter(model_content=model, num_threads=1, **options)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[None])
    interpreter.invoke()
    output = interpreter.get_output_details()[0]["index"]
    return interpreter.get_tensor(output if tensor is None else tensor)[0]


def test_the_integers_make_the_probabilities(folder: Path) -> None:
    path = folder / "int8.tflite"
    _, scale, zero_point = logits_tensor(path.read_bytes())
    seen = set()
    with LiteRtRuntime().open(path, tinyfiles.CONTRACT) as session:
        for pixels in tinyfiles.pictures():
            integers = session.integers(pixels)
            assert integers is not None
            assert (integers.dtype, integers.shape) == (np.dtype(np.int8), (tinyfiles.CLASSES,))
            logits = (integers.astype(np.float64) - zero_point) * scale
            exponent = np.exp(logits - logits.max())
            expected = exponent / exponent.sum()
            np.testing.assert_allclose(session.probabilities(pixels), expected, atol=1e-6)
            seen.add(tuple(integers.tolist()))
    assert len(seen) == len(tinyfiles.pictures())


def test_they_are_what_an_interpreter_that_keeps_all_tensors_has(folder: Path) -> None:
    model = (folder / "int8.tflite").read_bytes()
    cut = with_integer_output(model)
    assert cut is not None
    index, _, _ = logits_tensor(model)
    for pixels in tinyfiles.pictures():
        kept = run(
            model,
            pixels,
            index,
            experimental_op_resolver_type=PLAIN,
            experimental_preserve_all_tensors=True,
        )
        np.testing.assert_array_equal(
            run(cut, pixels, experimental_op_resolver_type=PLAIN), kept, strict=True
        )


def test_one_number_of_the_file_is_changed(folder: Path) -> None:
    model = (folder / "int8.tflite").read_bytes()
    cut = with_integer_output(model)
    assert cut is not None
    assert len(cut) == len(model)
    differing = [at for at, (a, b) in enumerate(zip(model, cut, strict=True)) if a != b]
    assert 1 <= len(differing) <= 4
    assert differing[-1] - differing[0] < 4
    before, after = (tflite_files.model_of(data).subgraphs[0] for data in (model, cut))
    assert list(after.outputs) == [logits_tensor(model)[0]]
    assert list(before.outputs) != list(after.outputs)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_float_file_has_none(folder: Path, precision: str) -> None:
    path = folder / f"{precision}.tflite"
    assert with_integer_output(path.read_bytes()) is None
    with LiteRtRuntime().open(path, tinyfiles.CONTRACT) as session:
        assert session.integers(tinyfiles.pictures()[0]) is None


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_file_that_names_its_operators_the_old_way_is_read_too(folder: Path) -> None:
    model = tflite_files.model_of((folder / "int8.tflite").read_bytes())
    for code in model.operatorCodes:
        assert code.builtinCode < 127
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
    assert with_integer_output(packed(model)) is not None


def test_integers_behind_float_arithmetic_are_not_the_output(folder: Path) -> None:
    model = tflite_files.model_of((folder / "int8.tflite").read_bytes())
    kinds = {name: code for code, name in tflite_files.OPERATOR_NAMES.items()}
    softmax = next(code for code in model.operatorCodes if code.builtinCode == kinds["SOFTMAX"])
    softmax.builtinCode = kinds["TANH"]
    assert with_integer_output(packed(model)) is None


def test_a_dequantized_constant_is_no_computed_integer(folder: Path) -> None:
    model = tflite_files.model_of((folder / "int8.tflite").read_bytes())
    graph = model.subgraphs[0]
    weights = next(
        index for index, tensor in enumerate(graph.tensors)
        if tensor.type == 9 and model.buffers[tensor.buffer].data is not None
    )  # fmt: skip
    graph.operators[-2].inputs = [weights]
    assert with_integer_output(packed(model)) is None
