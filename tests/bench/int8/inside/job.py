"""What a script inside a peer's environment is given, and what it leaves behind.

Nothing but numpy is imported here: this runs in environments that have no exporter.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

MODEL, QDQ, LOGITS, RESULT = "model.tflite", "model_qdq.onnx", "logits.npy", "result.json"


class Job:
    """One quantizer's run on one model; opened from the JSON file named on the command line.

    Attributes:
        logits_onnx: float NCHW, normalized, to logits.
        probabilities_onnx: the same with the softmax at the end.
        float_tflite, saved_model: float NHWC, normalized, to probabilities.
        variant: the peer's own settings.
        out: an empty folder for what is made.
    """

    def __init__(self) -> None:
        given: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        self.logits_onnx = str(given["logits_onnx"])
        self.probabilities_onnx = str(given["probabilities_onnx"])
        self.float_tflite = str(given["float_tflite"])
        self.saved_model = str(given["saved_model"])
        self.variant: dict[str, Any] = given["variant"]
        self.out = Path(given["out"])
        self.mean = np.asarray(given["mean"], np.float32)
        self.std = np.asarray(given["std"], np.float32)
        self._files = {part: given[part] for part in ("calibration", "evaluation")}
        self._seconds = self._cpu_seconds = 0.0

    def pixels(self, part: str) -> np.ndarray:
        """uint8 `[N, H, W, 3]` of 'calibration' or 'evaluation'."""
        return np.load(self._files[part], mmap_mode="r")

    def images(self, part: str) -> Iterator[np.ndarray]:
        """Normalized float32 `[1, H, W, 3]`, one at a time."""
        for image in self.pixels(part):
            yield ((image.astype(np.float32) - self.mean) / self.std)[None]

    def planes(self, part: str) -> Iterator[np.ndarray]:
        """Normalized float32 `[1, 3, H, W]`, one at a time."""
        for image in self.images(part):
            yield np.ascontiguousarray(image.transpose(0, 3, 1, 2))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What is inside counts as quantizing; imports and the writing of inputs do not."""
        started, used = time.perf_counter(), sum(os.times()[:4])
        yield
        self._seconds += time.perf_counter() - started
        self._cpu_seconds += sum(os.times()[:4]) - used  # of all threads and children

    def finish(self) -> None:
        """Say how long it took; a run without this is a failed one."""
        taken = {"seconds": round(self._seconds, 2), "cpu_seconds": round(self._cpu_seconds, 2)}
        (self.out / RESULT).write_text(json.dumps(taken), encoding="utf-8")
