"""The real runtimes on tiny files: right answers, labels, and clear words for damage."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.bundle import FORMATS
from exporter.prove.runtimes import reference_onnx, registry
from exporter.prove.runtimes.base import Runtime
from exporter.prove.runtimes.reference_onnx import final_activation
from exporter.prove.runtimes.stored import lines
from models.contract import Contract, Label, Normalization, Preprocessing
from models.errors import UserError
from support import tinyfiles

CONTRACT = tinyfiles.CONTRACT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tinyfiles.write_onnx(folder / "model.onnx")
    for precision in ("float32", "float16", "int8"):
        tinyfiles.write_tflite(folder / f"model_{precision}.tflite", precision)
    return folder


@pytest.mark.parametrize(
    ("runtime", "name", "tolerance"),
    [("onnxruntime", "model.onnx", 1e-6), ("litert", "model_float32.tflite", 5e-6),
     ("litert", "model_float16.tflite", 1e-2), ("litert", "model_int8.tflite", 0.15)],
)  # fmt: skip
def test_answers_and_labels(folder: Path, runtime: str, name: str, tolerance: float) -> None:
    spread = []
    with registry.get(runtime).open(folder / name, CONTRACT, 1) as session:
        assert session.labels() == CONTRACT.names
        for picture in tinyfiles.pictures():
            found = session.probabilities(picture)
            assert found.shape == (tinyfiles.CLASSES,)
            assert found.dtype == np.float32
            assert np.abs(found - tinyfiles.expected(picture)).max() < tolerance
            spread.append(found)
    assert np.std(spread, axis=0).max() > 0.1  # the answers depend on the picture


def test_a_result_is_not_overwritten_by_the_next_run(folder: Path) -> None:
    first, second = tinyfiles.pictures(2)
    for runtime, name in (("onnxruntime", "model.onnx"), ("litert", "model_int8.tflite")):
        with registry.get(runtime).open(folder / name, CONTRACT) as session:
            kept = session.probabilities(first)
            before = kept.copy()
            session.probabilities(second)
            assert np.array_equal(kept, before)


def test_tensorflow_on_a_saved_model(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from exporter.convert.targets import saved_model

    saved_model.write(tinyfiles.graph(), CONTRACT, tmp_path / "saved_model")
    runtime = registry.get("tensorflow")
    with runtime.open(tmp_path / "saved_model", CONTRACT) as session:
        assert session.labels() == CONTRACT.names
        for picture in tinyfiles.pictures(4):
            found = session.probabilities(picture)
            assert np.abs(found - tinyfiles.expected(picture)).max() < 1e-5
    whole = (tmp_path / "saved_model" / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UserError, match="cannot be opened by TensorFlow"):
        runtime.open(tmp_path / "saved_model", CONTRACT)
    with pytest.raises(UserError, match="no SavedModel"):
        runtime.open(tmp_path, CONTRACT)


@pytest.mark.parametrize(
    ("runtime", "name"), [("onnxruntime", "model.onnx"), ("litert", "model_int8.tflite")]
)
@pytest.mark.parametrize("kept", [0.0, 0.002, 0.1, 0.5])
def test_files_cut_short_are_user_errors(
    folder: Path, tmp_path: Path, runtime: str, name: str, kept: float
) -> None:
    whole = (folder / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UserError) as caught:
        registry.get(runtime).open(path, CONTRACT)
    assert str(path) in caught.value.what
    assert caught.value.mend


def test_a_cut_in_the_zip_behind_a_tflite_file_loses_the_labels(
    folder: Path, tmp_path: Path
) -> None:
    whole = (folder / "model_int8.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[:-30])
    with registry.get("litert").open(tmp_path / "cut.tflite", CONTRACT) as session:
        assert session.labels() is None


@pytest.mark.parametrize("name", ["onnxruntime", "litert", "tensorflow"])
def test_missing_and_foreign_files(tmp_path: Path, name: str) -> None:
    runtime = registry.get(name)
    if runtime.unavailable():
        pytest.skip(str(runtime.unavailable()))
    with pytest.raises(UserError, match="does not exist"):
        runtime.open(tmp_path / "nothing", CONTRACT)
    (tmp_path / "text").write_text("neither ONNX nor TFLite, but long enough to be read")
    with pytest.raises(UserError):
        runtime.open(tmp_path / "text", CONTRACT)


@pytest.mark.parametrize(
    ("runtime", "name"), [("onnxruntime", "model.onnx"), ("litert", "model_float32.tflite")]
)
def test_a_contract_that_does_not_fit(folder: Path, runtime: str, name: str) -> None:
    fewer = replace(CONTRACT, labels=CONTRACT.labels[:3])
    larger = replace(CONTRACT, preprocessing=Preprocessing(32, 32, 32))
    with pytest.raises(UserError, match="output of"):
        registry.get(runtime).open(folder / name, fewer)
    with pytest.raises(UserError, match="input of"):
        registry.get(runtime).open(folder / name, larger)


def test_labels_may_hold_unusual_line_separators() -> None:
    assert lines("a\u2028b\nc\x0bd\n") == ("a\u2028b", "c\x0bd")
    assert lines("a\n\n") == ("a", "")
    assert lines("") == ()


# What came in: an ONNX classifier of the user's own.


def linear_model(
    path: Path, layout: str = "NCHW", dtype: int = TensorProto.FLOAT,
    end: tuple[str, ...] = (), batch: int | str = 1,
) -> np.ndarray:  # fmt: skip
    """Flatten and MatMul on a 2 x 3 image; returns the weights `[H, W, C, classes]`."""
    random = np.random.default_rng(0)
    weights = random.normal(0, 0.8, (2, 3, 3, 4)).astype(np.float32)
    ordered = weights if layout == "NHWC" else weights.transpose(2, 0, 1, 3)
    shape = [batch, 2, 3, 3] if layout == "NHWC" else [batch, 3, 2, 3]
    kind = np.float16 if dtype == TensorProto.FLOAT16 else np.float32
    nodes = []
    source = "in"
    if dtype == TensorProto.UINT8:  # such a file normalizes by itself
        nodes = [helper.make_node("Cast", ["in"], ["wide"], to=TensorProto.FLOAT),
                 helper.make_node("Sub", ["wide", "mean"], ["less"]),
                 helper.make_node("Div", ["less", "std"], ["unit"])]  # fmt: skip
        source = "unit"
    nodes += [helper.make_node("Flatten", [source], ["flat"]),
              helper.make_node("MatMul", ["flat", "weights"], ["logits"])]  # fmt: skip
    last = "logits"
    for kind_of_node in end:
        more = {"axis": -1} if kind_of_node in ("Softmax", "LogSoftmax") else {}
        nodes.append(helper.make_node(kind_of_node, [last], [last + "+"], **more))
        last += "+"
    initializers = [onnx.numpy_helper.from_array(ordered.reshape(18, 4).astype(kind), "weights")]
    if dtype == TensorProto.UINT8:
        initializers += [onnx.numpy_helper.from_array(np.array(value, np.float32), name)
                         for name, value in (("mean", 127.5), ("std", 127.5))]  # fmt: skip
    made = TensorProto.FLOAT16 if dtype == TensorProto.FLOAT16 else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("in", dtype, shape)],
        [helper.make_tensor_value_info(last, made, [batch, 4])],
        initializers,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return weights


OWN = Contract(
    tuple(Label(name) for name in "abcd"),
    Preprocessing(2, 3, 3, normalization=Normalization((100.0, 110.0, 120.0), (50.0, 60.0, 70.0))),
)
PICTURE = np.random.default_rng(4).integers(0, 256, (2, 3, 3), np.uint8)


def by_hand(weights: np.ndarray, contract: Contract, activation: str) -> np.ndarray:
    how = contract.preprocessing.normalization
    given = (PICTURE - np.array(how.mean)) / np.array(how.std)
    logits = np.einsum("hwc,hwck->k", given, weights.astype(np.float64))
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("end", [(), ("Softmax",), ("LogSoftmax",), ("Softmax", "Identity")])
@pytest.mark.parametrize("batch", [1, "n"])
def test_the_onnx_that_came_in(
    tmp_path: Path, layout: str, end: tuple[str, ...], batch: int | str
) -> None:
    path = tmp_path / "own.onnx"
    weights = linear_model(path, layout, end=end, batch=batch)
    with registry.get("reference-onnx").open(path, OWN) as session:
        found = session.probabilities(PICTURE)
    assert np.abs(found - by_hand(weights, OWN, "softmax")).max() < 1e-6
    assert found.dtype == np.float32


@pytest.mark.parametrize("end", [(), ("Sigmoid",)])
def test_sigmoid_outputs_that_came_in(tmp_path: Path, end: tuple[str, ...]) -> None:
    path = tmp_path / "own.onnx"
    weights = linear_model(path, end=end)
    contract = replace(OWN, activation="sigmoid")
    with registry.get("reference-onnx").open(path, contract) as session:
        found = session.probabilities(PICTURE)
    assert np.abs(found - by_hand(weights, OWN, "sigmoid")).max() < 1e-6


def test_a_softmax_that_is_spelled_out_is_not_applied_twice() -> None:
    found = reference_onnx.activate(np.array([0.7, 0.2, 0.1]), None, "softmax", Path("a.onnx"))
    assert np.allclose(found, [0.7, 0.2, 0.1])
    found = reference_onnx.activate(np.array([0.7, 0.2, 0.3]), None, "softmax", Path("a.onnx"))
    assert found[0] < 0.5
    both = reference_onnx.activate(np.array([0.5, 0.5]), None, "sigmoid", Path("a.onnx"))
    assert both[0] > 0.6


def test_pixels_as_bytes_and_as_halves(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    weights = linear_model(path, "NHWC", TensorProto.UINT8)
    inside = replace(OWN, preprocessing=Preprocessing(2, 3, 3))  # 127.5, as in the file
    with registry.get("reference-onnx").open(path, inside) as session:
        found = session.probabilities(PICTURE)
    assert np.abs(found - by_hand(weights, inside, "softmax")).max() < 1e-6
    weights = linear_model(path, "NCHW", TensorProto.FLOAT16)
    with registry.get("reference-onnx").open(path, OWN) as session:
        found = session.probabilities(PICTURE)
    assert np.abs(found - by_hand(weights, OWN, "softmax")).max() < 1e-2


def test_an_activation_against_the_contract_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    linear_model(path, end=("Sigmoid",))
    assert final_activation(path) == "Sigmoid"
    with (
        registry.get("reference-onnx").open(path, OWN) as session,
        pytest.raises(UserError, match="ends in Sigmoid"),
    ):
        session.probabilities(PICTURE)


def test_files_that_came_in_and_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    linear_model(path)
    runtime = registry.get("reference-onnx")
    with pytest.raises(UserError, match="has the shape"):
        runtime.open(path, CONTRACT)
    fewer = replace(OWN, labels=OWN.labels[:3])
    with (
        runtime.open(path, fewer) as session,
        pytest.raises(UserError, match="gives 4 values"),
    ):
        session.probabilities(PICTURE)
    linear_model(path, dtype=TensorProto.FLOAT)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="cannot be opened"):
        runtime.open(path, OWN)


# The registry.


def test_every_format_has_a_runtime() -> None:
    for row in FORMATS:
        assert isinstance(registry.get(row.runtime), Runtime)
    assert [runtime.name for runtime in registry.all_runtimes()] == list(registry.names())
    assert registry.reference_name(Path("reference/a.onnx")) == "reference-onnx"
    assert registry.reference_name(Path("reference/checkpoint.safetensors")) == "torch"


def test_asking_for_one_runtime_loads_no_other_library() -> None:
    heavy = ("torch", "tensorflow", "coremltools", "onnxruntime", "ai_edge_litert")
    code = (
        "import sys; from exporter.prove.runtimes import registry\n"
        "registry.get('litert').unavailable(); registry.get('litert').version()\n"
        "for runtime in registry.all_runtimes(): runtime.unavailable()\n"
        "import exporter.prove.parity, exporter.prove.verify, exporter.prove.outputs\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
