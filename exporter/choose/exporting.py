"""A trained candidate through the pipeline: its files, their sizes, what they answer.

A gate that fails is a finding here, not an error: the bundle then lies in `dist.failed`,
and the figures count all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from exporter import bundle
from exporter.cache import digest, source_hash, versions
from exporter.choose.photographs import Photographs
from exporter.pipeline import artifacts, run
from exporter.pipeline.request import ExportRequest, Progress
from exporter.prove.results import ParityReport

DIST = "dist"


@dataclass(frozen=True)
class Exported:
    """What an export of a candidate gave.

    Attributes:
        folder: of the bundle, by name: 'dist', or 'dist.failed' where a gate failed.
        sizes: bytes by format key.
        accuracy: top-1 on the test images by format key, and 'torch'.
        agreement: share of the test images with PyTorch's first answer, by format key.
        gates_failed: format keys whose gate failed, with the reason.
        images: how many test images there were.
    """

    folder: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    accuracy: Mapping[str, float] = field(default_factory=dict)
    agreement: Mapping[str, float] = field(default_factory=dict)
    gates_failed: Mapping[str, str] = field(default_factory=dict)
    images: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def key_of(
    checkpoint: Path, photographs: Photographs, formats: tuple[str, ...], threads: int
) -> str:
    """sha256 (hex) over all that decides a candidate's files and their accuracy."""
    packages = {name for names in artifacts.PACKAGES.values() for name in names}
    return digest(
        "export", source_hash(), checkpoint, photographs.identity, formats, threads,
        versions("torch", "torchvision", "pillow", *sorted(packages)),
    )  # fmt: skip


def export(
    checkpoint: Path,
    folder: Path,
    images: tuple[Path, Path],
    formats: tuple[str, ...],
    stages: Path,
    threads: int,
    progress: Progress,
) -> Exported:
    """Write a candidate's files and prove them on the test images.

    Args:
        folder: the candidate's; `dist` or `dist.failed` appears in it.
        images: the folders of the training images, which calibrate, and of the test images.
        stages: the cache of finished stages.

    Raises:
        UserError: an operator that no target takes, a full disk, too few images.
    """
    request = ExportRequest(
        model=checkpoint,
        out=folder / DIST,
        formats=formats,
        calibration=images[0],
        images=images[1],
        cache=stages,
        threads=threads,
        latency_runs=0,  # all candidates are timed together, at the end
        allow_few_images=True,
        force=True,
    )
    made = run.export(request, progress)
    return Exported(made.folder.name, dict(made.sizes), *_found(made.report))


def _found(
    report: ParityReport,
) -> tuple[dict[str, float], dict[str, float], dict[str, str], int]:
    """Accuracy, agreement and failed gates of a proof, and how many images it had."""
    accuracy: dict[str, float] = {}
    agreement: dict[str, float] = {}
    failed: dict[str, str] = {}
    if report.reference_accuracy is not None:
        accuracy["torch"] = report.reference_accuracy
    for row in report.artifacts:
        if row.status == "not run" or row.key not in bundle.BY_KEY:
            continue
        if row.status == "failed":
            failed[row.key] = row.reason
        if row.accuracy is not None and row.images == report.images:
            accuracy[row.key] = row.accuracy
        if row.top1_agreement is not None and row.images == report.images:
            agreement[row.key] = row.top1_agreement
    return accuracy, agreement, failed, report.images
