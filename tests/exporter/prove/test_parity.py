"""The proof's logic on runtimes in memory: what passes, what must fail, what was not run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import (
    CLASSES,
    SIDE,
    WEIGHTS,
    FakeRuntime,
    Shelf,
    contract,
    draw_images,
    linear,
    make_bundle,
)
from PIL import Image

from exporter.bundle import FORMATS, Bundle
from exporter.prove import golden
from exporter.prove.gates import with_overrides
from exporter.prove.latency import LatencySettings
from exporter.prove.opened import open_artifacts
from exporter.prove.parity import ParitySettings, run_parity
from exporter.prove.results import ArtifactResult, ParityReport
from models.errors import MissingExtraError, UserError
from models.images import ImageError, list_images

QUICK = ParitySettings(latency=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


def proven(
    bundle: Bundle, folder: Path, shelf: Shelf, settings: ParitySettings = QUICK
) -> ParityReport:
    return run_parity(bundle, list_images(folder), folder, settings=settings, get_runtime=shelf.get)


def row(report: ParityReport, key: str) -> ArtifactResult:
    return next(found for found in report.artifacts if found.key == key)


def failed_gates(report: ParityReport, key: str) -> set[str]:
    return {gate.name for gate in row(report, key).gates if not gate.passed}


def test_equal_artifacts_pass_and_every_format_has_a_row(tmp_path: Path, folder: Path) -> None:
    report = proven(make_bundle(tmp_path), folder, Shelf())
    assert report.passed
    assert [found.key for found in report.artifacts] == [
        known.key for known in FORMATS if known.usual
    ]
    assert report.images == 40
    assert report.labelled == 40
    assert report.reference == "torch 1.0"
    onnx = row(report, "onnx")
    assert onnx.status == "passed"
    assert onnx.top1_agreement == 1.0
    assert onnx.accuracy == onnx.reference_accuracy
    assert onnx.bytes == 4
    absent = row(report, "mlmodel")
    assert absent.status == "not run"
    assert absent.reason == "not in this bundle"
    assert absent.gates == ()
    json.dumps(report.to_json(), allow_nan=False)


def swapped(pixels: np.ndarray) -> np.ndarray:
    return linear(pixels)[[1, 0, 2, 3]]


def zeroed(pixels: np.ndarray) -> np.ndarray:
    weights = WEIGHTS.copy()
    weights[:, 2] = 0
    return linear(pixels, weights)


def nan_once(pixels: np.ndarray) -> np.ndarray:
    found = linear(pixels)
    if pixels[0, 0, 0] < 16:
        found[1] = np.nan
    return found


def logits_instead(pixels: np.ndarray) -> np.ndarray:
    return np.log(linear(pixels))


@pytest.mark.parametrize("mutant", [swapped, zeroed, logits_instead])
@pytest.mark.parametrize("key", ["onnx", "tflite-int8"])
def test_mutants_fail(tmp_path: Path, folder: Path, mutant: object, key: str) -> None:
    bundle = make_bundle(tmp_path)
    report = proven(bundle, folder, Shelf({bundle.path(key).name: mutant}))  # type: ignore[dict-item]
    assert row(report, key).status == "failed"
    assert failed_gates(report, key)
    assert not report.passed
    others = [found for found in report.artifacts if found.key != key and found.images]
    assert {found.status for found in others} == {"passed"}


def test_one_nan_in_forty_images_fails_int8(tmp_path: Path, folder: Path) -> None:
    report = proven(make_bundle(tmp_path), folder, Shelf({"model_int8.tflite": nan_once}))
    found = row(report, "tflite-int8")
    assert "images with NaN or infinity" in failed_gates(report, "tflite-int8")
    assert found.reason.startswith("images with NaN or infinity")
    json.dumps(report.to_json(), allow_nan=False)


def test_flipped_and_worst_images_are_named(tmp_path: Path, folder: Path) -> None:
    culprit = np.asarray(Image.open(folder / "boa" / "03.png"))

    def one_wrong(pixels: np.ndarray) -> np.ndarray:
        found = linear(pixels)
        return np.roll(found, 1) if np.array_equal(pixels, culprit) else found

    report = proven(make_bundle(tmp_path), folder, Shelf({"model_int8.tflite": one_wrong}))
    found = row(report, "tflite-int8")
    assert [flip.image for flip in found.flipped] == ["boa/03.png"]
    assert found.worst[0].image == "boa/03.png"
    assert found.flipped[0].label == "boa"
    assert found.top1_agreement == pytest.approx(39 / 40)


def test_a_lacking_runtime_is_not_run_and_names_the_reason(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf()
    shelf.runtimes["litert"] = FakeRuntime("litert", {}, lacking="no LiteRT here")
    report = proven(make_bundle(tmp_path), folder, shelf)
    found = row(report, "tflite-int8")
    assert (found.status, found.reason) == ("not run", "no LiteRT here")
    assert found.max_probability_difference is None
    assert report.passed  # the onnx file was compared


def test_nothing_compared_is_not_a_pass(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf()
    for name in ("onnxruntime", "litert"):
        shelf.runtimes[name] = FakeRuntime(name, {}, lacking="not here")
    assert not proven(make_bundle(tmp_path), folder, shelf).passed


def test_a_missing_file_that_the_manifest_names_fails(tmp_path: Path, folder: Path) -> None:
    bundle = make_bundle(tmp_path)
    bundle.path("tflite-int8").unlink()
    found = row(proven(bundle, folder, Shelf()), "tflite-int8")
    assert found.status == "failed"
    assert "does not exist" in found.reason


def test_a_session_that_breaks_down_fails_alone(tmp_path: Path, folder: Path) -> None:
    calls: list[int] = []

    def breaks(pixels: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 3:
            raise UserError("The file is damaged.")
        return linear(pixels)

    settings = ParitySettings()
    report = proven(make_bundle(tmp_path), folder, Shelf({"model.onnx": breaks}), settings)
    assert row(report, "onnx").status == "failed"
    assert row(report, "onnx").reason == "The file is damaged"
    assert row(report, "tflite-int8").status == "passed"
    assert len(calls) == 3
    assert report.latency is not None
    assert "onnx" in [key for key, _ in report.latency.not_timed]


def test_another_number_of_classes_fails(tmp_path: Path, folder: Path) -> None:
    report = proven(make_bundle(tmp_path), folder, Shelf({"model.onnx": lambda p: linear(p)[:3]}))
    assert row(report, "onnx").status == "failed"


def test_no_session_can_change_the_pixels_of_the_next(tmp_path: Path, folder: Path) -> None:
    def vandal(pixels: np.ndarray) -> np.ndarray:
        with pytest.raises(ValueError, match="read-only"):
            pixels[:] = 0
        return linear(pixels)

    assert proven(make_bundle(tmp_path), folder, Shelf({"model.onnx": vandal})).passed


def test_sessions_are_closed(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf()
    proven(make_bundle(tmp_path), folder, shelf)
    opened = [session for name in shelf.runtimes for session in shelf.runtimes[name].sessions]
    assert len(opened) == 4
    assert all(session.closed for session in opened)


def test_a_reference_with_nan_or_missing_is_a_user_error(tmp_path: Path, folder: Path) -> None:
    bundle = make_bundle(tmp_path)
    shelf = Shelf({"checkpoint.safetensors": nan_once})
    with pytest.raises(UserError, match="reference itself gives NaN"):
        proven(bundle, folder, shelf)
    bundle.reference.unlink()
    with pytest.raises(UserError, match="is missing"):
        proven(bundle, folder, Shelf())


def test_a_reference_whose_library_is_missing_says_so(tmp_path: Path, folder: Path) -> None:
    class Lacking(FakeRuntime):
        def open(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise MissingExtraError("torch", "torch", "Running the PyTorch reference")

    shelf = Shelf()
    shelf.runtimes["torch"] = Lacking("torch", {})
    with pytest.raises(MissingExtraError, match="torch"):
        proven(make_bundle(tmp_path), folder, shelf)


def test_gates_can_be_moved(tmp_path: Path, folder: Path) -> None:
    shelf = Shelf({"model_int8.tflite": swapped})
    table = with_overrides(
        ["int8.min_agreement=off", "int8.max_accuracy_drop=off"],
    )
    report = proven(make_bundle(tmp_path), folder, shelf, ParitySettings(gates=table, latency=None))
    assert row(report, "tflite-int8").status == "passed"


def test_runtimes_can_be_chosen(tmp_path: Path, folder: Path) -> None:
    settings = ParitySettings(runtimes=("onnxruntime",), latency=None)
    report = proven(make_bundle(tmp_path), folder, Shelf(), settings)
    assert row(report, "onnx").status == "passed"
    assert row(report, "tflite-int8").status == "not run"
    with pytest.raises(UserError, match="no runtime tpu"):
        proven(make_bundle(tmp_path), folder, Shelf(), ParitySettings(runtimes=("tpu",)))


def test_the_limit_meets_every_class(tmp_path: Path, folder: Path) -> None:
    seen: list[int] = []
    settings = ParitySettings(limit=4, latency=None, on_image=lambda: seen.append(1))
    report = proven(make_bundle(tmp_path), folder, Shelf(), settings)
    assert report.images == len(seen) == 4
    found = row(report, "onnx")
    assert {image.label for image in found.worst} == set(CLASSES)
    assert any("4 of 40 images" in note for note in report.notes)
    with pytest.raises(UserError, match="limit"):
        proven(make_bundle(tmp_path), folder, Shelf(), ParitySettings(limit=0))


def test_broken_images_are_all_named_before_anything_opens(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "images", 2)
    whole = (folder / "boa" / "00.png").read_bytes()
    (folder / "boa" / "00.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cobra" / "01.png").write_bytes(b"no image")
    shelf = Shelf()
    with pytest.raises(ImageError) as caught:
        proven(make_bundle(tmp_path / "dist"), folder, shelf)
    assert "2 images cannot be used" in caught.value.what
    assert "boa" in caught.value.what
    assert "cobra" in caught.value.what
    assert not any(runtime.sessions for runtime in shelf.runtimes.values())


def test_labels_from_a_csv_file(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    random = np.random.default_rng(1)
    answers = []
    for number in range(6):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        answers.append(int(np.argmax(linear(pixels))))
    lines = [f"{n}.png,{CLASSES[a] if n % 2 else a}" for n, a in enumerate(answers)]
    (folder / "labels.csv").write_text("file,label\n" + "\n".join(lines[:5]) + "\n")
    report = proven(make_bundle(tmp_path / "dist"), folder, Shelf())
    assert report.labelled == 5
    assert row(report, "onnx").accuracy == 1.0

    (folder / "labels.csv").write_text("file,label\n0.png,python\n")
    with pytest.raises(UserError, match="does not know"):
        proven(make_bundle(tmp_path / "dist"), folder, Shelf())
    (folder / "labels.csv").write_text("picture,class\n0.png,boa\n")
    with pytest.raises(UserError, match="columns"):
        proven(make_bundle(tmp_path / "dist"), folder, Shelf())
    (folder / "labels.csv").write_text("file,label\nelsewhere/0.png,boa\n")
    with pytest.raises(UserError, match="none of the images"):
        proven(make_bundle(tmp_path / "dist"), folder, Shelf())


def test_unknown_folders_and_flat_folders_are_unlabelled(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "images", 2, ("boa", "python"))
    report = proven(make_bundle(tmp_path / "dist"), folder, Shelf())
    assert report.labelled == 2
    assert any("python" in note for note in report.notes)
    report = proven(make_bundle(tmp_path / "dist"), folder / "python", Shelf())
    assert report.labelled == 0
    assert row(report, "onnx").accuracy is None
    assert any("unlabelled" in note for note in report.notes)


def test_photographs_are_resized_by_the_contract(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 20), (10, 200, 30)).save(folder / "a.png")
    assert proven(make_bundle(tmp_path / "dist"), folder, Shelf()).images == 1


def with_golden(bundle: Bundle, folder: Path, shelf: Shelf) -> None:
    with open_artifacts(bundle, get=shelf.get) as opened:
        sessions = {entry.row.key: entry.session for entry in opened if entry.session}
        golden.write_golden(bundle.root, list_images(folder), bundle.contract, sessions)


def test_golden_images_stand_in_where_no_folder_is_given(tmp_path: Path, folder: Path) -> None:
    rule = contract().preprocessing
    assert rule.resize_shorter_side == SIDE
    bundle = make_bundle(tmp_path)
    with_golden(bundle, folder, Shelf())
    report = run_parity(bundle, [], None, settings=QUICK, get_runtime=Shelf().get)
    assert report.passed
    assert report.images == golden.COUNT
    assert report.image_source == "golden images only: 8"
    assert "golden answers replayed: 24 of 24 equal to the last bit" in report.notes


def test_recorded_answers_stand_in_for_a_reference_that_cannot_be_run(
    tmp_path: Path, folder: Path
) -> None:
    bundle = make_bundle(tmp_path)
    shelf = Shelf()
    with open_artifacts(bundle, get=shelf.get) as opened:
        sessions = {entry.row.key: entry.session for entry in opened if entry.session}
        reference = shelf.get("torch").open(bundle.reference, bundle.contract)
        everything = {golden.REFERENCE_KEY: reference, **sessions}
        golden.write_golden(bundle.root, list_images(folder), bundle.contract, everything)
    poor = Shelf({"model_int8.tflite": swapped})
    poor.runtimes["torch"] = FakeRuntime("torch", {}, lacking="torch is not installed")
    report = run_parity(bundle, [], None, settings=ParitySettings(), get_runtime=poor.get)
    assert "recorded at the export (torch is not installed)" in report.reference
    assert row(report, "onnx").status == "passed"
    assert row(report, "tflite-int8").status == "failed"
    assert report.latency is None
    assert any("latency not run" in note for note in report.notes)
    assert not poor.runtimes["torch"].sessions


def test_no_images_and_no_golden_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images to compare"):
        run_parity(make_bundle(tmp_path), [], None, settings=QUICK, get_runtime=Shelf().get)


def test_latency_is_in_the_same_report(tmp_path: Path, folder: Path) -> None:
    settings = ParitySettings(limit=4, latency=LatencySettings(runs=50, warmup=2))
    keys = ("onnx", "tflite-int8", "mlmodel")
    report = proven(make_bundle(tmp_path, keys), folder, Shelf(), settings)
    assert report.latency is not None
    assert [timed.key for timed in report.latency.results] == ["torch", "onnx", "tflite-int8"]
    assert report.latency.results[0].ratio == 1.0
    assert {timed.runs for timed in report.latency.results} == {50}
    reasons = dict(report.latency.not_timed)
    assert "evaluated" in reasons["mlmodel"]
    assert reasons["saved-model"] == "not in this bundle"
    assert row(report, "mlmodel").evidence == "evaluated"
    assert any("not a phone" in note for note in report.notes)


def test_float16_coreml_logits_skip_what_float16_cannot_hold(tmp_path: Path, folder: Path) -> None:
    def coarse(pixels: np.ndarray) -> np.ndarray:
        found = linear(pixels).astype(np.float16).astype(np.float32)
        found[found < 2.0**-14] = 0.0
        return found

    bundle = make_bundle(tmp_path, ("coreml", "tflite-float16"))
    shelf = Shelf({"Model.mlpackage": coarse, "model_float16.tflite": coarse})
    report = proven(bundle, folder, shelf)
    core, lite = row(report, "coreml"), row(report, "tflite-float16")
    assert core.max_logit_difference is not None and core.max_logit_difference < 0.01
    assert lite.max_logit_difference is not None and lite.max_logit_difference > 1


def test_evaluated_artifacts_can_have_fewer_images_and_the_report_says_so(
    tmp_path: Path, folder: Path
) -> None:
    settings = ParitySettings(latency=None, evaluated_limit=4, notes=("drawn images",))
    report = proven(make_bundle(tmp_path, ("onnx", "mlmodel")), folder, Shelf(), settings)
    assert row(report, "onnx").images == 40
    assert row(report, "mlmodel").images == 4
    assert {image.label for image in row(report, "mlmodel").worst} == set(CLASSES)
    assert report.notes[0] == "drawn images"
    assert any("on 4 of the images: mlmodel" in note for note in report.notes)
