"""`exporter train` from the command line: what it refuses, what it leaves, what it says next."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from support import bundles
from support.cli import run_cli

needs_lightning = pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None, reason="not run: lightning is not installed"
)


def test_it_wants_to_know_what_to_train_on(tmp_path: Path) -> None:
    for words in ((), ("--synthetic", "--data", tmp_path)):
        ran = run_cli("train", "--out", tmp_path / "run", *words)
        assert ran.code == 2
        assert "--synthetic" in ran.err
        assert not (tmp_path / "run").exists()


@needs_lightning
def test_bad_data_is_found_before_training(tmp_path: Path) -> None:
    folder = bundles.write_class_images(tmp_path / "photos", 3)
    (folder / "species 3" / "broken.png").write_bytes(b"no image")
    ran = run_cli("train", "--data", folder, "--out", tmp_path / "run", "--epochs", 1)
    assert ran.code == 2
    assert "broken.png" in ran.err
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


@needs_lightning
def test_one_class_only(tmp_path: Path) -> None:
    bundles.write_images(tmp_path / "photos" / "alone", 5)
    ran = run_cli("train", "--data", tmp_path / "photos", "--out", tmp_path / "run")
    assert ran.code == 2
    assert "alone" in ran.err


@needs_lightning
def test_a_trained_checkpoint_can_be_exported(tmp_path: Path) -> None:
    folder = bundles.write_class_images(tmp_path / "photos", 6)
    ran = run_cli("train", "--data", folder, "--out", tmp_path / "run", "--epochs", 1,
                  "--width", 0.35, "--input-size", 32, "--batch-size", 8)  # fmt: skip
    assert ran.code == 0, ran.text
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    assert f"exporter export {checkpoint} --calibration {folder}" in ran.out
    ran = run_cli("export", checkpoint, "--out", tmp_path / "dist", "--formats", "tflite-float32",
                  "--images", folder, "--images-limit", 10, "--runs", 0)  # fmt: skip
    assert ran.code == 0, ran.text


@needs_lightning
def test_an_exported_bundle_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "manifest.json").write_text("{}")
    ran = run_cli("train", "--synthetic", "--out", tmp_path / "dist")
    assert ran.code == 2
    assert "exported bundle" in ran.err
