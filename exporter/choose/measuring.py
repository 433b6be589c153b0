"""Latency and memory of finished files, each in a fresh process.

Latency: all files of all candidates in one process, in turns, so that they share the same
seconds of the same machine; see `worker.measure`. Memory: one process a file, which loads
and runs it in LiteRT; what the same process holds without a file is taken off.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter.bundle import BY_KEY
from exporter.cache import digest, source_hash, versions
from exporter.choose.results import Latency
from models.errors import UserError

ROUNDS, WARMUP = 60, 5
PICTURES = 4  # of the test images, taken in turn
TIMED = ("onnxruntime", "litert")  # runtimes that run as an app would have them
_MEMORY_OF = "litert"
_PACKAGES = ("ai-edge-litert", "onnxruntime", "numpy")


@dataclass(frozen=True)
class FileToMeasure:
    """One file of one candidate.

    Attributes:
        candidate: its name.
        bundle: the folder that the file lies in.
        key: its format.
    """

    candidate: str
    bundle: Path
    key: str

    @property
    def path(self) -> Path:
        return self.bundle / BY_KEY[self.key].path


class MeasuringError(UserError):
    """The process that measures ended without an answer."""


def timed(key: str) -> bool:
    """Whether files of a format are timed here."""
    return BY_KEY[key].runtime in TIMED


def weighed(key: str) -> bool:
    """Whether the memory of a format's files is measured here."""
    return BY_KEY[key].runtime == _MEMORY_OF


def key_of(files: Sequence[FileToMeasure], threads: int) -> str:
    """sha256 (hex) over all that decides what is measured."""
    parts = [part for file in files for part in (file.candidate, file.key, file.path)]
    return digest("measure", source_hash(), *parts, threads, ROUNDS, versions(*_PACKAGES))


def latencies(
    files: Sequence[FileToMeasure],
    images: Sequence[Path],
    threads: int,
    on_round: Callable[[], None] = lambda: None,
    rounds: int = ROUNDS,
) -> list[Latency]:
    """Median and 90th percentile in milliseconds an image, batch 1, in the files' order.

    Args:
        images: photographs; each file gets them as its contract says.
        on_round: called after each of `rounds + WARMUP` rounds.

    Raises:
        MeasuringError: the process ended early; memory ran out, most likely.
    """
    asked = {
        "task": "latency",
        "threads": threads,
        "rounds": rounds,
        "warmup": WARMUP,
        "files": [{"bundle": str(file.bundle), "key": file.key} for file in files],
        "images": [str(path) for path in images],
    }
    taken: list[list[float]] | None = None
    for answer in _asked(asked):
        if "round" in answer:
            on_round()
        taken = answer.get("milliseconds", taken)
    if taken is None or len(taken) != len(files):
        raise MeasuringError("The process that measures latency gave no times.", "", "try again")
    return [Latency(float(np.median(row)), float(np.percentile(row, 90))) for row in taken]


def memory(path: Path | None, threads: int) -> int:
    """Peak resident bytes of a fresh process that runs a .tflite file in LiteRT, or none.

    Raises:
        MeasuringError: the process ended early.
    """
    asked = {"task": "memory", "file": None if path is None else str(path), "threads": threads}
    answers = [answer["bytes"] for answer in _asked(asked) if "bytes" in answer]
    if not answers:
        raise MeasuringError("The process that measures memory gave no figure.", "", "try again")
    return int(answers[-1])


def _asked(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The JSON lines that a fresh worker answers with."""
    why = ""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "exporter.choose.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
            encoding="utf-8",
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        with process:
            try:
                with contextlib.suppress(BrokenPipeError):  # its exit code tells
                    process.stdin.write(json.dumps(request))
                    process.stdin.close()
                for line in process.stdout:
                    if not line.startswith("{"):  # libraries may say something too
                        continue
                    answer = json.loads(line)
                    why = answer.get("error", why)
                    yield answer
            except BaseException:
                process.kill()
                raise
        said.seek(0)
        last = said.read().strip().splitlines()[-1:]
    if process.returncode != 0:
        raise MeasuringError(
            f"The process that measures {request['task']} ended early.",
            why or "".join(last) or f"exit code {process.returncode}",
            "close other programs or compare fewer candidates, then repeat the command: "
            "it goes on here",
        )
