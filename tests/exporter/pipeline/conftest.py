"""What a user would bring, and one finished export, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import bundles
from support.cli import Ran, run_cli


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures, flat."""
    return bundles.write_images(tmp_path_factory.mktemp("images") / "photos", 24)


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the small network."""
    pytest.importorskip("torch", reason="a checkpoint is made with torch")
    folder = tmp_path_factory.mktemp("checkpoint")
    return bundles.write_checkpoint(folder / "checkpoint.safetensors")


@pytest.fixture(scope="session")
def exported(
    checkpoint_file: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ran]:
    """A finished bundle of every format, and what the command said."""
    out = tmp_path_factory.mktemp("exported") / "dist"
    ran = run_cli("export", checkpoint_file, "--calibration", image_folder, "--out", out)
    assert ran.code == 0, ran.text
    return out, ran
