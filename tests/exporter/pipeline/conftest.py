"""What a user would bring, and one finished export, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import bundles
from support.cli import Ran, run_cli


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 pictures, three in each class's folder."""
    return bundles.write_class_images(tmp_path_factory.mktemp("images") / "photos", 3)


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the small network."""
    pytest.importorskip("torch", reason="a checkpoint is made with torch")
    folder = tmp_path_factory.mktemp("checkpoint")
    return bundles.write_decided_checkpoint(folder / "checkpoint.safetensors")


@pytest.fixture(scope="session")
def small_onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as an ONNX file with its contract inside."""
    pytest.importorskip("torch", reason="the network is made with torch")
    return bundles.write_decided_onnx(tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="session")
def exported(
    checkpoint_file: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ran]:
    """A finished bundle of every format, and what the command said."""
    out = tmp_path_factory.mktemp("exported") / "dist"
    ran = run_cli("export", checkpoint_file, "--calibration", image_folder, "--out", out)
    assert ran.code == 0, ran.text
    return out, ran
