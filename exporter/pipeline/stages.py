"""The stages that make files, each run only when its inputs changed."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from exporter import bundle
from exporter.pipeline import artifacts, pixels
from exporter.pipeline.artifacts import Calibrated
from exporter.pipeline.calibration_checks import without_calibrated
from exporter.pipeline.job import Job
from exporter.pipeline.pixels import ImageSet
from exporter.pipeline.request import Progress

_WORKERS = {"coreml": "coremltools", "tensorflow": "tensorflow"}  # runtime: heavy import
QUANTIZED = "quantized"


@contextlib.contextmanager
def heavy_pool(job: Job) -> Iterator[ProcessPoolExecutor | None]:
    """A process for the formats with heavy libraries, importing them already."""
    heavy = {
        row.runtime
        for row in job.chosen.formats
        if row.runtime in _WORKERS and not job.cache.has(job.artifact_key(row))
    }
    if not heavy:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max_workers=1, mp_context=context)
    try:
        if "coreml" in heavy:
            pool.submit(artifacts.warm_up, "exporter.convert.targets.coreml")
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Stages:
    """Runs the stages of a job.

    Attributes:
        folders: where each stage's result lies, by the format's key or `QUANTIZED`.
        cached: the keys that were there already.
    """

    def __init__(self, job: Job, pool: ProcessPoolExecutor | None, progress: Progress) -> None:
        self.folders: dict[str, Path] = {}
        self.cached: list[str] = []
        self._job, self._pool, self._progress = job, pool, progress
        self._waiting: dict[str, tuple[Future[None], Path]] = {}

    def run(self) -> ImageSet | None:
        """Make everything that the job asks for.

        Returns:
            the images of the proof, where any were given, without what was calibrated on.
        """
        pixels_file = self._decode()
        images = self._judges(pixels_file)
        self._onnx()
        rows = [row for row in self._job.chosen.formats if row.key != "onnx"]
        self._send([row for row in rows if not row.calibrated], None)
        calibrated = self._quantize(pixels_file)
        self._send([row for row in rows if row.calibrated], calibrated)
        for row in sorted(rows, key=lambda row: row.key in self._waiting):
            self._artifact(row, calibrated if row.calibrated else None)
        return images

    def _judges(self, pixels_file: Path | None) -> ImageSet | None:
        job = self._job
        if job.images is None or pixels_file is None:
            return job.images
        return without_calibrated(job.images, job.image_hashes, pixels_file)

    def _decode(self) -> Path | None:
        """The decoded calibration images, where a format needs them."""
        job = self._job
        if job.pixels_key is None or job.calibration is None:
            return None
        images = job.calibration
        self._progress.start("decode", len(images.files))

        def build(folder: Path) -> None:
            rule = job.intake.contract.preprocessing
            pixels.decode(images, rule, folder / "pixels.npy", self._progress.advance)

        known = job.cache.has(job.pixels_key)
        folder = job.cache.stage(job.pixels_key, build)
        self._progress.done(
            "from the cache" if known else f"{len(images.files)} calibration images"
        )
        return folder / "pixels.npy"

    def _onnx(self) -> None:
        job = self._job
        self._progress.start("onnx")
        known = job.cache.has(job.onnx_key)
        started = time.perf_counter()

        def build(folder: Path) -> None:
            job.intake.write_onnx(folder / "model.onnx")
            took = round(time.perf_counter() - started, 3)
            (folder / artifacts.RECORD).write_text(json.dumps({"seconds": took}), encoding="utf-8")

        self._keep("onnx", known, job.cache.stage(job.onnx_key, build))

    def _quantize(self, pixels_file: Path | None) -> Calibrated | None:
        """Everything about int8, decided once for all formats that are made from it."""
        job = self._job
        if job.quantized_key is None or pixels_file is None or job.calibration is None:
            return None
        quantizer, onnx = job.request.quantizer, self._onnx_file
        steps = artifacts.quantizer_steps(quantizer, len(job.calibration.files))
        self._progress.start(QUANTIZED, steps)
        known = job.cache.has(job.quantized_key)

        def build(folder: Path) -> None:
            artifacts.quantize(onnx, pixels_file, folder, quantizer, self._progress.advance)

        folder = job.cache.stage(job.quantized_key, build)
        self._keep(QUANTIZED, known, folder)
        return Calibrated(pixels_file, folder, job.int8_budget, job.request.float_layers)

    def _send(self, rows: list[bundle.Format], calibrated: Calibrated | None) -> None:
        """Let the pool make what it can, while this process makes the rest."""
        job = self._job
        for row in rows:
            if self._pool is None or row.runtime not in _WORKERS:
                continue
            if job.cache.has(job.artifact_key(row)):
                continue
            job.cache.root.mkdir(parents=True, exist_ok=True)
            scratch = job.cache.scratch()
            text = job.intake.contract.dumps()
            sent = self._pool.submit(
                artifacts.make, row.key, self._onnx_file, text, scratch, calibrated
            )
            self._waiting[row.key] = (sent, scratch)

    def _artifact(self, row: bundle.Format, calibrated: Calibrated | None) -> None:
        job = self._job
        key = job.artifact_key(row)
        self._progress.start(row.key)
        known = job.cache.has(key)

        def build(folder: Path) -> None:
            if row.key in self._waiting:
                sent, scratch = self._waiting[row.key]
                sent.result()
                job.cache.move_into(scratch, folder)
            else:
                text = job.intake.contract.dumps()
                step = self._progress.advance
                artifacts.make(row.key, self._onnx_file, text, folder, calibrated, step)

        self._keep(row.key, known, job.cache.stage(key, build))

    def _keep(self, key: str, known: bool, folder: Path) -> None:
        self.folders[key] = folder
        if known:
            self.cached.append(key)
        self._progress.done("from the cache" if known else "")

    @property
    def _onnx_file(self) -> Path:
        return self.folders["onnx"] / "model.onnx"
