"""What `exporter android` copies, and what it refuses. No model is run: the bytes are invented."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from exporter.bundle import write_manifest
from exporter.pipeline import android
from models.contract import Contract, Label, Preprocessing
from models.errors import UserError

INT8 = b"int8 weights"
FLOAT = b"float weights"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "dist"
    (root / "golden").mkdir(parents=True)
    contract = Contract((Label("plain"), Label("banded")), Preprocessing(8, 8, 8), name="snakes")
    (root / "contract.json").write_text(contract.dumps(), encoding="utf-8")
    (root / "model_int8.tflite").write_bytes(INT8)
    (root / "model_float32.tflite").write_bytes(FLOAT)
    (root / "golden" / "golden.json").write_text('{"images": []}', encoding="utf-8")
    (root / "golden" / "00.png").write_bytes(b"pixels")
    keys = ("tflite-float32", "tflite-int8")
    write_manifest(root, {"artifacts": {key: {} for key in keys}, "reference": "model.onnx"})
    return root


@pytest.fixture
def app(tmp_path: Path) -> Path:
    main = tmp_path / "demo" / "app" / "src" / "main"
    main.mkdir(parents=True)
    (main / "AndroidManifest.xml").write_text("<manifest/>", encoding="utf-8")
    return tmp_path / "demo"


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_copies_model_contract_and_golden_images(bundle: Path, app: Path) -> None:
    written = android.copy_assets(bundle, app)
    sources = app / "app" / "src"
    names = [path.relative_to(sources).as_posix() for path in written]
    assert names == [
        "main/assets/model.tflite",
        "main/assets/contract.json",
        "androidTest/assets/golden/00.png",
        "androidTest/assets/golden/copied.json",
        "androidTest/assets/golden/golden.json",
    ]
    held = everything(sources)
    assert sorted(held) == sorted([*names, "main/AndroidManifest.xml"])
    assert held["main/assets/model.tflite"] == INT8
    assert held["main/assets/contract.json"] == (bundle / "contract.json").read_bytes()
    assert held["androidTest/assets/golden/00.png"] == b"pixels"
    copied = json.loads(held["androidTest/assets/golden/copied.json"])
    digest = hashlib.sha256(INT8).hexdigest()
    assert copied == {"schema": 1, "format": "tflite-int8", "model": "snakes", "sha256": digest}


@pytest.mark.parametrize("inner", ["app", "app/src"])
def test_a_module_or_its_sources_will_do(bundle: Path, app: Path, inner: str) -> None:
    android.copy_assets(bundle, app / inner)
    assert (app / "app/src/main/assets/model.tflite").read_bytes() == INT8


def test_a_second_copy_replaces_the_first(bundle: Path, app: Path) -> None:
    android.copy_assets(bundle, app)
    sources = app / "app" / "src"
    (sources / "main/assets/model_old.tflite").write_bytes(b"left over")
    (sources / "main/assets/about.txt").write_bytes(b"the developer's own")
    (sources / "androidTest/assets/golden/99.png").write_bytes(b"of an older model")
    android.copy_assets(bundle, app, "tflite-float32")
    held = everything(sources)
    assert held["main/assets/model.tflite"] == FLOAT
    assert held["main/assets/about.txt"] == b"the developer's own"
    assert not {"main/assets/model_old.tflite", "androidTest/assets/golden/99.png"} & set(held)
    copied = json.loads(held["androidTest/assets/golden/copied.json"])
    assert copied["format"] == "tflite-float32"


def refused(bundle: Path, app: Path, key: str = "tflite-int8") -> UserError:
    before = everything(app) if app.exists() else {}
    with pytest.raises(UserError) as caught:
        android.copy_assets(bundle, app, key)
    assert (everything(app) if app.exists() else {}) == before, "something was written"
    assert caught.value.mend
    return caught.value


def test_no_bundle(tmp_path: Path, app: Path) -> None:
    assert "There is no folder" in refused(tmp_path / "nothing", app).what


def test_no_app(bundle: Path, tmp_path: Path) -> None:
    error = refused(bundle, tmp_path / "elsewhere")
    assert "is no Android app" in error.what
    assert "AndroidManifest.xml" in error.why


def test_a_format_that_is_not_there(bundle: Path, app: Path) -> None:
    error = refused(bundle, app, "tflite-float16")
    assert "holds no tflite-float16" in error.what
    assert "tflite-float32, tflite-int8" in error.why


def test_a_format_that_is_no_tflite(bundle: Path, app: Path) -> None:
    error = refused(bundle, app, "coreml")
    assert "coreml is no format for an Android app" in error.what
    assert "tflite-int8" in error.mend


@pytest.mark.parametrize("name", ["model_int8.tflite", "contract.json", "golden/00.png"])
def test_a_file_that_changed(bundle: Path, app: Path, name: str) -> None:
    path = bundle / name
    path.write_bytes(path.read_bytes() + b" ")
    error = refused(bundle, app)
    assert path.name in error.what
    assert "has changed" in error.what


def test_a_file_that_is_missing(bundle: Path, app: Path) -> None:
    (bundle / "golden" / "00.png").unlink()
    assert "00.png is missing" in refused(bundle, app).what


def test_a_file_that_was_added(bundle: Path, app: Path) -> None:
    (bundle / "golden" / "01.png").write_bytes(b"of somebody else")
    assert "01.png is not in the manifest" in refused(bundle, app).what


def test_no_golden_images(bundle: Path, app: Path) -> None:
    shutil.rmtree(bundle / "golden")
    artifacts = {"tflite-int8": {}}
    write_manifest(bundle, {"artifacts": artifacts, "reference": "model.onnx"})
    assert "has no golden images" in refused(bundle, app).what


def test_another_file_of_the_bundle_does_not_matter(bundle: Path, app: Path) -> None:
    (bundle / "model_float32.tflite").write_bytes(b"damaged")
    android.copy_assets(bundle, app)
    assert (app / "app/src/main/assets/model.tflite").read_bytes() == INT8


def test_a_copy_that_breaks_off_leaves_the_old_one(
    bundle: Path, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    android.copy_assets(bundle, app)
    before = everything(app)

    whole = Path.write_text

    def full(path: Path, *args: Any, **keywords: Any) -> int:
        if path.name == "copied.json":  # the last file to be written
            raise OSError("No space left on device")
        return whole(path, *args, **keywords)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        android.copy_assets(bundle, app, "tflite-float32")
    monkeypatch.undo()
    assert everything(app) == before


def test_says_what_was_written(bundle: Path, app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    android.copy_and_show(bundle, app)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("main/assets/model.tflite: model_int8.tflite, 0.0 MB")
    assert lines[1].endswith("main/assets/contract.json")
    assert lines[2].endswith("golden: 3 files, replayed by the app's instrumented test")
