"""A client nobody here wrote: MediaPipe's ImageClassifier on our files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.bundle import open_bundle
from exporter.convert.targets import tflite
from models.contract import Contract, Label, Preprocessing
from models.images import list_images, load_pixels
from support import bundles, nets
from support.cli import run_cli
from support.tflite_files import classifier, plan_for, run

SIZE = 32
CONTRACT = Contract(
    tuple(Label(f"species {index}") for index in range(10)), Preprocessing(SIZE, SIZE, SIZE)
)


@pytest.fixture(scope="module")
def mediapipe() -> Any:
    return pytest.importorskip("mediapipe", reason="the client comes with the test extra")


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_mediapipe_names_the_same_labels_with_the_same_scores(
    precision: Any, tmp_path: Path, mediapipe: Any
) -> None:
    graph = classifier(SIZE, 10)
    images = nets.images(6, SIZE, seed=5)
    plan = plan_for(graph, nets.images(16, SIZE)) if precision == "int8" else None
    path = tmp_path / "model.tflite"
    tflite.write(graph, CONTRACT, path, precision, plan)
    expected = run(path.read_bytes(), images)
    compare(mediapipe, path, images, expected, CONTRACT.names)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, mediapipe: Any) -> tuple[Path, Path]:
    """A bundle as `exporter export` writes it, and the pictures it was calibrated on."""
    pytest.importorskip("torch", reason="the network is made with torch")
    folder = tmp_path_factory.mktemp("exported")
    photos = bundles.write_class_images(folder / "photos", 3)
    onnx = bundles.write_decided_onnx(folder / "model.onnx")
    ran = run_cli("export", onnx, "--calibration", photos, "--formats",
                  "tflite-float32,tflite-int8", "--runs", 0, "--out", folder / "dist")  # fmt: skip
    assert ran.code == 0, ran.text
    return folder / "dist", photos


@pytest.mark.parametrize("name", ["model_float32.tflite", "model_int8.tflite"])
def test_mediapipe_opens_the_files_of_a_bundle(
    name: str, exported: tuple[Path, Path], mediapipe: Any
) -> None:
    root, photos = exported
    contract = open_bundle(root).contract
    paths = [item.path for item in list_images(photos)][::3]
    images = [load_pixels(path, contract.preprocessing) for path in paths]
    expected = run((root / name).read_bytes(), images)
    assert (root / "labels.txt").read_text("utf-8").splitlines() == list(contract.names)
    compare(mediapipe, root / name, images, expected, contract.names)


def compare(
    mediapipe: Any,
    path: Path,
    images: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    names: Sequence[str],
) -> None:
    """MediaPipe names `names` from the file alone, with LiteRT's scores `expected`."""
    tops = [int(scores.argmax()) for scores in expected]
    assert len(set(tops)) > 1, "a network that answers always the same tests nothing"
    vision = mediapipe.tasks.vision
    options = vision.ImageClassifierOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(path)), max_results=-1
    )
    with vision.ImageClassifier.create_from_options(options) as client:
        for image, scores in zip(images, expected, strict=True):
            given = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            (answer,) = client.classify(given).classifications
            found = np.zeros(len(names), np.float32)
            for category in answer.categories:
                assert category.category_name == names[category.index]
                found[category.index] = category.score
            assert len(answer.categories) == len(names)
            assert answer.categories[0].category_name == names[int(scores.argmax())]
            np.testing.assert_allclose(found, scores[0], rtol=0, atol=1e-5)
