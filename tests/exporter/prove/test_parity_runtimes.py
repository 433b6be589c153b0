"""One file in several runtimes: rows of their own, and held against each other number by number."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeSession, Shelf, draw_images, linear, make_bundle

from exporter.bundle import BY_KEY, Bundle
from exporter.prove import devices, golden
from exporter.prove.latency import LatencySettings
from exporter.prove.outputs import wording
from exporter.prove.parity import ParitySettings, run_parity
from exporter.prove.results import ArtifactResult, ParityReport, Versus
from exporter.prove.tally import Tally
from models.errors import UserError
from models.images import list_images

KEYS = ("onnx", "tflite-float32", "tflite-int8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


def proven(root: Path, folder: Path, shelf: Shelf, **settings: Any) -> ParityReport:
    asked = ParitySettings(**{"latency": None, "runtimes": ("all",), **settings})
    return run_parity(
        make_bundle(root, KEYS), list_images(folder), folder, settings=asked, get_runtime=shelf.get
    )


def rows(report: ParityReport) -> dict[str, ArtifactResult]:
    found = {row.title: row for row in report.artifacts}
    assert len(found) == len(report.artifacts)
    return found


def steps(change: int = 0) -> Any:
    return lambda pixels: (pixels.reshape(-1)[:4] // 4).astype(np.int8) + np.int8(change)


def test_all_gives_a_row_for_each_file_in_each_runtime(tmp_path: Path, folder: Path) -> None:
    found = rows(proven(tmp_path, folder, Shelf()))
    ran = {title for title, row in found.items() if row.status == "passed"}
    assert ran == {
        "onnx", "tflite-float32", "tflite-int8",
        "tflite-float32 @ litert-arm64", "tflite-int8 @ litert-arm64",
        "tflite-float32 @ browser", "tflite-int8 @ browser",
    }  # fmt: skip
    assert found["saved-model"].reason == "not in this bundle"
    assert found["tflite-int8 @ litert-arm64"].evidence == "emulated"


def test_what_a_second_runtime_really_is_stands_once_in_the_notes(
    tmp_path: Path, folder: Path
) -> None:
    report = proven(tmp_path, folder, Shelf())
    assert [note for note in report.notes if note.startswith("browser")] == ["browser: browser 1.0"]


def test_nothing_second_runs_unless_it_is_asked_for(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf()
    assert not any("@" in title for title in rows(proven(tmp_path, folder, shelf, runtimes=None)))
    assert not shelf.runtimes["browser"].sessions


def test_a_second_runtime_brings_its_counterpart(tmp_path: Path, folder: Path) -> None:
    found = rows(proven(tmp_path, folder, Shelf(), runtimes=("litert-arm64",)))
    assert found["tflite-int8"].status == "passed"
    assert found["tflite-int8 @ litert-arm64"].versus is not None
    assert found["onnx"].reason == "left out by choice of runtimes"
    with pytest.raises(UserError, match="no runtime litert-arm"):
        proven(tmp_path, folder, Shelf(), runtimes=("litert-arm",))


def test_numbers_are_held_against_the_counterparts(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf()
    shelf.runtimes["litert"].steps = steps()
    shelf.runtimes["litert-arm64"].steps = steps(2)
    found = rows(proven(tmp_path, folder, shelf))
    other = found["tflite-int8 @ litert-arm64"]
    assert other.versus == Versus("litert", "steps", 160, 160, 2.0)
    assert other.status == "passed"  # the gates hold it against the model, as any file
    assert found["tflite-int8 @ browser"].versus == Versus("litert", "probability", 160, 0, 0.0)
    assert found["tflite-int8"].versus is None


def test_a_wrong_second_runtime_fails_alone(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf()
    shelf.runtimes["browser"].answers = {"model_int8.tflite": lambda p: linear(p)[[1, 0, 2, 3]]}
    report = proven(tmp_path, folder, shelf)
    failed = [title for title, row in rows(report).items() if row.status == "failed"]
    assert failed == ["tflite-int8 @ browser"]
    assert not report.passed


def test_an_absent_one_is_not_run_with_the_reason(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf()
    shelf.runtimes["litert-arm64"].lacking = "no emulator"
    report = proven(tmp_path, folder, shelf)
    row = rows(report)["tflite-int8 @ litert-arm64"]
    assert (row.status, row.reason) == ("not run", "no emulator")
    assert report.passed


def test_emulated_time_is_never_latency(tmp_path: Path, folder: Path) -> None:
    report = proven(tmp_path, folder, Shelf(), latency=LatencySettings(runs=50, warmup=1), limit=2)
    assert report.latency is not None
    keys = [timed.key for timed in report.latency.results]
    assert keys == ["torch", "onnx", "tflite-float32", "tflite-int8"]
    assert not any("emulated" in reason for _, reason in report.latency.not_timed)


def test_an_absent_second_runtime_does_not_make_its_files_untimed(
    tmp_path: Path, folder: Path
) -> None:
    shelf = Shelf()
    shelf.runtimes["litert-arm64"].lacking = "no emulator"
    settings = LatencySettings(runs=50, warmup=1)
    report = proven(tmp_path, folder, shelf, latency=settings, limit=2)
    assert report.latency is not None
    timed = {one.key for one in report.latency.results}
    assert timed == {"torch", *KEYS}
    assert not timed & {key for key, _ in report.latency.not_timed}


def with_a_device(root: Path, folder: Path) -> Bundle:
    """A bundle with golden answers, and one device's result beside it."""
    bundle = make_bundle(root / "dist", KEYS)
    sessions = dict.fromkeys((golden.REFERENCE_KEY, *KEYS), FakeSession(linear, None))
    golden.write_golden(bundle.root, list_images(folder), bundle.contract, sessions)
    files = [{"path": BY_KEY[key].path, "sha256": "a" * 64} for key in KEYS]
    bundle = Bundle(bundle.root, bundle.contract, {**bundle.manifest, "files": files})
    recorded = golden.load(bundle)
    assert recorded is not None
    answered = [
        {"file": name, "pixels_sha256": recorded.pixels[name],
         "probabilities": [float(value) for value in answers["tflite-int8"]]}
        for name, answers in recorded.expected.items()
    ]  # fmt: skip
    times = {"runs": 50, "warmup": 5, "median_ms": 2.0, "p90_ms": 3.0, "min_ms": 1.0}
    told = {
        "schema": 1, "device": {"name": "Pixel 7", "threads": 4}, "runtime": "LiteRT.js",
        "accelerator": "wasm",
        "artifacts": [
            {"key": key, "sha256": sha256 * 64, "status": "run", "reason": "",
             "images": answered, "latency": times}
            for key, sha256 in (("tflite-int8", "a"), ("tflite-float32", "b"))
        ],
    }  # fmt: skip
    devices.store(bundle, devices.parse(told, bundle))
    return bundle


