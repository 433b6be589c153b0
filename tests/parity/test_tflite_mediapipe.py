"""A client nobody here wrote: MediaPipe's ImageClassifier on our files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.convert.targets import tflite
from models.contract import Contract, Label, Preprocessing
from support import nets
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
            found = np.zeros(10, np.float32)
            for category in answer.categories:
                assert category.category_name == CONTRACT.names[category.index]
                found[category.index] = category.score
            assert len(answer.categories) == 10
            assert answer.categories[0].category_name == CONTRACT.names[int(scores.argmax())]
            np.testing.assert_allclose(found, scores[0], rtol=0, atol=1e-5)
