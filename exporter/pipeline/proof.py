"""The last stages of an export: golden answers, parity, latency, the page."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter import bundle
from exporter.pipeline.pixels import ImageSet
from exporter.pipeline.request import ExportRequest, Progress
from exporter.prove import golden
from exporter.prove.gates import with_overrides
from exporter.prove.latency import LatencySettings
from exporter.prove.opened import open_artifacts, open_reference
from exporter.prove.parity import ParitySettings, run_parity
from exporter.prove.report.page import write_report
from exporter.prove.results import ParityReport
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from models.contract import Contract
from models.images import ImageFile, list_images

PROBES = 8
PROBE_SIZE = 96  # drawn small and enlarged: a quarter of a second less


def prove(
    root: Path, request: ExportRequest, images: ImageSet | None, progress: Progress
) -> ParityReport:
    """Prove the files in `root`, and write golden/ and report.html there.

    Images are those of the request, else the calibration images, else a few drawn
    ones; which of them it was is said in the report.
    """
    opened = bundle.open_bundle(root)
    with _images(images) as (files, folder, note):
        memory = _Memory()
        progress.start("golden")
        with (
            open_reference(opened, request.threads, memory.get) as (reference, _),
            open_artifacts(opened, request.threads, get=memory.get) as artifacts,
        ):
            sessions = {a.row.key: a.session for a in artifacts if a.session is not None}
            golden.write_golden(
                root, files, opened.contract, {golden.REFERENCE_KEY: reference, **sessions}
            )
        progress.done()
        progress.start("prove", len(files))
        settings = replace(
            settings_of(request),
            on_image=progress.advance,
            notes=(note,) if note else (),
        )
        report = run_parity(opened, files, folder, settings=settings, get_runtime=memory.get)
        progress.done("all gates pass" if report.passed else "a gate fails")
        progress.start("report")
        opened.manifest["parity"] = summary(report)
        bundle.write_manifest(root, opened.manifest)
        write_report(bundle.open_bundle(root), report, folder, root / bundle.REPORT)
        progress.done()
    return report


def settings_of(request: ExportRequest) -> ParitySettings:
    """How the proof will be run; made before the long work, so that bad flags end it early.

    Raises:
        UserError: an unknown gate, too few timed runs, no threads.
    """
    return ParitySettings(
        threads=request.threads,
        gates=with_overrides(request.gates),
        latency=LatencySettings(runs=request.latency_runs) if request.latency_runs else None,
        evaluated_limit=request.evaluated_limit,
    )


def summary(report: ParityReport) -> dict[str, Any]:
    """What the manifest keeps of a proof: nothing that differs between two equal runs."""
    return {
        "passed": report.passed,
        "reference": report.reference,
        "images": report.images,
        "artifacts": {
            a.key: {
                "status": a.status,
                "evidence": a.evidence,
                "runtime": a.version,
                "images": a.images,
                "max_probability_difference": a.max_probability_difference,
                "mean_logit_difference": a.mean_logit_difference,
                "logit_sqnr_db": a.logit_sqnr_db,
                "top1_agreement": a.top1_agreement,
                "accuracy": a.accuracy,
                "reference_accuracy": a.reference_accuracy,
            }
            for a in report.artifacts
            if a.status != "not run"
        },
    }


@contextlib.contextmanager
def _images(images: ImageSet | None) -> Iterator[tuple[list[ImageFile], Path, str]]:
    """Images, their folder, and what to say of them beside what their files tell."""
    if images is not None:
        yield list(images.files), images.root, images.note
        return
    from models.data import synthetic

    with tempfile.TemporaryDirectory(prefix="exporter-probes-") as name:
        folder = Path(name) / "drawn probes"
        synthetic.draw_dataset(folder, per_class=1, seed=0, size=PROBE_SIZE)
        drawn = [ImageFile(file.path) for file in list_images(folder)][:PROBES]
        yield drawn, folder, (
            f"{PROBES} drawn pictures, which this model may never have been made for: "
            "they prove the arithmetic, not the accuracy; give --images for a real proof"
        )  # fmt: skip


class _Memory:
    """Runtimes whose evaluated sessions remember their answers.

    Evaluating a Core ML file takes a few tenths of a second an image, and the golden
    images are among the images of the proof. Sessions that are run, and so may be
    timed, are passed through as they are.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[Path, bytes], Probabilities] = {}

    def get(self, name: str) -> Runtime:
        runtime = registry.get(name)
        return _Remembering(runtime, self._answers) if runtime.evidence == "evaluated" else runtime


class _Remembering(Runtime):
    """A runtime that opens `_RememberingSession`s."""

    def __init__(self, inner: Runtime, answers: dict[tuple[Path, bytes], Probabilities]) -> None:
        self._inner, self._answers = inner, answers
        self.name, self.evidence, self.timed = inner.name, inner.evidence, inner.timed

    def unavailable(self) -> str | None:
        return self._inner.unavailable()

    def version(self) -> str:
        return self._inner.version()

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        session = self._inner.open(path, contract, threads)
        return _RememberingSession(session, path, self._answers)


class _RememberingSession(Session):
    """Asks the session behind it once an image."""

    def __init__(
        self, inner: Session, path: Path, answers: dict[tuple[Path, bytes], Probabilities]
    ) -> None:
        self._inner, self._path, self._answers = inner, path, answers
        self.any_thread = inner.any_thread

    def probabilities(self, pixels: Pixels) -> Probabilities:
        key = (self._path, pixels.tobytes())
        if key not in self._answers:
            self._answers[key] = self._inner.probabilities(pixels)
        return self._answers[key]

    def labels(self) -> tuple[str, ...] | None:
        return self._inner.labels()

    def close(self) -> None:
        self._inner.close()
