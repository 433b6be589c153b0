"""Times and memory of whole `exporter export` processes."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPEATS = 5


@dataclass(frozen=True)
class Given:
    """What is exported: command-line words, and the calibration folder."""

    words: tuple[str, ...]
    calibration: Path


@dataclass(frozen=True)
class Ran:
    """One finished process: wall seconds and peak resident memory in megabytes."""

    seconds: float
    peak_mb: float


def prepare(work: Path, options: argparse.Namespace) -> Given:
    """The user's model, or a random MobileNetV2 1.0/224 with calibrated batch norm."""
    if options.model:
        if not options.calibration:
            raise SystemExit("--model goes with --calibration DIR")
        words = [str(options.model)]
        for flag in ("arch", "labels"):
            if getattr(options, flag):
                words += [f"--{flag}", getattr(options, flag)]
        return Given(tuple(words), options.calibration)
    from models.checkpoint import save_checkpoint
    from models.data import synthetic

    folder = work / "drawn"
    synthetic.draw_dataset(folder, per_class=-(-110 // len(synthetic.LABELS)), seed=0, size=256)
    path = work / "model.safetensors"
    save_checkpoint(full_checkpoint(folder), path)
    return Given((str(path),), folder)


def full_checkpoint(images: Path) -> Any:
    """MobileNetV2 1.0/224 with 1000 classes, random weights, calibrated batch norm."""
    import numpy as np
    import torch

    from models.checkpoint import Checkpoint
    from models.contract import Contract, Label, Preprocessing
    from models.images import list_images, load_pixels
    from models.zoo import create

    contract = Contract(
        tuple(Label(f"class {index}") for index in range(1000)),
        Preprocessing(),
        name="bench",
        architecture="mobilenet_v2",
    )
    torch.manual_seed(0)
    net = create("mobilenet_v2", 1000)
    files = list_images(images)[::4][:24]
    pixels = np.stack([load_pixels(file.path, contract.preprocessing) for file in files])
    with torch.no_grad():
        net.train()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
    return Checkpoint("mobilenet_v2", {}, net.eval().state_dict(), contract)


def measure(work: Path, given: Given, only_bundle: bool) -> list[tuple[str, str, str]]:
    """Export everything once; then the quick paths from the ONNX file, several times."""
    calibration = ("--calibration", str(given.calibration))
    whole = export(work, "dist", (*given.words, *calibration, "--no-cache"))
    if only_bundle:
        return []
    onnx = str(work / "dist" / "model.onnx")
    float_write, int8_write = _write_seconds(Path(onnx), given.calibration, work)
    quick = [export(work, "quick", (onnx, "--formats", "tflite-float32", "--no-cache"))
             for _ in range(REPEATS)]  # fmt: skip
    both = ("--formats", "tflite-float32,tflite-int8", "--no-cache")
    hundred = [export(work, "quick", (onnx, *both, *calibration)) for _ in range(3)]
    fast = [export(work, "quick", (onnx, *both, *calibration, "--quantizer", "fast"))
            for _ in range(3)]  # fmt: skip
    ten = export(work, "quick", (onnx, *both, *calibration, "--calibration-limit", "40"))
    return [
        ("whole export, all formats, 100 calibration images", f"{whole.seconds:.1f} s", "<= 60 s"),
        ("graph to float32 .tflite", f"{float_write:.2f} s", "<= 0.5 s"),
        ("graph to int8 .tflite, besides calibration", f"{int8_write:.2f} s",
         "<= 0.5 s"),
        ("export model.onnx --formats tflite-float32, whole process",
         f"{_median(quick):.2f} s", "<= 1.5 s"),
        ("the same with int8 and 100 images, --quantizer fast", f"{_median(fast):.2f} s",
         "<= 6 s"),
        ("the same with the default quantizer", f"{_median(hundred):.2f} s", "fast + 30 s"),
        ("peak memory with 40 / 100 calibration images",
         f"{ten.peak_mb:.0f} / {max(r.peak_mb for r in hundred):.0f} MB", "does not grow"),
    ]  # fmt: skip


def _write_seconds(onnx: Path, images: Path, work: Path) -> tuple[float, float]:
    """From a read graph to a float32 and an int8 file on disk: medians of several."""
    from exporter.bundle import open_bundle
    from exporter.convert import passes
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.quantize.calibrate import calibrate
    from exporter.convert.targets import tflite
    from models.images import list_images, load_pixels

    contract = open_bundle(onnx.parent).contract
    graph = passes.for_channels_last(passes.standard(read_graph(onnx)))
    files = list_images(images)[:8]
    plan = calibrate(graph, (load_pixels(f.path, contract.preprocessing) for f in files))
    taken: dict[str, list[float]] = {"float32": [], "int8": []}
    for _ in range(REPEATS):
        for precision, seconds in taken.items():
            started = time.perf_counter()
            tflite.write(graph, contract, work / "timed.tflite", precision,
                         plan if precision == "int8" else None)  # fmt: skip
            seconds.append(time.perf_counter() - started)
    return statistics.median(taken["float32"]), statistics.median(taken["int8"])


def _median(runs: Sequence[Ran]) -> float:
    return statistics.median(run.seconds for run in runs)


def export(work: Path, out: str, words: Sequence[str]) -> Ran:
    """One `exporter export` in a process of its own."""
    command = [str(Path(sys.executable).parent / "exporter"), "export", *words,
               "--out", str(work / out)]  # fmt: skip
    log = work / "export.log"
    started = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    # Exit code 1 is a gate that failed, which says nothing about the time it took.
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(log.read_text(encoding="utf-8", errors="replace"))
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return Ran(seconds, usage.ru_maxrss / scale)