def test_what_devices_sent_has_rows_and_what_is_of_another_export_is_not_run(
    tmp_path: Path, folder: Path
) -> None:
    bundle = with_a_device(tmp_path, folder)
    for asked, titles in ((("all",), 2), (("browser",), 2), (("litert",), 0), (None, 2)):
        settings = ParitySettings(latency=None, runtimes=asked)
        report = run_parity(bundle, [], None, settings=settings, get_runtime=Shelf().get)
        found = {title: row for title, row in rows(report).items() if "Pixel" in title}
        assert len(found) == titles
        assert len(report.device_latencies) == bool(titles)
        if titles:
            assert found["tflite-int8 @ Pixel 7"].status == "passed"
            assert found["tflite-int8 @ Pixel 7"].versus == Versus(
                "litert", "probability", 32, 0, 0.0
            )
            stale = found["tflite-float32 @ Pixel 7"]
            assert (stale.status, stale.reason) == ("not run", "the result is of another export")
            (timed,) = report.device_latencies
            assert [one.key for one in timed.results] == ["tflite-int8"]


def test_a_damaged_result_beside_the_bundle_is_a_note_that_names_it(
    tmp_path: Path, folder: Path
) -> None:
    bundle = with_a_device(tmp_path, folder)
    damaged = devices.folder_of(bundle.root) / "damaged.json"
    damaged.write_text("{")
    settings = ParitySettings(latency=None, runtimes=("all",))
    report = run_parity(bundle, [], None, settings=settings, get_runtime=Shelf().get)
    assert report.passed and "tflite-int8 @ Pixel 7" in rows(report)
    (note,) = [note for note in report.notes if "left out" in note]
    assert str(damaged) in note and note.endswith("remove it")


