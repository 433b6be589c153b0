"""Every architecture of the zoo through every usual format, proven against PyTorch.

Small versions here (see `support.narrow_zoo`); the whole networks are a slow sweep.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exporter import bundle
from models import zoo

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")
pytest.importorskip("tensorflow")

from exporter.convert.to_onnx import export_classifier  # noqa: E402 - needs torch
from exporter.pipeline import run as pipeline  # noqa: E402
from exporter.pipeline.request import ExportRequest  # noqa: E402
from models.classifier import Classifier  # noqa: E402
from models.contract import Contract  # noqa: E402
from support import narrow_zoo, zoo_nets  # noqa: E402
from support.progress import Silent  # noqa: E402

CLASSES, CALIBRATION, JUDGES, EVALUATED = 4, 24, 32, 2
USUAL = [row.key for row in bundle.FORMATS if row.usual]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow and coremltools are imported once for all tests, not in a process a test."""

    @contextlib.contextmanager
    def no_pool(job: Any) -> Iterator[None]:
        del job
        yield None

    monkeypatch.setattr(pipeline, "heavy_pool", no_pool)


def write(folder: Path, count: int, side: int, seed: int) -> Path:
    folder.mkdir()
    for index, picture in enumerate(zoo_nets.drawings(count, side, seed, CLASSES, clear=True)[0]):
        Image.fromarray(picture).save(folder / f"{index:03}.png")
    return folder


def proven(net: Any, contract: Contract, folder: Path, quantizer: Any) -> Any:
    """Export everything, with the ONNX file as the reference; that it says what torch says."""
    model = folder / "brought.onnx"
    described = dataclasses.replace(contract, architecture="onnx")
    classifier = Classifier(net, described)
    export_classifier(classifier, described, model)
    side = contract.preprocessing.resize_shorter_side
    outcome = pipeline.export(
        ExportRequest(
            model=model,
            out=folder / "dist",
            calibration=write(folder / "calibration", CALIBRATION, side, 1),
            images=write(folder / "judges", JUDGES, side, 2),
            quantizer=quantizer,
            latency_runs=0,
            evaluated_limit=EVALUATED,
        ),
        Silent(),
    )
    pixels = zoo_nets.drawings(4, contract.preprocessing.height, 3, CLASSES, clear=True)[0]
    with torch.no_grad():
        wanted = classifier.eval()(torch.from_numpy(pixels)).numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found = np.concatenate([session.run(None, {"image": one[None]})[0] for one in pixels])
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.ptp(wanted, axis=0).max() > 0.2, "the network does not decide"
    return outcome


def check(outcome: Any) -> None:
    """Every usual format was made, was compared, and passed."""
    rows = {row.key: row for row in outcome.report.artifacts}
    failed = {
        key: (row.status, row.reason, [g for g in row.gates if not g.passed])
        for key, row in rows.items()
        if row.status != "passed"
    }
    assert not failed
    assert set(rows) | dict(outcome.left_out).keys() == set(USUAL)
    assert not outcome.left_out


@pytest.mark.parametrize("name", zoo.names())
def test_a_small_version_passes_in_every_format(name: str, tmp_path: Path) -> None:
    entry, options = narrow_zoo.narrow(name)
    net, contract = zoo_nets.decided(entry, CLASSES, clear=True, **options)
    quantizer = "default" if "efficientnet" in name else "fast"  # swish suffers most
    check(proven(net, contract, tmp_path, quantizer))


def test_the_widest_dilation_passes_in_every_format(tmp_path: Path) -> None:
    entry, options = narrow_zoo.narrow("mobilenet_v2")
    finest = {**options, "output_stride": 8}  # dilated by 2 and by 4
    net, contract = zoo_nets.decided(entry, CLASSES, clear=True, **finest)
    assert {c.dilation for c in net.modules() if isinstance(c, torch.nn.Conv2d)} >= {(4, 4)}
    check(proven(net, contract, tmp_path, "fast"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", zoo.names())
def test_the_whole_network_passes_in_every_format(name: str, tmp_path: Path) -> None:
    size = zoo.get(name).options["input_size"].default
    net, contract = zoo_nets.decided(zoo.get(name), CLASSES, clear=True, input_size=size)
    check(proven(net, contract, tmp_path, "default"))
