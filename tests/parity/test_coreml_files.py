"""Our Core ML files of a whole network: they say what the ONNX file says, mutants do not.

The evaluator of the proving wing has never seen the writer; that both meet only here is
what makes their agreement worth something.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.convert.from_onnx import read_graph
from exporter.convert.passes import standard
from exporter.convert.targets import coreml
from exporter.prove.runtimes.coreml import CoreMLFileError, CoreMLRuntime, read_metadata
from models.contract import Contract
from support import nets
from support.coreml_files import WEIGHTS_IN_PACKAGE, edit, needs_coremltools, operations

pytestmark = needs_coremltools
FILES = {
    "float32.mlpackage": "float32",
    "float16.mlpackage": "float16",
    "int8.mlpackage": "int8",
    "network.mlmodel": "float32",
}
# two to five times what is measured (2e-6, 0.019, 0.094); the mutants are of float32
LIMITS = {"float32": 1e-5, "float16": 5e-2, "int8": 2e-1}
IMAGES = nets.images(4, seed=9)


@pytest.fixture(scope="module")
def contract() -> Contract:
    return nets.small_contract()


@pytest.fixture(scope="module")
def files(
    small_onnx_path: Path, contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("coreml")
    graph = standard(read_graph(small_onnx_path))
    for name, precision in FILES.items():
        coreml.write(graph, contract, folder / name, precision)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def expected(small_onnx_path: Path) -> np.ndarray:
    """What onnxruntime says of the ONNX file, `[images, classes]`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(small_onnx_path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in IMAGES])


def difference(path: Path, contract: Contract, expected: np.ndarray) -> float:
    with CoreMLRuntime(run_natively=False).open(path, contract) as session:
        found = np.stack([session.probabilities(image) for image in IMAGES])
    return float(np.abs(found - expected).max())


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_what_the_onnx_file_says(
    files: Path, contract: Contract, expected: np.ndarray, name: str
) -> None:
    assert difference(files / name, contract, expected) < LIMITS[FILES[name]]
    with CoreMLRuntime(run_natively=False).open(files / name, contract) as session:
        assert session.labels() == contract.names
    assert Contract.loads(read_metadata(files / name)["contract"]) == contract


def move_clip_bound(spec: Any) -> None:
    """Of the first ReLU6 whose cap is a constant of its own."""
    name = operations(spec, "clip")[0].inputs["beta"].arguments[0].name
    constant = next(c for c in operations(spec, "const") if c.outputs[0].name == name)
    constant.attributes["val"].immediateValue.tensor.floats.values[0] = 4.0


def swap_labels(spec: Any) -> None:
    value = operations(spec, "classify")[0].inputs["classes"].arguments[0].value
    names = [item.immediateValue.tensor.strings.values for item in value.immediateValue.list.values]
    names[0][0], names[1][0] = names[1][0], names[0][0]
    spec.description.metadata.userDefined.pop("contract")


@pytest.mark.parametrize("change", [move_clip_bound, swap_labels])
def test_a_wrong_file_is_told_by_its_probabilities(
    files: Path, contract: Contract, expected: np.ndarray, tmp_path: Path,
    change: Callable[[Any], None],
) -> None:  # fmt: skip
    mutant = edit(files / "float32.mlpackage", tmp_path, change)
    assert difference(mutant, contract, expected) > 100 * LIMITS["float32"]


def test_zeroed_weights_are_told_by_the_probabilities(
    files: Path, contract: Contract, expected: np.ndarray, tmp_path: Path
) -> None:
    mutant = edit(files / "float32.mlpackage", tmp_path, lambda spec: None)
    weights = mutant / WEIGHTS_IN_PACKAGE
    data = bytearray(weights.read_bytes())
    offset, found = 64, False
    while offset < len(data) and not found:
        _, _, size, start = struct.unpack_from("<IIQQ", data, offset)
        if size >= 4000:
            data[start : start + 4000] = bytes(4000)
            found = True
        offset = -(-(start + size) // 64) * 64
    assert found
    weights.write_bytes(data)
    assert difference(mutant, contract, expected) > 100 * LIMITS["float32"]


def lower_version(spec: Any) -> None:
    spec.specificationVersion -= 1


def add_unread_input(spec: Any) -> None:
    conv = operations(spec, "conv")[0]
    conv.inputs["interleave"].CopyFrom(conv.inputs["weight"])


@pytest.mark.parametrize("name", ["float32.mlpackage", "float16.mlpackage", "int8.mlpackage"])
@pytest.mark.parametrize("change", [lower_version, add_unread_input])
def test_a_file_that_contradicts_itself_is_refused(
    files: Path, contract: Contract, tmp_path: Path, name: str, change: Callable[[Any], None]
) -> None:
    with pytest.raises(CoreMLFileError):
        CoreMLRuntime(run_natively=False).open(edit(files / name, tmp_path, change), contract)


@pytest.mark.parametrize("name", ["float32.mlpackage", "float16.mlpackage", "int8.mlpackage"])
def test_truncated_weights_are_refused(
    files: Path, contract: Contract, tmp_path: Path, name: str
) -> None:
    mutant = edit(files / name, tmp_path, lambda spec: None)
    weights = mutant / WEIGHTS_IN_PACKAGE
    weights.write_bytes(weights.read_bytes()[:-2000])
    with pytest.raises(CoreMLFileError, match="damaged"):
        CoreMLRuntime(run_natively=False).open(mutant, contract)