def test_slow_ones_take_fewer_images(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf()
    shelf.runtimes["litert-arm64"].usual_images = 6
    report = proven(tmp_path, folder, shelf)
    found = rows(report)
    assert found["tflite-int8 @ litert-arm64"].images == 6
    assert found["tflite-int8 @ browser"].images == 40
    versus = found["tflite-int8 @ litert-arm64"].versus
    assert versus is not None and versus.elements == 6 * 4
    assert "emulated on 6 of the images: tflite-float32, tflite-int8" in report.notes
    assert (
        rows(proven(tmp_path, folder, shelf, evaluated_limit=3))[
            "tflite-int8 @ litert-arm64"
        ].images
        == 3
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_number_anywhere_reads_as_equality(tmp_path: Path, folder: Path, bad: float) -> None:
    shelf = Shelf({"model_int8.tflite": lambda p: np.append(linear(p)[:3], np.float32(bad))})
    report = proven(tmp_path, folder, shelf, limit=2)
    row = rows(report)["tflite-int8 @ browser"]
    assert row.versus == Versus("litert", "probability", 8, 2, 0.0)
    said = wording.versus(row) or ""
    assert said.endswith("2 of 8 numbers differ from litert's: NaN or infinity")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads(json.dumps(report.to_json()), parse_constant=refuse)
    assert read["passed"] is False and len(read["artifacts"]) == len(report.artifacts)


def test_a_tally_counts_what_is_no_number_as_different() -> None:
    tally = Tally("litert")
    assert tally.result() is None
    tally.add("probability", np.array([1.0, np.nan]), np.array([1.0, np.nan]))
    tally.add("probability", np.array([0.5, 0.0]), np.array([0.25, 0.0]))
    assert tally.result() == Versus("litert", "probability", 4, 2, 0.25)
    with pytest.raises(ValueError, match="against"):
        tally.add("steps", np.zeros(3), np.zeros(4))


def test_reference_accuracy_is_over_all_images(tmp_path: Path, folder: Path) -> None:
    report = proven(tmp_path, folder, Shelf(), runtimes=None)
    assert report.reference_accuracy == rows(report)["onnx"].reference_accuracy


def test_sessions_that_may_be_asked_in_any_thread_are_and_the_report_is_the_same(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def noting(pixels: np.ndarray) -> np.ndarray:
        threads.add(threading.get_ident())
        return linear(pixels)

    files = dict.fromkeys(("model_float32.tflite", "model_int8.tflite"), noting)
    alone = proven(tmp_path / "a", folder, Shelf(files), runtimes=None)
    assert threads == {threading.get_ident()}
    monkeypatch.setattr(FakeSession, "any_thread", True)
    threads.clear()
    together = proven(tmp_path / "b", folder, Shelf(files), runtimes=None)
    assert threads
    assert threading.get_ident() not in threads
    assert together == alone
    broken = Shelf({"model_int8.tflite": lambda pixels: linear(pixels)[:2]})
    failed = rows(proven(tmp_path / "c", folder, broken, runtimes=None))
    assert {key: row.status for key, row in failed.items() if row.status != "not run"} == {
        "onnx": "passed", "tflite-float32": "passed", "tflite-int8": "failed"
    }  # fmt: skip
