"""`exporter export`: the stages in order, each run only when its inputs changed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter import bundle
from exporter.cache import Cache, digest, source_hash, versions
from exporter.pipeline import artifacts, pixels, proof
from exporter.pipeline.intake import Intake, take_in
from exporter.pipeline.request import (
    Chosen,
    ExportRequest,
    Progress,
    check_out,
    choose_formats,
)
from exporter.prove.results import ParityReport
from models.atomic import beside
from models.errors import UserError
from models.images import check_images

_WORKERS = {"coreml": "coremltools", "tensorflow": "tensorflow"}  # runtime: heavy import


@dataclass(frozen=True)
class Planned:
    """One stage of a dry run.

    Attributes:
        cached: whether the cache holds it already.
        left_out: why it will not be made, or ''.
    """

    stage: str
    cached: bool
    left_out: str = ""


@dataclass(frozen=True)
class Outcome:
    """What an export did.

    Attributes:
        folder: where the bundle is: the request's `out`, or beside it with the
            ending '.failed' when a gate failed.
        seconds: the time that making each artifact took, by key (of the run that
            made it, where it came from the cache).
        cached: the keys that came from the cache.
        left_out: formats that were not made, with the reason.
        warnings: things a person should know that are no errors.
    """

    folder: Path
    report: ParityReport
    seconds: dict[str, float]
    cached: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()
    total_seconds: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """A checked request: what will be made, from what, under which cache keys."""

    request: ExportRequest
    chosen: Chosen
    intake: Intake
    calibration: pixels.ImageSet | None
    images: pixels.ImageSet | None
    cache: Cache
    onnx_key: str
    pixels_key: str | None

    def artifact_key(self, row: bundle.Format) -> str:
        return digest(
            "artifact", source_hash(), row.key, self.onnx_key,
            (self.pixels_key, self.request.quantizer) if row.key == "tflite-int8" else None,
            versions(*artifacts.PACKAGES[row.runtime]),
        )  # fmt: skip


def plan(request: ExportRequest) -> list[Planned]:
    """What `export` would do: every check, no work, nothing written."""
    with _checked(request) as job:
        stages = [Planned("onnx", job.cache.has(job.onnx_key))]
        if job.pixels_key is not None:
            stages.insert(0, Planned("decode", job.cache.has(job.pixels_key)))
        stages += [
            Planned(row.key, job.cache.has(job.artifact_key(row)))
            for row in job.chosen.formats
            if row.key != "onnx"
        ]
        stages += [Planned(key, False, reason) for key, reason in job.chosen.left_out]
        stages += [Planned("prove", False), Planned("report", False)]
    return stages


def export(request: ExportRequest, progress: Progress) -> Outcome:
    """Make the bundle and prove it.

    A bundle whose gates fail is written to `<out>.failed` and what was at `out`
    stays as it is.

    Raises:
        UserError: anything that the user can mend; nothing has been written then.
    """
    started = time.perf_counter()
    progress.start("check")
    try:
        with _checked(request) as job, _pool(job) as pool:
            progress.done(_what_came_in(job))
            folders, cached = _make_all(job, pool, progress)
            outcome = _assemble(job, folders, cached, progress)
            job.cache.prune()
    except OSError as error:
        raise _disk_error(error, request) from error
    except BrokenProcessPool as error:
        raise UserError(
            "The process that writes Core ML and TensorFlow files was killed.",
            "the system does that when memory runs out",
            "close other programs, or leave formats out with --formats",
        ) from error
    return dataclasses.replace(outcome, total_seconds=time.perf_counter() - started)


def _disk_error(error: OSError, request: ExportRequest) -> BaseException:
    where = error.filename or request.out
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(
            f"The disk is full while writing {where}.",
            "an export needs about ten times the size of the model for a while",
            f"free some space or choose another --out; {request.out} is as it was",
        )
    if error.errno is not None:
        return UserError(
            f"{where} cannot be read or written.",
            error.strerror or str(error),
            "check that path and its folder, or choose another --out or --cache",
        )
    return error


@contextlib.contextmanager
def _checked(request: ExportRequest) -> Iterator[_Job]:
    chosen = choose_formats(request.formats, request.calibration is not None)
    check_out(request.out, request.force)
    proof.settings_of(request)
    calibration = images = None
    if request.calibration is not None:
        calibration = pixels.choose(request.calibration, request.calibration_limit)
    if request.images is not None:
        images = pixels.choose(request.images, request.images_limit)
        check_images([file.path for file in images.files])
    intake = take_in(request)
    cache = Cache(request.cache)
    rule = intake.contract.preprocessing
    onnx_key = digest(
        "onnx", source_hash(), intake.identity, intake.contract.to_json(),
        request.architecture, dict(request.options), versions(*intake.packages),
    )  # fmt: skip
    pixels_key = None
    if calibration is not None and any(row.key == "tflite-int8" for row in chosen.formats):
        pixels_key = digest(
            "pixels", source_hash(), calibration.hashes, dataclasses.asdict(rule),
            versions("pillow"),
        )  # fmt: skip
    try:
        yield _Job(request, chosen, intake, calibration, images, cache, onnx_key, pixels_key)
    finally:
        cache.close()


@contextlib.contextmanager
def _pool(job: _Job) -> Iterator[ProcessPoolExecutor | None]:
    """Processes for the formats with heavy libraries, importing them already."""
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


def _make_all(
    job: _Job, pool: ProcessPoolExecutor | None, progress: Progress
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Every artifact's folder in the cache, and which of them were there already."""
    pixels_file = _decode(job, progress)
    progress.start("onnx")
    known = job.cache.has(job.onnx_key)
    seconds = time.perf_counter()

    def build_onnx(folder: Path) -> None:
        job.intake.write_onnx(folder / "model.onnx")
        took = round(time.perf_counter() - seconds, 3)
        (folder / artifacts.RECORD).write_text(json.dumps({"seconds": took}), encoding="utf-8")

    folders = {"onnx": job.cache.stage(job.onnx_key, build_onnx)}
    progress.done("from the cache" if known else "")
    cached = ["onnx"] if known else []
    onnx = folders["onnx"] / "model.onnx"
    text = job.intake.contract.dumps()
    waiting: dict[str, Future[None]] = {}
    building: dict[str, Path] = {}
    rows = [row for row in job.chosen.formats if row.key != "onnx"]
    for row in rows:
        if job.cache.has(job.artifact_key(row)):
            cached.append(row.key)
        elif pool is not None and row.runtime in _WORKERS:
            job.cache.root.mkdir(parents=True, exist_ok=True)
            building[row.key] = job.cache.scratch()
            waiting[row.key] = pool.submit(
                artifacts.make, row.key, onnx, text, None, building[row.key]
            )
    for row in sorted(rows, key=lambda row: row.key in waiting):
        progress.start(row.key)

        def build(folder: Path, row: bundle.Format = row) -> None:
            if row.key in waiting:
                waiting[row.key].result()
                job.cache.move_into(building[row.key], folder)
            else:
                artifacts.make(row.key, onnx, text, pixels_file, folder, job.request.quantizer)

        folders[row.key] = job.cache.stage(job.artifact_key(row), build)
        progress.done("from the cache" if row.key in cached else "")
    return folders, tuple(cached)


