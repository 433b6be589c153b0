"""Rows as tables for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from bench.int8.figures import DRAWS, SEED, Estimate
from bench.int8.rows import SIMULATED, FoldFigures, Row

FIDELITY = ("quantizer", "phone file", "logit SQNR, dB", "to our default, dB",
            "mean abs logit error", "to our default", "agreement", "top-1",
            "drop, points")  # fmt: skip
COST = ("quantizer", "version", "s to quantize", "processor s", "file, MB", "installed, MB", "ms",
        "x TFLiteConverter's")  # fmt: skip
FOLDS = ("quantizer", "logit SQNR, dB", "mean abs logit error", "agreement", "top-1",
         "drop, points")  # fmt: skip
# (figure, goal, whether more is better) of issue-given goals for ImageNet, by row key
GOALS: Mapping[str, tuple[tuple[str, float, bool], ...]] = {
    "default": (("sqnr", 23, True), ("error", 0.165, False), ("agreement", 0.97, True),
                ("drop", 0.5, False)),
    "distill": (("sqnr", 25, True), ("error", 0.13, False), ("agreement", 0.975, True),
                ("drop", 0.5, False)),
    "mixed": (("sqnr", 27, True), ("error", 0.11, False), ("agreement", 0.985, True),
              ("drop", 0.2, False)),
}  # fmt: skip
GOAL_HEAD = ("quantizer", "figure", "goal", "measured", "reached")
_DIGITS = {"sqnr": 2, "error": 3, "agreement": 4, "top1": 4, "drop": 2}
NONE = "-"

Lines = list[tuple[str, ...]]


def interval(found: Estimate | None, digits: int, signed: bool = False) -> str:
    """'23.70 (23.41 to 23.99)', or a dash."""
    if found is None:
        return NONE
    sign = "+" if signed else ""
    value, low, high = (f"{one:{sign}.{digits}f}" for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def fidelity_lines(rows: Sequence[Row]) -> Lines:
    lines: Lines = []
    for row in rows:
        kind = "yes" if row.writes else SIMULATED
        if row.figures is None:
            lines.append((row.label, kind, f"not run: {row.not_run}", *[NONE] * 6))
            continue
        found = row.figures
        label = row.label
        if found.not_finite:
            label += f" ({found.not_finite} images not finite)"
        lines.append((
            label, kind, interval(found.sqnr, 2), interval(row.sqnr_to_ours, 2, True),
            interval(found.error, 3), interval(row.error_to_ours, 3, True),
            interval(found.agreement, 3), interval(found.top1, 3), interval(found.drop, 2),
        ))  # fmt: skip
    return lines


def cost_lines(rows: Sequence[Row]) -> Lines:
    return [
        (
            row.label, row.version or NONE, _number(row.seconds, 1), _number(row.cpu_seconds, 1),
            _number(row.megabytes, 3),
            _number(row.installed_mb, 0), _number(row.latency_ms, 2),
            _number(row.latency_ratio, 3),
        )
        for row in rows
        if row.figures is not None
    ]  # fmt: skip


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def goal_lines(rows: Sequence[Row]) -> Lines:
    """Whether ours reach their goals; a quantizer that was not run reaches none."""
    lines: Lines = []
    for row in rows:
        for name, goal, more in GOALS.get(row.key, ()):
            said = f"{'>=' if more else '<='} {goal:g}"
            if row.figures is None:
                lines.append((row.label, name, said, "not run", "no"))
                continue
            value = getattr(row.figures, name).value
            reached = value >= goal if more else value <= goal
            lines.append((row.label, name, said, f"{value:.{_DIGITS[name]}f}",
                          "yes" if reached else "no"))  # fmt: skip
    return lines


def fold_lines(found: Mapping[str, Mapping[str, FoldFigures]]) -> Lines:
    return [
        (label, *(_fold(of[name], _DIGITS[name]) for name in _DIGITS))
        for label, of in found.items()
    ]


def _fold(found: FoldFigures, digits: int) -> str:
    return (f"{found.mean:.{digits}f} ± {found.deviation:.{digits}f} "
            f"({found.low:.{digits}f} to {found.high:.{digits}f})")  # fmt: skip


def terminal(title: str, head: Sequence[str], lines: Lines) -> Table:
    table = Table(*head, title=title)
    for line in lines:
        table.add_row(*line)
    return table


def markdown(head: Sequence[str], lines: Lines) -> str:
    """A table in GitHub's Markdown."""
    cells = [tuple(head), tuple("---" for _ in head), *lines]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n"
        for line in cells
    )


def write_json(
    path: Path,
    task: str,
    rows: Sequence[Row],
    folds: Mapping[str, Mapping[str, FoldFigures]] | None = None,
) -> None:
    """Everything that was measured, unrounded; a row that was not run has no figures."""
    content = {
        "task": task,
        "bootstrap": {"draws": DRAWS, "seed": SEED, "level": 0.95},
        "rows": [asdict(row) for row in rows],
        "folds": {
            label: {name: asdict(one) for name, one in of.items()}
            for label, of in (folds or {}).items()
        },
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
