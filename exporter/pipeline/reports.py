"""What `exporter parity`, `verify`, `bench` and `doctor` do around the proof itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from exporter import bundle
from exporter.prove import outputs
from exporter.prove.gates import with_overrides
from exporter.prove.latency import LatencySettings
from exporter.prove.parity import ParitySettings, run_parity
from exporter.prove.results import ParityReport
from models.errors import UserError
from models.images import ImageFile, list_images


def parity(
    folder: Path,
    images: Path | None,
    *,
    limit: int | None,
    evaluated_limit: int | None,
    runtimes: tuple[str, ...],
    gates: tuple[str, ...],
    threads: int,
    runs: int,
    files: Mapping[str, Path | None],
) -> ParityReport:
    """Prove a bundle and write the result wherever it was asked for.

    Args:
        files: paths by kind: 'junit', 'markdown', 'json'; None leaves one out.
    """
    opened = bundle.open_bundle(folder)
    limits = with_overrides(gates)
    for path in files.values():
        _require_writable(path)
    found: list[ImageFile] = list_images(images) if images is not None else []
    console = Console()
    with Progress(
        TextColumn("Proving {task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console, transient=True,
    ) as bar:  # fmt: skip
        count = min(limit or len(found), len(found)) or None
        task = bar.add_task(str(folder), total=count)
        settings = ParitySettings(
            threads=threads,
            limit=limit,
            gates=limits,
            runtimes=None if not runtimes or "all" in runtimes else runtimes,
            latency=LatencySettings(runs=runs) if runs else None,
            evaluated_limit=evaluated_limit,
            on_image=lambda: bar.advance(task),
        )
        report = run_parity(opened, found, images, settings=settings)
    console.print(outputs.table(report))
    writers = {
        "junit": outputs.junit,
        "markdown": outputs.markdown,
        "json": lambda found: json.dumps(found.to_json(), indent=1) + "\n",
    }
    for kind, path in files.items():
        if path is not None:
            path.write_text(writers[kind](report), encoding="utf-8")
            console.print(f"Wrote {path}", markup=False, highlight=False)
    outputs.append_to_step_summary(report)
    return report


def verify(folder: Path) -> int:
    """Print what `prove.verify` found; the exit code: 0, or 1 when something is wrong."""
    from exporter.prove import verify as verifying

    findings = verifying.verify(folder)
    console = Console()
    console.print(outputs.findings_table(findings))
    return 1 if any(finding.status == "failed" for finding in findings) else 0


def bench(folder: Path, images: Path | None, *, threads: int, runs: int, file: Path | None) -> None:
    """Print the latency of every file of a bundle, measured interleaved."""
    opened = bundle.open_bundle(folder)
    _require_writable(file)
    found = list_images(images) if images is not None else []
    settings = ParitySettings(
        threads=threads, limit=8, evaluated_limit=1, latency=LatencySettings(runs=runs)
    )
    report = run_parity(opened, found, images, settings=settings)
    assert report.latency is not None
    console = Console()
    console.print(outputs.latency_table(report.latency))
    if file is not None:
        file.write_text(json.dumps(report.to_json()["latency"], indent=1) + "\n", encoding="utf-8")
        console.print(f"Wrote {file}", markup=False, highlight=False)


def doctor() -> None:
    """Print versions, runtimes and what is missing."""
    from exporter.prove import doctor as doctors

    Console().print(doctors.render(doctors.examine()))


def _require_writable(path: Path | None) -> None:
    """Find out before the long work that a result could not be written."""
    if path is None:
        return
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise UserError(
            f"{path} cannot be written.",
            "it is a folder" if path.is_dir() else f"there is no folder {path.resolve().parent}",
            "give the path of a file in a folder that exists",
        )
