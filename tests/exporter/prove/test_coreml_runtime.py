"""The Core ML evaluator on whole files: the numbers are PyTorch's."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from exporter.coremltools_shim import import_coremltools
from exporter.prove.runtimes.coreml import CoreMLFileError, CoreMLRuntime, native, read_metadata
from models.contract import Contract
from support.coreml_files import (
    CONTRACT,
    WEIGHTS_IN_PACKAGE,
    Samples,
    needs_coremltools,
    operations,
    samples,
)

pytestmark = needs_coremltools


@pytest.fixture(scope="module")
def made() -> Samples:
    return samples()


def evaluate(made: Samples, name: str, contract: Contract = CONTRACT) -> np.ndarray:
    with CoreMLRuntime(run_natively=False).open(made.path(name), contract) as session:
        return np.stack([session.probabilities(image) for image in made.pixels])


def test_the_sample_answers_depend_on_the_image(made: Samples) -> None:
    assert len(set(made.expected.argmax(axis=1))) >= 3
    assert made.expected.max(axis=1).mean() > 0.3


@pytest.mark.parametrize("name", ["float32.mlpackage", "network.mlmodel"])
def test_float32_files_give_what_torch_gives(made: Samples, name: str) -> None:
    assert np.abs(evaluate(made, name) - made.expected).max() < 1e-5


@pytest.mark.parametrize("name", ["float16.mlpackage", "network_16_linear.mlmodel"])
def test_float16_files_are_near_torch_but_not_equal(made: Samples, name: str) -> None:
    difference = np.abs(evaluate(made, name) - made.expected).max()
    assert 1e-6 < difference < 0.03


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("int8.mlpackage", "int8_plain.mlpackage"),
        ("lut6.mlpackage", "lut6_plain.mlpackage"),
        ("int8_ios18.mlpackage", "int8_ios18_plain.mlpackage"),
        ("lut6_ios18.mlpackage", "lut6_ios18_plain.mlpackage"),
        ("network_4_linear.mlmodel", "network_4_linear_plain.mlmodel"),
        ("network_8_linear_lut.mlmodel", "network_8_linear_lut_plain.mlmodel"),
    ],
)
def test_compressed_weights_unpack_as_coremltools_unpacks_them(
    made: Samples, name: str, plain: str
) -> None:
    found = evaluate(made, name)
    assert np.abs(found - evaluate(made, plain)).max() < 1e-5
    assert np.abs(found - made.expected).max() > 1e-3  # or nothing was compressed


def test_labels_and_metadata_come_from_the_file(made: Samples) -> None:
    for name in ("float32.mlpackage", "network.mlmodel"):
        with CoreMLRuntime(run_natively=False).open(made.path(name), CONTRACT) as session:
            assert session.labels() == CONTRACT.names
        assert Contract.loads(read_metadata(made.path(name))["contract"]) == CONTRACT


def test_without_a_mac_the_evidence_is_an_evaluation_and_is_not_timed() -> None:
    here, mac = CoreMLRuntime(run_natively=False), CoreMLRuntime(run_natively=True)
    assert (here.name, here.evidence, here.timed) == ("coreml", "evaluated", False)
    assert (mac.name, mac.evidence, mac.timed) == ("coreml", "run", True)
    assert CoreMLRuntime().evidence == ("run" if sys.platform == "darwin" else "evaluated")
    assert here.unavailable() is None
    assert "evaluator" in here.version()


def test_probabilities_come_in_the_order_of_the_contract(made: Samples) -> None:
    turned = dataclasses.replace(CONTRACT, labels=CONTRACT.labels[::-1])
    straight, found = (evaluate(made, "float32.mlpackage", c) for c in (CONTRACT, turned))
    np.testing.assert_array_equal(found, straight[:, ::-1])


def test_pixels_of_another_size_or_type_are_refused(made: Samples) -> None:
    with CoreMLRuntime(run_natively=False).open(made.path("network.mlmodel"), CONTRACT) as session:
        for pixels in (np.zeros((64, 65, 3), np.uint8), np.zeros((64, 64, 3), np.float32)):
            with pytest.raises(CoreMLFileError, match="takes 64 x 64 RGB pixels"):
                session.probabilities(pixels)


def test_coremltools_itself_can_read_the_programs_that_the_evaluator_accepts(
    made: Samples,
) -> None:
    """coremltools' own reader types and checks every operation: a second structural check."""
    import_coremltools("Reading a program")
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.models import MLModel

    for name in ("float32.mlpackage", "float16.mlpackage", "int8.mlpackage"):
        spec = MLModel(str(made.path(name)), skip_model_load=True).get_spec()
        weights = str(made.path(name) / WEIGHTS_IN_PACKAGE.parent)
        program = load(spec, spec.specificationVersion, weights)
        read = [op.op_type for op in program.functions["main"].operations]
        assert read.count("conv") == len(operations(spec, "conv")) > 10


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_evaluating_imports_neither_the_converters_nor_torch_nor_tensorflow(made: Samples) -> None:
    code = f"""
import sys
from pathlib import Path
from exporter.prove.runtimes.coreml import CoreMLRuntime, read_metadata
from models.contract import Contract
path = Path({str(made.path("float32.mlpackage"))!r})
contract = Contract.loads(read_metadata(path)["contract"])
CoreMLRuntime(run_natively=False).open(path, contract)
heavy = {{"coremltools", "coremltools.converters", "torch", "tensorflow", "onnxruntime"}}
print(sorted(heavy & set(sys.modules)))
"""
    assert run_python(code) == "[]"


