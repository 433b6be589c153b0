"""A bundle to evaluate, made once."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from exporter.evaluate import files
from support import bundles, nets
from support.cli import run_cli
from support.evaluating import PER_CLASS, World, hard_image, write_checkpoint


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("evaluate")
    checkpoint = write_checkpoint(root / "snakes.safetensors")
    rng = np.random.default_rng(11)
    for group in range(nets.CLASSES):
        folder = root / "data" / f"species {group}"
        folder.mkdir(parents=True)
        for index in range(PER_CLASS):
            other = (group + rng.integers(1, 3)) % nets.CLASSES
            picture = hard_image(group, other, rng.uniform(0, 0.55), 10 * index)
            Image.fromarray(picture).save(folder / f"{index}.png")
    calibration = bundles.write_class_images(root / "calibration", 1, seed=4)
    made = run_cli(
        "export", checkpoint, "--calibration", calibration, "--out", root / "dist", "--no-cache",
        "--formats", "onnx,tflite-float32,tflite-int8", "--quantizer", "fast", "--runs", 0,
        "--gate", "int8.min_agreement=off",
    )  # fmt: skip
    assert made.code == 0, made.text
    from models.checkpoint import load_checkpoint

    return World(checkpoint, root / "data", root / "dist", load_checkpoint(checkpoint).contract)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures away where nobody looks at them: they take most of the time."""
    monkeypatch.setattr(files, "_draw", lambda *_: None)
