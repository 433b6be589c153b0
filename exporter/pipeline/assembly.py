"""Fill the bundle beside its place, prove it, and put it in place."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter import bundle
from exporter.cache import source_hash, versions
from exporter.pipeline import artifacts, proof
from exporter.pipeline.job import Job
from exporter.pipeline.pixels import ImageSet
from exporter.pipeline.request import Progress
from exporter.pipeline.stages import QUANTIZED, Stages
from exporter.prove.results import ParityReport
from models.atomic import beside

_SAID = ("minimum_runtime", "mixed")  # what the manifest says of a file besides its size


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


def assemble(job: Job, stages: Stages, images: ImageSet | None, progress: Progress) -> Outcome:
    """Fill the bundle beside its place, prove it, and put it in place.

    Args:
        images: of the proof; None takes those of the calibration.
    """
    request, contract, folders = job.request, job.intake.contract, stages.folders
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
        if QUANTIZED in folders:
            shutil.copy(folders[QUANTIZED] / bundle.QUANTIZATION, root)
        sensitivity = folders.get("tflite-mixed", root) / bundle.SENSITIVITY
        if sensitivity.is_file():
            shutil.copyfile(sensitivity, root / bundle.SENSITIVITY)
        (root / bundle.REFERENCE).mkdir()
        job.intake.write_reference(root / job.intake.reference)
        manifest = _manifest(job, records, root)
        bundle.write_manifest(root, manifest)
        report = proof.prove(root, request, images or job.calibration, progress)
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
        seconds=_seconds(job, records),
        cached=tuple(stages.cached),
        left_out=job.chosen.left_out,
        warnings=_warnings(records),
        sizes={row.key: bundle.size_of(staging.target / row.path) for row in job.chosen.formats},
    )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _manifest(job: Job, records: dict[str, Any], root: Path) -> dict[str, Any]:
    packages = sorted({name for names in artifacts.PACKAGES.values() for name in names})
    calibration = None
    if job.calibration is not None and QUANTIZED in records:
        calibration = {**records[QUANTIZED]["calibration"], **job.calibration.record()}
    return {
        "artifacts": {
            row.key: {
                "path": row.path,
                "precision": row.precision,
                "bytes": bundle.size_of(root / row.path),
                **{k: v for k, v in records[row.key].items() if k in _SAID},
            }
            for row in job.chosen.formats
        },
        "left_out": dict(job.chosen.left_out),
        "reference": job.intake.reference,
        **_temperature(job.intake.checkpoint),
        "label_hash": job.intake.contract.label_hash,
        "source_hash": source_hash(),
        "tools": versions(*packages, *job.intake.packages, "pillow"),
        "calibration": calibration,
    }


def _temperature(checkpoint: Any) -> dict[str, float]:
    """What the logits were divided by, where they were."""
    if checkpoint is None or checkpoint.temperature == 1.0:
        return {}
    return {"temperature": checkpoint.temperature}


def _warnings(records: dict[str, Any]) -> tuple[str, ...]:
    """What calibration had to say."""
    return tuple(records.get(QUANTIZED, {}).get("calibration", {}).get("warnings", []))


def _seconds(job: Job, records: dict[str, Any]) -> dict[str, float]:
    """How long each file took; deciding about int8 counts with the first file made from it."""
    found = {key: float(record["seconds"]) for key, record in records.items()}
    shared = found.pop(QUANTIZED, 0.0)
    first = next((row.key for row in job.chosen.formats if row.calibrated), None)
    if first is not None:
        found[first] += shared
    return found