def test_a_missing_coremltools_is_named_with_its_extra(tmp_path: Path) -> None:
    code = f"""
import sys
sys.meta_path.insert(0, type("Hidden", (), {{
    "find_spec": staticmethod(lambda name, *rest: (_ for _ in ()).throw(ModuleNotFoundError(name))
                              if name.split(".")[0] == "coremltools" else None)}}))
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "coremltools" else find(name, *rest)
from pathlib import Path
from exporter.prove.runtimes.coreml import CoreMLRuntime, read_metadata
from models.errors import MissingExtraError
print(CoreMLRuntime(run_natively=False).unavailable())
path = Path({str(tmp_path / "some.mlmodel")!r})
path.write_bytes(b"")
try:
    read_metadata(path)
except MissingExtraError as error:
    print(error.extra, error.mend)
"""
    first, second = run_python(code).splitlines()
    assert first == "coremltools is not installed (extra 'coreml')"
    assert second == "coreml pip install 'exporter[coreml]'"


class _ModelOfAMac:
    """Stands in for MLModel: says how it was called and answers in its own order."""

    calls: ClassVar[list[Any]] = []

    def __init__(self, path: str, compute_units: Any) -> None:
        self.calls.append((path, compute_units))

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.calls.append({name: (image.size, image.mode) for name, image in inputs.items()})
        by_label = {name: place / 100 for place, name in enumerate(CONTRACT.names)}
        return {"classLabel": "x", "classLabel_probs": dict(reversed(by_label.items()))}


def test_the_native_session_hands_over_an_image_and_maps_labels(
    made: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Coremltools:
        ComputeUnit: ClassVar = {"CPU_ONLY": "the CPU"}
        models = type("models", (), {"MLModel": _ModelOfAMac})

    monkeypatch.setattr(native, "import_coremltools", lambda purpose: Coremltools)
    path = made.path("float32.mlpackage")
    with CoreMLRuntime(run_natively=True).open(path, CONTRACT) as session:
        found = session.probabilities(made.pixels[0])
        assert session.labels() == CONTRACT.names
    np.testing.assert_allclose(found, np.arange(10) / 100)
    assert _ModelOfAMac.calls == [(str(path), "the CPU"), {"image": ((64, 64), "RGB")}]


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS only")
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("float32.mlpackage", 1e-4),
        ("float16.mlpackage", 0.03),
        ("int8.mlpackage", 1e-4),
        ("network.mlmodel", 1e-4),
        ("network_4_linear.mlmodel", 1e-3),
    ],
)
def test_the_evaluator_gives_what_core_ml_gives(made: Samples, name: str, limit: float) -> None:
    with CoreMLRuntime(run_natively=True).open(made.path(name), CONTRACT) as session:
        found = np.stack([session.probabilities(image) for image in made.pixels])
    assert np.abs(found - evaluate(made, name)).max() < limit


@pytest.mark.slow
def test_a_program_that_coremltools_made_from_torch_export_gives_what_torch_gives(
    tmp_path: Path,
) -> None:
    """A file that neither this project nor its tests lowered; a process of its own, for torch."""
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]!r}
import numpy as np
import torch
from support import coreml_files as files
sys.modules["tensorflow"] = None
import coremltools as ct
from exporter.prove.runtimes.coreml import CoreMLRuntime

class Whole(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = files.network()
        self.register_buffer("mean", torch.tensor(files.MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(files.STD).view(1, 3, 1, 1))

    def forward(self, x):
        return torch.softmax(self.net((x - self.mean) / self.std), -1)

pixels = files.draw_images(4, 7)
x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32).copy())
net = Whole().eval()
with torch.no_grad():
    expected = net(x).numpy()
model = ct.convert(
    torch.export.export(net, (x[:1],)).run_decompositions({{}}), convert_to="mlprogram",
    minimum_deployment_target=ct.target.iOS16, compute_precision=ct.precision.FLOAT32,
    inputs=[ct.ImageType(name="x", shape=(1, 3, 64, 64))], skip_model_load=True,
    classifier_config=ct.ClassifierConfig(list(files.CONTRACT.names)))
model.save({str(tmp_path / "exported.mlpackage")!r})
session = CoreMLRuntime(run_natively=False).open(
    {str(tmp_path / "exported.mlpackage")!r}, files.CONTRACT)
found = np.stack([session.probabilities(image) for image in pixels])
print(np.abs(found - expected).max())
"""
    assert float(run_python(code).splitlines()[-1]) < 1e-4
