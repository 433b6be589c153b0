"""Runtimes in memory, so that the logic of the proof is tested without any library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from exporter.bundle import BY_KEY, Bundle
from exporter.prove.runtimes.base import Evidence, Integers, Pixels, Probabilities, Runtime, Session
from exporter.prove.runtimes.errors import ArtifactError
from models.contract import Contract, Label, Preprocessing

CLASSES = ("adder", "boa", "cobra", "dhaman")
SIDE = 8
Answer = Callable[[Pixels], Probabilities]
Steps = Callable[[Pixels], Integers]


def contract(**changes: object) -> Contract:
    settings: dict[str, object] = {
        "labels": tuple(Label(name) for name in CLASSES),
        "preprocessing": Preprocessing(height=SIDE, width=SIDE, resize_shorter_side=SIDE),
        "name": "fake",
    }
    return Contract(**{**settings, **changes})  # type: ignore[arg-type]


WEIGHTS = np.random.default_rng(5).normal(0, 1, (SIDE * SIDE * 3, len(CLASSES)))


def linear(pixels: Pixels, weights: np.ndarray = WEIGHTS) -> Probabilities:
    """A linear classifier whose logits spread as those of a trained network do."""
    values = (pixels.astype(np.float64).reshape(-1) - 127.5) / 127.5
    logits = values @ weights / 3
    exponent = np.exp(logits - logits.max())
    return (exponent / exponent.sum()).astype(np.float32)


class FakeSession(Session):
    def __init__(
        self, answer: Answer, names: tuple[str, ...] | None, steps: Steps | None = None
    ) -> None:
        self.answer, self.names, self.closed, self.steps = answer, names, False, steps

    def probabilities(self, pixels: Pixels) -> Probabilities:
        assert not self.closed
        return self.answer(pixels)

    def integers(self, pixels: Pixels) -> Integers | None:
        return None if self.steps is None else self.steps(pixels)

    def labels(self) -> tuple[str, ...] | None:
        return self.names

    def close(self) -> None:
        self.closed = True


class FakeRuntime(Runtime):
    """Opens whatever file, by its name: `answers` maps a file name to what it computes."""

    def __init__(
        self,
        name: str,
        answers: Mapping[str, Answer],
        lacking: str | None = None,
        evidence: Evidence = "run",
        names: tuple[str, ...] | None = CLASSES,
        steps: Steps | None = None,
    ) -> None:
        self.name, self.answers, self.lacking = name, answers, lacking
        self.evidence, self.timed = evidence, evidence == "run"
        self.names, self.steps = names, steps
        self.sessions: list[FakeSession] = []

    def unavailable(self) -> str | None:
        return self.lacking

    def version(self) -> str:
        return f"{self.name} 1.0"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        if not path.exists():
            raise ArtifactError(f"{path} does not exist.")
        self.sessions.append(
            FakeSession(self.answers.get(path.name, linear), self.names, self.steps)
        )
        return self.sessions[-1]


class Shelf:
    """The fake runtimes by name, in the place of the registry."""

    def __init__(self, answers: Mapping[str, Answer] | None = None, **options: object) -> None:
        found = answers or {}
        self.runtimes = {
            name: FakeRuntime(name, found)
            for name in ("torch", "onnxruntime", "litert", "tensorflow", "coreml")
        }
        self.runtimes["coreml"] = FakeRuntime("coreml", found, evidence="evaluated")
        for name, evidence in (("litert-arm64", "emulated"), ("browser", "run")):
            self.runtimes[name] = FakeRuntime(name, found, evidence=evidence)  # type: ignore[arg-type]
            self.runtimes[name].timed, self.runtimes[name].counterpart = False, "litert"

    def get(self, name: str) -> Runtime:
        return self.runtimes[name]


def make_bundle(
    root: Path,
    keys: tuple[str, ...] = ("onnx", "tflite-float32", "tflite-int8"),
    what: Contract | None = None,
) -> Bundle:
    """A folder with empty-headed files of the right names, for fake runtimes only."""
    root.mkdir(parents=True, exist_ok=True)
    for key in keys:
        (root / BY_KEY[key].path).write_bytes(b"fake")
    (root / "reference").mkdir(exist_ok=True)
    (root / "reference" / "checkpoint.safetensors").write_bytes(b"fake")
    manifest = {
        "schema": 1,
        "artifacts": {key: {"path": BY_KEY[key].path} for key in keys},
        "reference": "reference/checkpoint.safetensors",
    }
    return Bundle(root, what or contract(), manifest)


def draw_images(folder: Path, per_class: int = 10, classes: tuple[str, ...] = CLASSES) -> Path:
    """PNG files of random pixels, a folder per class; the content is no class's own."""
    random = np.random.default_rng(11)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder
