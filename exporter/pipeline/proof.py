"""The last stages of an export: golden answers, parity, latency, the page."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from exporter import bundle
from exporter.pipeline.pixels import ImageSet
from exporter.pipeline.request import ExportRequest, Progress
from exporter.prove import golden
from exporter.prove.gates import with_overrides
from exporter.prove.imageset import evenly
from exporter.prove.latency import LatencySettings
from exporter.prove.opened import open_artifacts, open_reference
from exporter.prove.parity import ParitySettings, run_parity
from exporter.prove.report.page import write_report
from exporter.prove.results import ParityReport
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Integers, Pixels, Probabilities, Runtime, Session
from models.contract import Contract
from models.images import ImageFile, list_images, load_pixels

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
    with (
        _images(images) as (files, folder, note),
        _Memory(_foreseen(files, opened.contract, request.evaluated_limit)) as memory,
    ):
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
        **({"answers": "several"} if report.several else {}),
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


def _foreseen(
    files: Sequence[ImageFile], contract: Contract, limit: int | None
) -> tuple[Pixels, ...]:
    """What evaluated files will be asked: the golden images, and `limit` of the proof's."""
    if limit is None:
        return ()
    wanted = [*golden.choose(files), *(files[place] for place in evenly(len(files), limit))]
    paths = dict.fromkeys(file.path for file in wanted)
    return tuple(load_pixels(path, contract.preprocessing) for path in paths)


class _Memory:
    """Runtimes that open a file once for the golden answers and the proof; a context manager.

    Evaluating a Core ML file takes a few tenths of a second an image and as much memory as
    its weights in float32. So such a file is asked for all images that are foreseen as soon
    as it is opened, and let go: what counts is the largest file, not their sum.

    Args:
        foreseen: images, uint8 `[H, W, 3]`.
    """

    def __init__(self, foreseen: Sequence[Pixels] = ()) -> None:
        self.foreseen = tuple(foreseen)
        self._sessions: dict[tuple[str, Path], Session] = {}

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions.values():
            session.close()

    def get(self, name: str) -> Runtime:
        return _Remembering(registry.get(name), self)

    def session(self, name: str, path: Path, make: Callable[[], Session]) -> Session:
        """The session of a file, opened now or before."""
        key = (name, path)
        if key not in self._sessions:
            self._sessions[key] = make()
        return self._sessions[key]


class _Remembering(Runtime):
    """A runtime that opens a file once; of files that are evaluated it keeps the answers."""

    def __init__(self, inner: Runtime, memory: _Memory) -> None:
        self._inner, self._memory = inner, memory
        self.name, self.evidence, self.timed = inner.name, inner.evidence, inner.timed
        self.counterpart, self.usual_images = inner.counterpart, inner.usual_images

    def unavailable(self) -> str | None:
        return self._inner.unavailable()

    def version(self) -> str:
        return self._inner.version()

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        def make() -> Session:
            inner = self._inner.open(path, contract, threads)
            if self.evidence != "evaluated":
                return inner
            again = partial(self._inner.open, path, contract, threads)
            return _RememberingSession(inner, again, self._memory.foreseen)

        return _Kept(self._memory.session(self.name, path, make))


class _Kept(Session):
    """A session that stays open when it is closed: it will be wanted again."""

    def __init__(self, inner: Session) -> None:
        self._inner, self.any_thread = inner, inner.any_thread

    def probabilities(self, pixels: Pixels) -> Probabilities:
        return self._inner.probabilities(pixels)

    def integers(self, pixels: Pixels) -> Integers | None:
        return self._inner.integers(pixels)

    def labels(self) -> tuple[str, ...] | None:
        return self._inner.labels()


class _RememberingSession(Session):
    """Asks the session behind it once an image, and lets it go when it knows what is foreseen."""

    def __init__(
        self, inner: Session, again: Callable[[], Session], foreseen: Sequence[Pixels]
    ) -> None:
        self._inner: Session | None = inner
        self._again, self._labels = again, inner.labels()
        self.any_thread = inner.any_thread
        self._answers: dict[bytes, Probabilities] = {}
        for pixels in foreseen:
            self.probabilities(pixels)
        if foreseen:
            self.close()

    def probabilities(self, pixels: Pixels) -> Probabilities:
        key = pixels.tobytes()
        if key not in self._answers:
            self._inner = self._inner or self._again()
            self._answers[key] = self._inner.probabilities(pixels)
        return self._answers[key]

    def labels(self) -> tuple[str, ...] | None:
        return self._labels

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
        self._inner = None
