"""A network of several answers through every usual format, and what clients make of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter import bundle
from exporter.bundle import open_bundle
from models.answers import present
from models.images import list_images, load_pixels

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")
pytest.importorskip("tensorflow")

from exporter.convert.targets.tflite.metadata import thresholds_csv  # noqa: E402
from exporter.pipeline import run as pipeline  # noqa: E402
from exporter.pipeline.request import ExportRequest  # noqa: E402
from exporter.prove.inside import embedded_contract  # noqa: E402
from exporter.prove.parity import ParitySettings, run_parity  # noqa: E402
from exporter.prove.verify import verify  # noqa: E402
from models.checkpoint import save_checkpoint  # noqa: E402
from models.contract import Contract  # noqa: E402
from support import several  # noqa: E402
from support.progress import Silent  # noqa: E402
from support.tflite_files import run  # noqa: E402

USUAL = [row.key for row in bundle.FORMATS if row.usual]
PICTURES = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """An export of everything: the folder of `dist/` and `judges/`, and the outcome."""
    folder = tmp_path_factory.mktemp("several")
    save_checkpoint(several.checkpoint(), folder / "several.safetensors")

    @contextlib.contextmanager
    def no_pool(job: Any) -> Iterator[None]:
        del job
        yield None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "heavy_pool", no_pool)
        outcome = pipeline.export(
            ExportRequest(
                model=folder / "several.safetensors",
                out=folder / "dist",
                calibration=several.write_pictures(folder / "calibration", 16, 1),
                images=several.write_pictures(folder / "judges", PICTURES, 2),
                quantizer="fast",
                latency_runs=0,
                evaluated_limit=6,
            ),
            Silent(),
        )
    yield folder, outcome


def test_every_usual_format_passes_with_gates_of_their_own_names(made: Any) -> None:
    _, outcome = made
    rows = {row.key: row for row in outcome.report.artifacts}
    assert {key: row.reason for key, row in rows.items() if row.status != "passed"} == {}
    assert set(rows) == set(USUAL)
    assert outcome.report.several
    names = {gate.name for row in rows.values() for gate in row.gates}
    assert {"agreement on all classes", "macro F1 drop"} <= names
    assert not {"top-1 agreement", "accuracy drop", "sum of probabilities off 1"} & names
    assert outcome.report.labelled == PICTURES
    assert outcome.report.reference_accuracy > 0.9
    assert outcome.report.reference_accuracy - rows["tflite-int8"].accuracy <= 0.02


def test_the_temperature_is_inside_every_file_and_told(made: Any) -> None:
    folder, _ = made
    opened = open_bundle(folder / "dist")
    assert opened.manifest["temperature"] == several.TEMPERATURE
    assert "logits divided by 1.6" in (folder / "dist" / "report.html").read_text("utf-8")
    raw = several.checkpoint()
    pixels = several.picture(3, 64)[0]
    found = run((folder / "dist" / "model_float32.tflite").read_bytes(), [pixels])[0][0]
    from models.checkpoint import build
    from models.classifier import Classifier

    with torch.no_grad():
        net = Classifier(build(replace(raw, temperature=1.0)), raw.contract)
        logits = net.logits(torch.from_numpy(pixels[None]))[0] / several.TEMPERATURE
    np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), atol=1e-4)


def test_every_file_carries_the_thresholds_and_verify_reads_them(made: Any) -> None:
    folder, _ = made
    opened = open_bundle(folder / "dist")
    for row in opened.formats():
        text = embedded_contract(opened.path(row.key), row)
        assert text is not None, row.key
        assert Contract.loads(text).thresholds == several.contract().thresholds, row.key
    assert [f for f in verify(folder / "dist") if f.status == "failed"] == []


def test_golden_answers_are_sets(made: Any) -> None:
    folder, _ = made
    document = json.loads((folder / "dist" / "golden" / "golden.json").read_text("utf-8"))
    contract = several.contract()
    assert tuple(document["thresholds"]) == contract.thresholds
    counts = set()
    for entry in document["images"]:
        assert "answer" not in entry
        for key, said in entry["answers"].items():
            values = np.array(entry["probabilities"][key], np.float32)
            there = present(values, contract.class_thresholds)
            assert set(said) == {contract.names[k] for k in np.flatnonzero(there)}
            falling = [values[contract.names.index(name)] for name in said]
            assert falling == sorted(falling, reverse=True)
            counts.add(len(said))
    assert len(counts) > 1


def test_a_file_with_other_thresholds_fails_both(made: Any, tmp_path: Path) -> None:
    folder, _ = made
    root = tmp_path / "dist"
    shutil.copytree(folder / "dist", root)
    thresholds = list(several.contract().thresholds or ())
    thresholds[3] = 0.99
    path = root / "model_float16.tflite"
    data = path.read_bytes()
    short = several.contract().dumps(compact=True).encode()
    other = replace(several.contract(), thresholds=tuple(thresholds)).dumps(compact=True).encode()
    other += b" " * (len(short) - len(other))  # the archive's lengths stay
    assert data.count(short) == 1
    assert len(other) == len(short)
    path.write_bytes(_with_right_checksum(data.replace(short, other), short, other))
    manifest = json.loads((root / "manifest.json").read_text("utf-8"))
    for entry in manifest["files"]:
        if entry["path"] == path.name:
            entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    said = [f.what for f in verify(root) if f.status == "failed"]
    assert said == ["differs from contract.json in: output.thresholds"]
    images = list_images(folder / "judges")[:2]
    settings = ParitySettings(latency=None, runtimes=("litert",))
    report = run_parity(open_bundle(root), images, folder / "judges", settings=settings)
    failed = {row.key: row.reason for row in report.artifacts if row.status == "failed"}
    assert set(failed) == {"tflite-float16"}
    assert "hue 3 0.99, not" in failed["tflite-float16"]


def _with_right_checksum(data: bytes, before: bytes, after: bytes) -> bytes:
    old, new = (zlib.crc32(text).to_bytes(4, "little") for text in (before, after))
    assert data.count(old) == 2  # in front of the file and in the archive's list
    return data.replace(old, new)


@pytest.mark.parametrize("name", ["model_float32.tflite", "model_int8.tflite"])
def test_mediapipe_finds_the_same_classes_from_the_file_alone(name: str, made: Any) -> None:
    mediapipe = pytest.importorskip("mediapipe", reason="the client comes with the test extra")
    folder, _ = made
    contract = several.contract()
    images = [
        load_pixels(item.path, contract.preprocessing)
        for item in list_images(folder / "judges")[:9]
    ]
    expected = run((folder / "dist" / name).read_bytes(), images)
    vision = mediapipe.tasks.vision
    base = mediapipe.tasks.BaseOptions(model_asset_path=str(folder / "dist" / name))
    options = vision.ImageClassifierOptions(base_options=base, max_results=-1)
    counts = set()
    with vision.ImageClassifier.create_from_options(options) as client:
        for image, scores in zip(images, expected, strict=True):
            given = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            (answer,) = client.classify(given).classifications
            found = {category.index: category.score for category in answer.categories}
            there = np.flatnonzero(present(scores[0], contract.class_thresholds)).tolist()
            assert sorted(found) == there
            counts.add(len(there))
            for index, score in found.items():
                assert abs(score - scores[0][index]) < 1e-5
    assert {0, 1, 2} <= counts


def test_the_score_file_has_the_float_before_each_threshold() -> None:
    lines = thresholds_csv(several.contract()).splitlines()
    for line, threshold in zip(lines, several.contract().class_thresholds, strict=True):
        limit = np.float32(line.split(",")[3])
        assert limit < np.float32(threshold) == np.nextafter(limit, np.float32(2))