def _decode(job: _Job, progress: Progress) -> Path | None:
    """The decoded calibration images, where a format needs them."""
    if job.pixels_key is None or job.calibration is None:
        return None
    images = job.calibration
    progress.start("decode", len(images.files))

    def build(folder: Path) -> None:
        rule = job.intake.contract.preprocessing
        pixels.decode(images, rule, folder / "pixels.npy", progress.advance)

    known = job.cache.has(job.pixels_key)
    folder = job.cache.stage(job.pixels_key, build)
    progress.done("from the cache" if known else f"{len(images.files)} calibration images")
    return folder / "pixels.npy"


def _what_came_in(job: _Job) -> str:
    contract = job.intake.contract
    rule = contract.preprocessing
    return (
        f"{contract.architecture}, {len(contract.labels)} classes, "
        f"{rule.width} x {rule.height} pixels"
    )


def _assemble(
    job: _Job, folders: dict[str, Path], cached: tuple[str, ...], progress: Progress
) -> Outcome:
    """Fill the bundle beside its place, prove it, and put it in place."""
    request, contract = job.request, job.intake.contract
    records = {
        key: json.loads((folder / artifacts.RECORD).read_text(encoding="utf-8"))
        for key, folder in folders.items()
    }
    with beside(request.out) as staging:
        root = staging.folder
        for row in job.chosen.formats:
            _copy(folders[row.key] / row.path, root / row.path)
        (root / bundle.CONTRACT).write_text(contract.dumps(), encoding="utf-8")
        (root / bundle.LABELS).write_text("\n".join(contract.names) + "\n", encoding="utf-8")
        (root / bundle.REFERENCE).mkdir()
        job.intake.write_reference(root / job.intake.reference)
        manifest = _manifest(job, records, root)
        bundle.write_manifest(root, manifest)
        report = proof.prove(root, request, job.images or job.calibration, progress)
        manifest["parity"] = proof.summary(report)
        bundle.write_manifest(root, manifest)
        if not report.passed:
            staging.target = request.out.with_name(request.out.name + ".failed")
    failed = request.out.with_name(request.out.name + ".failed")
    if report.passed and (failed / bundle.MANIFEST).is_file():
        shutil.rmtree(failed, ignore_errors=True)
    return Outcome(
        folder=staging.target,
        report=report,
        seconds={key: float(record["seconds"]) for key, record in records.items()},
        cached=cached,
        left_out=job.chosen.left_out,
        warnings=_warnings(records),
        sizes={row.key: bundle.size_of(staging.target / row.path) for row in job.chosen.formats},
    )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _manifest(job: _Job, records: dict[str, Any], root: Path) -> dict[str, Any]:
    packages = sorted({name for names in artifacts.PACKAGES.values() for name in names})
    calibration = None
    if job.calibration is not None and "tflite-int8" in records:
        calibration = {
            **records["tflite-int8"].get("calibration", {}),
            **job.calibration.record(),
        }
    return {
        "artifacts": {
            row.key: {
                "path": row.path,
                "precision": row.precision,
                "bytes": bundle.size_of(root / row.path),
                **{k: v for k, v in records[row.key].items() if k == "minimum_runtime"},
            }
            for row in job.chosen.formats
        },
        "left_out": dict(job.chosen.left_out),
        "reference": job.intake.reference,
        "label_hash": job.intake.contract.label_hash,
        "source_hash": source_hash(),
        "tools": versions(*packages, *job.intake.packages, "pillow"),
        "calibration": calibration,
    }


def _warnings(records: dict[str, Any]) -> tuple[str, ...]:
    """What calibration had to say."""
    return tuple(records.get("tflite-int8", {}).get("calibration", {}).get("warnings", []))
