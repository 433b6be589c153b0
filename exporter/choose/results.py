"""What is known of each candidate, and of the whole comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Start = Literal["published", "file", "scratch"]
NONE_PUBLISHED = "none are published"
NOT_WITHIN_REACH = "not within reach"


@dataclass(frozen=True)
class Latency:
    """Milliseconds an image, of one file, measured in turns with all others."""

    median: float
    p90: float


@dataclass(frozen=True)
class Outcome:
    """One candidate that was trained, exported, proven and measured, or why it was not.

    Attributes:
        name: as the person wrote it, e.g. 'mobilenet_v2:width_mult=0.35'; unique.
        architecture, options: as in the zoo, every option with its value.
        start: where its weights came from: torchvision's published ones, or nothing.
        weights: the file name of the published weights; '' from scratch.
        epochs: of the training that all candidates got alike.
        training_seconds: wall time of features and training.
        parameters: of the exported network, without auxiliary heads.
        multiply_adds: of one picture, batch 1, convolutions and dense layers.
        sizes: bytes of each file by format key ('onnx', 'tflite-int8', ...).
        latency: of each file that was run, by format key.
        peak_memory: bytes, of a process that loads and runs the file, by format key.
        accuracy: top-1 in 0..1 on the test images by format key, and 'torch'.
        test_images: how many those were.
        gates_failed: format keys whose parity gate failed, with the reason.
        failure: why there are no figures; '' where there are.
        agreement: share of the test images with PyTorch's first answer, in 0..1, by format
            key; may be left away (the noise of a drop is then taken as larger).
        why_scratch: why it started from nothing, for a sentence: NONE_PUBLISHED,
            NOT_WITHIN_REACH, or other words; '' where it did not.
    """

    name: str
    architecture: str
    options: Mapping[str, int | float]
    start: Start = "scratch"
    weights: str = ""
    epochs: int = 0
    training_seconds: float = 0.0
    parameters: int = 0
    multiply_adds: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    latency: Mapping[str, Latency] = field(default_factory=dict)
    peak_memory: Mapping[str, int] = field(default_factory=dict)
    accuracy: Mapping[str, float] = field(default_factory=dict)
    test_images: int = 0
    gates_failed: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""
    agreement: Mapping[str, float] = field(default_factory=dict)
    why_scratch: str = ""

    @property
    def input_size(self) -> int:
        """The side of its input square, in pixels."""
        return int(self.options["input_size"])

    @property
    def int8_drop(self) -> float | None:
        """Accuracy lost by int8 against the float model, in 0..1; None where not measured."""
        if "tflite-int8" not in self.accuracy or "torch" not in self.accuracy:
            return None
        return self.accuracy["torch"] - self.accuracy["tflite-int8"]


@dataclass(frozen=True)
class Budget:
    """What the phone allows; None where the person set no limit."""

    ms: float | None = None
    mb: float | None = None  # 10^6 bytes


@dataclass(frozen=True)
class Comparison:
    """All candidates, on one machine, with one set of images.

    Attributes:
        outcomes: in the order in which they were asked for.
        data: what they were trained on, in words ('flowers17: 17 classes, 1088 training ...').
        machine: processor, cores and threads, in words.
        test_images: how many judged each candidate.
        notes: sentences on how it was measured, shown on the page as they are.
        classes: how many there are, so that guessing is right once in as many; 0 if not said.
    """

    outcomes: tuple[Outcome, ...]
    budget: Budget
    data: str
    machine: str
    test_images: int
    notes: tuple[str, ...] = ()
    classes: int = 0
