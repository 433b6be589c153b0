"""GitHub-flavoured Markdown, for pull requests and the job summary of GitHub Actions."""

from __future__ import annotations

import html
import os
from pathlib import Path

from exporter.prove.outputs import wording
from exporter.prove.results import ArtifactResult, Latency, ParityReport
from models.errors import UserError

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
_FLIPS = 20
_MARKS = {"passed": "✅ passed", "FAILED": "❌ FAILED", "not run": "⚪ not run"}


def markdown(report: ParityReport) -> str:
    """The report as Markdown: verdict, table, what failed, flips folded away, latency."""
    lines = [
        f"## Parity: {_escape(wording.verdict(report))}",
        "",
        _escape(wording.scope(report)),
        "",
        "| " + " | ".join(wording.columns(report)) + " |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        "| " + " | ".join(map(_escape, wording.reference_cells(report))) + " |",
    ]
    for artifact in report.artifacts:
        row = [_MARKS.get(cell, _escape(cell)) for cell in wording.cells(artifact)]
        lines.append("| " + " | ".join(row) + " |")
    lines.append("")
    for artifact in report.artifacts:
        lines += _failures(artifact)
    lines += [f"- {_escape(said)}" for said in map(wording.versus, report.artifacts) if said]
    for reason, keys in wording.not_run(report).items():
        lines.append(f"- not run: {_escape(', '.join(keys))}: {_escape(reason)}")
    lines += [f"- {_escape(note)}" for note in report.notes]
    for artifact in report.artifacts:
        lines += _flips(artifact)
    for latency in (report.latency, *report.device_latencies):
        lines += _latency(latency) if latency is not None else []
    return "\n".join(lines).rstrip() + "\n"


def append_to_step_summary(report: ParityReport) -> bool:
    """Add the Markdown to the file that GitHub Actions names in its environment.

    Returns:
        False where there is no such environment.

    Raises:
        UserError: the file cannot be written.
    """
    name = os.environ.get(STEP_SUMMARY)
    if not name:
        return False
    try:
        with Path(name).open("a", encoding="utf-8") as stream:
            stream.write(markdown(report) + "\n")
    except OSError as error:
        raise UserError(
            f"The job summary {name} cannot be written.",
            error.strerror or str(error),
            f"unset {STEP_SUMMARY}, or point it at a file in a folder that exists",
        ) from error
    return True


def _failures(artifact: ArtifactResult) -> list[str]:
    if artifact.status != "failed":
        return []
    bad = [check for check in artifact.gates if not check.passed]
    if not bad:
        return [f"- **{_escape(artifact.title)}**: {_escape(artifact.reason)}"]
    return [f"- **{_escape(artifact.title)}**: {_escape(wording.gate(check))}" for check in bad]


def _flips(artifact: ArtifactResult) -> list[str]:
    if not artifact.flipped:
        return []
    count = len(artifact.flipped)
    lines = [
        "",
        f"<details><summary>{_escape(artifact.title)}: {count} answers changed</summary>",
        "",
    ]
    lines += [f"- {_escape(wording.flip(flip))}" for flip in artifact.flipped[:_FLIPS]]
    if count > _FLIPS:
        lines.append(f"- and {count - _FLIPS} more")
    return [*lines, "", "</details>"]


def _latency(latency: Latency) -> list[str]:
    lines = [
        "",
        f"### Latency on {_escape(latency.device)}, {latency.threads} thread(s), batch 1",
        "",
        f"| file | runtime | median ms | p90 ms | {_ratio(latency)} | runs |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {timed.key} | {_escape(timed.runtime)} | {timed.median_ms:.2f} | {timed.p90_ms:.2f} "
        f"| {timed.ratio:.2f} | {timed.runs} |"
        for timed in latency.results
    ]
    for reason, keys in wording.not_timed(latency).items():
        lines += ["", f"not timed: {_escape(', '.join(keys))}: {_escape(reason)}"]
    return lines


def _ratio(latency: Latency) -> str:
    return f"to {latency.relative_to}" if latency.relative_to else "ratio"


def _escape(text: str) -> str:
    """Names come from files: they must not end a table cell or open a tag."""
    flat = html.escape(" ".join(text.split()), quote=False)
    for mark in ("\\", "|", "`", "*", "_", "[", "]"):
        flat = flat.replace(mark, "\\" + mark)
    return flat
