"""Tables for the terminal; all fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from exporter.prove import latency as latencies
from exporter.prove.outputs import wording
from exporter.prove.results import Latency, ParityReport
from exporter.prove.verify import Finding

_STYLES = {
    "passed": "green",
    "ok": "green",
    "FAILED": "bold red",
    "failed": "bold red",
    "not run": "yellow",
}
_LISTED = 5


def table(report: ParityReport) -> RenderableType:
    """The parity table with what failed, what was not run, notes, latency and a verdict."""
    grid = _grid(wording.columns(report), left=3)
    grid.add_row(*map(_cell, wording.reference_cells(report)))
    for artifact in report.artifacts:
        grid.add_row(*map(_cell, wording.cells(artifact)))
    parts: list[RenderableType] = [Text(wording.scope(report)), Text(""), grid, Text("")]
    for artifact in report.artifacts:
        bad = [check for check in artifact.gates if not check.passed]
        if artifact.status == "failed" and not bad:
            parts.append(Text(f"{artifact.title}: {artifact.reason}", "red"))
        parts += [Text(f"{artifact.title}: {wording.gate(check)}", "red") for check in bad]
        if bad and artifact.worst:
            names = ", ".join(image.image for image in artifact.worst[:_LISTED])
            parts.append(Text(f"  worst images: {names}"))
    parts += [Text(said) for said in map(wording.versus, report.artifacts) if said is not None]
    for reason, keys in wording.not_run(report).items():
        parts.append(Text(f"not run: {', '.join(keys)}: {reason}", "yellow"))
    timings = [*([report.latency] if report.latency is not None else []), *report.device_latencies]
    for measured in timings:
        parts += [Text(""), latency_table(measured, note=False)]
    parts += [Text("")] if timings else []
    parts += [Text(f"note: {note}", "dim") for note in report.notes]
    parts.append(Text(wording.verdict(report), "bold green" if report.passed else "bold red"))
    return Group(*parts)


def latency_table(latency: Latency, note: bool = True) -> RenderableType:
    """Median, 90th percentile and ratio to the reference, in milliseconds."""
    ratio = f"to {latency.relative_to}" if latency.relative_to else "ratio"
    grid = _grid(("file", "runtime", "median", "p90", ratio, "runs"), left=2)
    for timed in latency.results:
        grid.add_row(
            timed.key,
            Text(timed.runtime),
            f"{timed.median_ms:.2f} ms",
            f"{timed.p90_ms:.2f} ms",
            f"{timed.ratio:.2f}",
            str(timed.runs),
        )
    where = f"{latency.device}, {latency.threads} thread(s), batch 1, {latency.warmup} warm-up"
    parts: list[RenderableType] = [Text(where), grid]
    for reason, keys in wording.not_timed(latency).items():
        parts.append(Text(f"not timed: {', '.join(keys)}: {reason}", "yellow"))
    if note:
        parts.append(Text(f"note: {latencies.NOTE}", "dim"))
    return Group(*parts)


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """What `verify` found: a row a check, then how to mend what failed."""
    grid = _grid(("file", "check", "status", "found"), left=4)
    for finding in findings:
        grid.add_row(
            Text(finding.subject), finding.check, _cell(finding.status), Text(finding.what)
        )
    failed = [finding for finding in findings if finding.status == "failed"]
    skipped = [finding for finding in findings if finding.status == "not run"]
    parts: list[RenderableType] = [grid, Text("")]
    mends = dict.fromkeys(finding.mend for finding in failed if finding.mend)
    parts += [Text(f"to mend it: {mend}") for mend in mends]
    tail = f", {len(skipped)} not run" if skipped else ""
    parts.append(
        Text(f"{len(failed)} of {len(findings)} checks failed{tail}", "bold red")
        if failed
        else Text(f"{len(findings) - len(skipped)} checks passed{tail}", "bold green")
    )
    return Group(*parts)


def _grid(columns: Sequence[str], left: int) -> Table:
    grid = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for place, name in enumerate(columns):
        justify: JustifyMethod = "left" if place < left else "right"
        grid.add_column(name, justify=justify, overflow="fold", no_wrap=place == 0)
    return grid


def _cell(text: str) -> Text:
    return Text(text, _STYLES.get(text, ""))
