"""What `exporter parity`, `verify`, `bench` and `doctor` do around the proof itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
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

_ELSEWHERE = "give the path of a file in a folder that exists, may be written and has room"
_WRITERS: Mapping[str, Callable[[ParityReport], str]] = {
    "junit": outputs.junit,
    "markdown": outputs.markdown,
    "json": lambda report: json.dumps(report.to_json(), indent=1) + "\n",
}


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

    Raises:
        UserError: the bundle, images or settings cannot be used, or a file cannot be
            written.
    """
    opened = bundle.open_bundle(folder)
    settings = ParitySettings(
        threads=threads,
        limit=limit,
        gates=with_overrides(gates),
        runtimes=runtimes or None,
        latency=LatencySettings(runs=runs) if runs else None,
        evaluated_limit=evaluated_limit,
    )
    for path in files.values():
        require_writable(path)
    found = list_images(images) if images is not None else []
    console = Console()
    report = _prove(opened, found, images, settings, console)
    console.print(outputs.table(report))
    for kind, path in files.items():
        if path is not None:
            write_result(path, _WRITERS[kind](report), console)
    try:
        outputs.append_to_step_summary(report)
    except UserError as error:  # an extra that nobody asked for: it decides nothing
        console.print(f"Note: {error.what} {error.why}", markup=False, highlight=False)
    return report


def _prove(
    opened: bundle.Bundle,
    found: list[ImageFile],
    images: Path | None,
    settings: ParitySettings,
    console: Console,
) -> ParityReport:
    """`run_parity` under a progress bar."""
    with Progress(
        TextColumn("Proving {task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console, transient=True,
    ) as bar:  # fmt: skip
        count = min(settings.limit or len(found), len(found)) or None
        task = bar.add_task(str(opened.root), total=count)
        watched = replace(settings, on_image=lambda: bar.advance(task))
        return run_parity(opened, found, images, settings=watched)


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
    require_writable(file)
    found = list_images(images) if images is not None else []
    settings = ParitySettings(
        threads=threads, limit=8, evaluated_limit=1, latency=LatencySettings(runs=runs)
    )
    report = run_parity(opened, found, images, settings=settings)
    assert report.latency is not None
    console = Console()
    console.print(outputs.latency_table(report.latency))
    if file is not None:
        write_result(file, json.dumps(report.to_json()["latency"], indent=1) + "\n", console)


def doctor() -> None:
    """Print versions, runtimes and what is missing."""
    from exporter.prove import doctor as doctors

    Console().print(doctors.render(doctors.examine()))


def require_writable(path: Path | None) -> None:
    """Find out before the long work that a result could not be written."""
    if path is None:
        return
    folder = path.resolve().parent
    why = None
    if path.is_dir():
        why = "it is a folder"
    elif not folder.is_dir():
        why = f"there is no folder {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        why = "you have no right to write there"
    if why is not None:
        raise UserError(f"{path} cannot be written.", why, _ELSEWHERE)


def write_result(path: Path, text: str, console: Console) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"{path} cannot be written.", why, _ELSEWHERE) from error
    console.print(f"Wrote {path}", markup=False, highlight=False)
