"""Results that devices send: checked, kept, compared here, never believed."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import draw_images, linear, make_bundle
from PIL import Image

from exporter.bundle import Bundle, hash_files
from exporter.prove import devices, golden
from exporter.prove.results import Versus
from models.images import list_images

KEYS = ("onnx", "tflite-float32", "tflite-int8")


class Answers:
    """A session that answers as `linear` does."""

    probabilities = staticmethod(linear)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    root = tmp_path / "dist"
    made = make_bundle(root, KEYS)
    for key in KEYS:
        made.path(key).write_bytes(key.encode())
    images = list_images(draw_images(tmp_path / "images"))
    names = (golden.REFERENCE_KEY, *KEYS)
    golden.write_golden(root, images, made.contract, dict.fromkeys(names, Answers()))  # type: ignore[arg-type]
    files = [{"path": e.path, "sha256": e.sha256, "bytes": e.bytes} for e in hash_files(root)]
    return Bundle(root, made.contract, {**made.manifest, "files": files})


def posted(bundle: Bundle, name: str = "Pixel 7") -> dict[str, Any]:
    images = []
    for path in sorted((bundle.root / "golden").glob("[0-9]*.png")):
        pixels = np.asarray(Image.open(path))
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        found = [float(value) for value in linear(pixels)]
        images.append({"file": path.name, "pixels_sha256": digest, "probabilities": found})
    times = {"runs": 30, "warmup": 5, "median_ms": 8.0, "p90_ms": 9.5, "min_ms": 7.5}
    artifacts = [
        {
            "key": key,
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "status": "run",
            "reason": "",
            "images": copy.deepcopy(images),
            "latency": {**times, "median_ms": 8.0 if key == "tflite-float32" else 8.8},
        }
        for key in ("tflite-float32", "tflite-int8")
    ]
    about = {"name": name, "user_agent": "Mozilla/5.0", "cores": 8, "threads": 4}
    return {
        "schema": 1,
        "device": about,
        "runtime": "LiteRT.js 2.5.3",
        "accelerator": "wasm",
        "artifacts": artifacts,
    }


def test_a_result_is_stored_loaded_and_compared(bundle: Bundle) -> None:
    path = devices.store(bundle, devices.parse(posted(bundle), bundle))
    assert path.parent == bundle.root.parent / "dist.devices"
    (result,) = devices.load(bundle)
    assert (result.name, result.threads, result.about["cores"]) == ("Pixel 7", 4, 8)
    assert result.received.startswith("20")
    for row, key in zip(devices.rows(bundle, result), KEYS[1:], strict=True):
        assert (row.key, row.status, row.images) == (key, "passed", 8)
        assert row.max_probability_difference == 0.0 and row.top1_agreement == 1.0
        assert row.title == f"{key} @ Pixel 7" and row.evidence == "reported"
    assert [devices.exact(bundle, entry) for entry in result.artifacts] == [8, 8]


def test_a_wrong_answer_fails_the_gate_whatever_the_device_says(bundle: Bundle) -> None:
    data = posted(bundle)
    data["artifacts"][0]["images"][2]["probabilities"].reverse()
    first, second = devices.rows(bundle, devices.parse(data, bundle))
    assert first.status == "failed" and "max probability difference" in first.reason
    assert first.versus is not None and first.versus.elements == 32
    assert 2 <= first.versus.differing <= 4 and first.versus.largest > 0
    assert second.versus == Versus("litert", "probability", 32, 0, 0.0)
    assert second.status == "passed"
    assert devices.exact(bundle, devices.parse(data, bundle).artifacts[0]) == 7


def test_other_pixels_fail_even_with_right_answers(bundle: Bundle) -> None:
    data = posted(bundle)
    data["artifacts"][1]["images"][0]["pixels_sha256"] = "0" * 64
    _, row = devices.rows(bundle, devices.parse(data, bundle))
    assert row.status == "failed" and "other pixels from 00.png" in row.reason


def test_a_result_of_another_export_is_not_run(bundle: Bundle) -> None:
    data = posted(bundle)
    data["artifacts"][0]["sha256"] = "1" * 64
    row, _ = devices.rows(bundle, devices.parse(data, bundle))
    assert (row.status, row.reason) == ("not run", "the result is of another export")


def test_what_did_not_run_there_failed(bundle: Bundle) -> None:
    data = posted(bundle)
    data["artifacts"][0] |= {"status": "failed", "reason": "out of\nmemory", "images": []}
    row, _ = devices.rows(bundle, devices.parse(data, bundle))
    assert (row.status, row.reason) == ("failed", "out of memory")


def test_the_newest_result_of_a_device_counts(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, cores in (("A", 1), ("B", 2), ("A", 3)):
        data = posted(bundle, name)
        data["device"]["cores"] = cores
        path = devices.store(bundle, devices.parse(data, bundle))
        path.rename(path.with_name(f"{cores}-{path.name}"))
    assert [(r.name, r.about["cores"]) for r in devices.load(bundle)] == [("B", 2), ("A", 3)]
    monkeypatch.setattr(devices, "MAX_RESULTS", 3)
    with pytest.raises(devices.DeviceError, match="3 results already"):
        devices.store(bundle, devices.parse(posted(bundle), bundle))


def test_a_damaged_stored_file_is_named(bundle: Bundle) -> None:
    path = devices.store(bundle, devices.parse(posted(bundle), bundle))
    path.write_text("{")
    with pytest.raises(devices.DeviceError, match=path.name):
        devices.load(bundle)
    path.write_text('{"schema": 2}')
    with pytest.raises(devices.DeviceError, match=path.name):
        devices.load(bundle)


def test_an_unusable_file_can_be_told_about_and_left_out(bundle: Bundle) -> None:
    good = devices.store(bundle, devices.parse(posted(bundle), bundle))
    (good.parent / "0.json").write_text("{")
    (good.parent / "1.json").mkdir()
    other = posted(bundle, "of an export with five labels")
    other["artifacts"][0]["images"][0]["probabilities"].append(0.0)
    (good.parent / "2.json").write_text(json.dumps(other))
    told: list[devices.DeviceError] = []
    (kept,) = devices.load(bundle, told.append)
    assert kept.name == "Pixel 7"
    assert [error.what.split("/")[-1].split()[0] for error in told] == [
        "0.json",
        "1.json",
        "2.json",
    ]
    assert "probabilities is 5" in told[2].why and "list of 4 numbers" in told[2].why


def test_latency_of_some_files(bundle: Bundle) -> None:
    result = devices.parse(posted(bundle), bundle)
    found = devices.latency(result, {"tflite-int8"})
    assert found is not None and [entry.key for entry in found.results] == ["tflite-int8"]
    assert found.relative_to == "tflite-int8"
    assert devices.latency(result, ()) is None


def test_without_golden_images_only_a_failure_is_left_to_tell(bundle: Bundle) -> None:
    data = posted(bundle)
    data["artifacts"] = [{**data["artifacts"][0], "status": "failed", "images": []}]
    (bundle.root / "golden" / "golden.json").unlink()
    (row,) = devices.rows(bundle, devices.parse(data, bundle))
    assert (row.status, row.reason) == ("failed", "it did not run there")


def test_latency_is_relative_to_the_float32_file(bundle: Bundle) -> None:
    found = devices.latency(devices.parse(posted(bundle), bundle))
    assert found is not None and found.relative_to == "tflite-float32"
    assert [entry.ratio for entry in found.results] == [1.0, pytest.approx(1.1)]
    assert found.threads == 4 and "Pixel 7" in found.device
    data = posted(bundle)
    for entry in data["artifacts"]:
        entry["latency"] = None
    assert devices.latency(devices.parse(data, bundle)) is None


def test_marks_that_could_deceive_a_reader_are_taken_out(bundle: Bundle) -> None:
    result = devices.parse(posted(bundle, "Pi\u202exel\n\x1b[31m 7"), bundle)
    assert result.name == "Pi xel [31m 7"


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        place: Any = data
        for part in parents:
            place = place[part]
        place[last] = value

    return change


@pytest.mark.parametrize(
    "path, value",
    [
        ("schema", 2),
        ("device", "phone"),
        ("device.name", ""),
        ("device.name", "x" * 81),
        ("device.name", "\n"),
        ("device.threads", 0),
        ("device.threads", True),
        ("device.threads", 2.5),
        ("runtime", None),
        ("artifacts", []),
        ("artifacts", {}),
        ("artifacts", [1]),
        ("artifacts.0.key", "tflite-float64"),
        ("artifacts.0.key", "tflite-int8"),
        ("artifacts.0.key", ["onnx"]),
        ("artifacts.0.status", "passed"),
        ("artifacts.0.sha256", 7),
        ("artifacts.0.images", []),
        ("artifacts.0.images", None),
        ("artifacts.0.images.1.file", "00.png"),
        ("artifacts.0.images.1.file", "../00.png"),
        ("artifacts.0.images.1.pixels_sha256", None),
        ("artifacts.0.images.1.probabilities", [0.5, 0.5]),
        ("artifacts.0.images.1.probabilities", [0.25, 0.25, 0.25, "x"]),
        ("artifacts.0.images.1.probabilities", [0.25, 0.25, 0.25, float("nan")]),
        ("artifacts.0.images.1.probabilities", [0.25, 0.25, 0.25, 10**400]),
        ("artifacts.0.latency", 5),
        ("artifacts.0.latency.median_ms", -1),
        ("artifacts.0.latency.median_ms", 100.0),
        ("artifacts.0.latency.runs", 0),
    ],
)
def test_what_is_no_result_is_refused(bundle: Bundle, path: str, value: Any) -> None:
    data = posted(bundle)
    _set(path, value)(data)
    with pytest.raises(devices.DeviceError):
        devices.parse(data, bundle)
    for strange in (None, 3, "x", [data]):
        with pytest.raises(devices.DeviceError):
            devices.parse(strange, bundle)


def test_only_known_fields_are_kept(bundle: Bundle) -> None:
    data = posted(bundle)
    data["device"] |= {"serial": "secret", "platform": {"secret": 1}, "memory_gb": None}
    data["device"]["cross_origin_isolated"] = True
    data["extra"] = data["artifacts"][0]["extra"] = "secret"
    data["artifacts"][0]["images"][0]["extra"] = data["artifacts"][0]["latency"]["extra"] = "secret"
    data["device"]["user_agent"] = "Mozilla/5.0 \x1b[31m" + "x" * 5000
    path = devices.store(bundle, devices.parse(data, bundle))
    assert "secret" not in path.read_text()
    kept = json.loads(path.read_text())["device"]
    assert kept.keys() == {"name", "user_agent", "cores", "threads", "cross_origin_isolated"}
    assert kept["cross_origin_isolated"] is True and kept["cores"] == 8
    assert kept["user_agent"].startswith("Mozilla/5.0 [31mxxx")
    assert len(kept["user_agent"]) == devices.MAX_TEXT


def test_what_is_kept_is_read_again_number_by_number(bundle: Bundle) -> None:
    data = posted(bundle) | {"golden_sha256": golden_sha256(bundle)}
    sent = devices.parse(data, bundle)
    devices.store(bundle, sent)
    (kept,) = devices.load(bundle)
    assert kept.golden == data["golden_sha256"]
    for ours, theirs in zip(kept.artifacts, sent.artifacts, strict=True):
        assert (ours.key, ours.sha256, ours.timing) == (theirs.key, theirs.sha256, theirs.timing)
        assert ours.pixels == theirs.pixels
        assert all(np.array_equal(ours.answers[name], theirs.answers[name]) for name in ours.pixels)


def golden_sha256(bundle: Bundle) -> str:
    return hashlib.sha256((bundle.root / "golden" / golden.FILE).read_bytes()).hexdigest()


def test_answers_to_other_golden_images_are_not_compared(bundle: Bundle) -> None:
    """The same files, exported again with other photographs to prove them on."""
    data = posted(bundle) | {"golden_sha256": "0" * 64}
    data["artifacts"][0]["images"][0] |= {"file": "77.png", "pixels_sha256": "1" * 64}
    devices.store(bundle, devices.parse(data, bundle))
    (kept,) = devices.load(bundle)
    for row in devices.rows(bundle, kept):
        assert (row.status, row.reason) == ("not run", "the result is of other golden images")


def test_a_result_outlives_an_export_with_other_labels_and_files(bundle: Bundle) -> None:
    devices.store(bundle, devices.parse(posted(bundle), bundle))
    labels = bundle.contract.labels[:-1]
    artifacts = {"tflite-float32": bundle.manifest["artifacts"]["tflite-float32"]}
    files = [{"path": "model_float32.tflite", "sha256": "2" * 64}]
    other = Bundle(
        bundle.root,
        replace(bundle.contract, labels=labels),
        {**bundle.manifest, "artifacts": artifacts, "files": files},
    )
    (kept,) = devices.load(other)
    assert [(row.status, row.reason) for row in devices.rows(other, kept)] == [
        ("not run", "the result is of another export")
    ] * 2


def test_a_file_that_answered_some_images_only_has_failed(bundle: Bundle) -> None:
    data = posted(bundle)
    del data["artifacts"][0]["images"][3:]
    row, _ = devices.rows(bundle, devices.parse(data, bundle))
    assert (row.status, row.reason) == ("failed", "it answered 3 of 8 golden images")


def test_what_cannot_be_written_leaves_nothing_behind(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = devices.parse(posted(bundle), bundle)

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(devices.DeviceError, match="cannot be written") as caught:
            devices.store(bundle, result)
    assert "No space left" in caught.value.why
    assert list(devices.folder_of(bundle.root).iterdir()) == []
    devices.folder_of(bundle.root).rmdir()
    devices.folder_of(bundle.root).write_text("a file where the folder should be")
    with pytest.raises(devices.DeviceError, match="cannot be written"):
        devices.store(bundle, result)


def test_many_at_once_are_all_kept(bundle: Bundle) -> None:
    names = [f"device {number}" for number in range(24)]
    results = [devices.parse(posted(bundle, name), bundle) for name in names]
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda result: devices.store(bundle, result), results))
    assert len(set(paths)) == 24
    assert {result.name for result in devices.load(bundle)} == set(names)
