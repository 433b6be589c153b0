"""What `exporter export` shows: progress while it works, a line a file at the end."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from exporter import bundle
from exporter.pipeline import run
from exporter.pipeline.request import ExportRequest
from exporter.prove.report.page import human_size
from exporter.prove.results import ArtifactResult

_STAGES = {
    "check": "Checking what came in",
    "decode": "Decoding calibration images",
    "onnx": "Writing model.onnx",
    "quantized": "Quantizing to int8",
    "golden": "Recording golden answers",
    "prove": "Proving every file",
    "report": "Writing the report",
}


class Bars:
    """Bars that vanish when the block ends: what is done, how far, and since when."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()


class Steps(Bars):
    """A progress bar for the current stage, and a line for each that is finished."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._stage = ""
        self._began = 0.0

    def start(self, stage: str, total: int | None = None) -> None:
        row = bundle.BY_KEY.get(stage)
        self._stage = _STAGES.get(stage) or (f"Writing {row.path}" if row else stage)
        self._began = time.perf_counter()
        self._bars.add_task(self._stage, total=total)

    def advance(self) -> None:
        for task in self._bars.task_ids:  # one at most: that of the current stage
            self._bars.advance(task)

    def done(self, note: str = "") -> None:
        seconds = time.perf_counter() - self._began
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        tail = f"  [dim]{escape(note)}[/]" if note else ""
        self.console.print(
            f"  {self._stage:<36}[dim]{seconds:6.1f} s[/]{tail}", highlight=False, soft_wrap=True
        )


def show_plan(request: ExportRequest) -> None:
    """Print the stages of an export without running them."""
    console = Console()
    table = Table("stage", "what happens", title=f"Dry run: {request.model} to {request.out}/")
    for planned in run.plan(request):
        what = "from the cache" if planned.cached else "runs"
        if planned.left_out:
            what = f"not made: {escape(planned.left_out)}"
        table.add_row(escape(_STAGES.get(planned.stage, planned.stage)), what)
    console.print(table)
    console.print("Everything that was given is sound; nothing was written.")


def run_and_show(request: ExportRequest) -> int:
    """Run an export and print its result.

    Returns:
        the exit code: 0, or 1 when a gate failed.
    """
    console = Console()
    console.print(f"Exporting [bold]{escape(str(request.model))}[/]", highlight=False)
    with Steps(console) as steps:
        outcome = run.export(request, steps)
    show_outcome(outcome, request, console)
    return 0 if outcome.report.passed else 1


def show_outcome(outcome: run.Outcome, request: ExportRequest, console: Console) -> None:
    """The line per file, what was left out, and what to do next."""
    console.print()
    for artifact in outcome.report.artifacts:
        if artifact.key not in outcome.sizes:
            continue
        cached = artifact.key in outcome.cached
        seconds = "cached" if cached else f"{outcome.seconds[artifact.key]:.2f} s"
        size = human_size(outcome.sizes[artifact.key])
        console.print(
            f"[bold]{artifact.path:<25}[/]{size:>9}{seconds:>9}  {_parity(artifact)}",
            highlight=False,
            soft_wrap=True,
        )
        console.print(
            f"  [dim]{escape(bundle.BY_KEY[artifact.key].use)}[/]", highlight=False, soft_wrap=True
        )
    for key, reason in outcome.left_out:
        console.print(f"not made: {key} ({reason})", highlight=False, markup=False)
    for note in dict.fromkeys((*outcome.warnings, *outcome.report.notes)):
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    console.print()
    report = outcome.folder / bundle.REPORT
    if outcome.report.passed:
        console.print(
            f"[bold green]Wrote {escape(str(outcome.folder))}/[/] "
            f"in {outcome.total_seconds:.1f} s; "
            f"every compared file passes its gates on {outcome.report.images} images.",
            highlight=False,
        )
        console.print(f"Next: open {report}, then 'exporter parity {outcome.folder}' in CI.",
                      highlight=False, markup=False, soft_wrap=True)  # fmt: skip
        return
    kept = f", {escape(str(request.out))}/ was left as it was" if request.out.exists() else ""
    console.print(
        f"[bold red]A gate failed:[/] the files are in {escape(str(outcome.folder))}/{kept}.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Next: open {report} and see which images changed.", highlight=False,
                  markup=False, soft_wrap=True)  # fmt: skip


def _parity(artifact: ArtifactResult) -> str:
    if artifact.status == "not run":
        return f"[yellow]not run[/]: {escape(artifact.reason)}"
    if artifact.status == "failed":
        return f"[red]FAILED[/]: {escape(artifact.reason)}"
    same = f"{100 * (artifact.top1_agreement or 0):.1f} % same"
    how = "evaluated, " if artifact.evidence == "evaluated" else ""
    if artifact.precision == "float32":
        return f"[green]ok[/] {how}{same}, Δp {artifact.max_probability_difference:.0e}"
    decibel = "" if artifact.logit_sqnr_db is None else f", {artifact.logit_sqnr_db:.1f} dB"
    return f"[green]ok[/] {how}{same}{decibel}"
