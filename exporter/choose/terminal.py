"""The comparison in a terminal: the table, which to take, and what else to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from exporter.choose import advice, words
from exporter.choose.decide import Decision, decide, standard_error
from exporter.choose.marks import GATE, LEGEND, marks
from exporter.choose.results import Comparison, Outcome

INT8, FLOAT32 = "tflite-int8", "tflite-float32"


@dataclass(frozen=True)
class _Column:
    """One column; of those that do not fit, the ones of highest `rank` are left away."""

    title: str
    cell: Callable[[Outcome], str]
    justify: JustifyMethod = "right"
    rank: int = 0


def show(comparison: Comparison, console: Console) -> None:
    """Print the table, the sentence that says which to take, and remarks."""
    decision = decide(comparison)
    if comparison.outcomes:
        console.print(_table(comparison, decision, console.width))
        used = "".join(
            marks(decision, outcome) + (GATE if INT8 in outcome.gates_failed else "")
            for outcome in comparison.outcomes
        )
        legend = " · ".join(f"{mark} {said}" for mark, said in LEGEND.items() if mark in used)
        console.print(Text(legend, "dim"))
        console.print()
    console.print(Text(advice.verdict(comparison, decision), "bold"))
    for remark in advice.remarks(comparison, decision):
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row("-", Text(remark))
        console.print(line)
    console.print(Text(f"Latencies are of {comparison.machine}, not of a phone: 'exporter bench "
                       "--adb' measures on one.", "dim"))  # fmt: skip


def _table(comparison: Comparison, decision: Decision, width: int) -> Table:
    columns = _columns(comparison, decision)
    while len(columns) > 2 and _wide(columns, comparison.outcomes) > width:
        last = max(columns, key=lambda column: column.rank)
        if last.rank == 0:
            break
        columns = [column for column in columns if column.rank != last.rank]
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify=column.justify, no_wrap=True)
    for outcome in comparison.outcomes:
        judged = decision.of(outcome)
        style = "dim" if judged is None else "bold green" if judged is decision.taken else ""
        table.add_row(*(Text(column.cell(outcome)) for column in columns), style=style)
    return table


def _wide(columns: Sequence[_Column], outcomes: Sequence[Outcome]) -> int:
    """Characters that a table needs."""
    total = len(columns) - 1
    for column in columns:
        cells = (column.title, *(column.cell(outcome) for outcome in outcomes))
        total += max(len(line) for cell in cells for line in cell.splitlines() or [""])
    return total


def _columns(comparison: Comparison, decision: Decision) -> list[_Column]:
    return [
        _Column("", lambda each: marks(decision, each), "left"),
        _Column("candidate", lambda each: words.broken(each.name), "left"),
        _Column("start", lambda each: "failed" if each.failure else each.start, "left", 1),
        _Column("params", _number("parameters"), rank=6),
        _Column("MACs", _number("multiply_adds"), rank=4),
        _Column("int8\nMB", lambda each: words.figure(_part(each.sizes.get(INT8)))),
        _Column("float\nms", lambda each: _median(each, FLOAT32), rank=2),
        _Column("int8\nms", lambda each: _median(each, INT8)),
        _Column("memory\nMB", _memory, rank=3),
        _Column("float\nacc. %", lambda each: _accuracy(each, "torch")),
        _Column("int8\nacc. %", lambda each: _with_error(each, comparison.test_images)),
        _Column("train\nmin", _training, rank=5),
    ]


def _number(name: str) -> Callable[[Outcome], str]:
    def cell(outcome: Outcome) -> str:
        value = getattr(outcome, name)
        return words.count(value) if value else "–"

    return cell


def _part(count: int | None) -> float | None:
    return None if count is None else count / 1e6


def _median(outcome: Outcome, key: str) -> str:
    return words.figure(outcome.latency[key].median if key in outcome.latency else None)


def _memory(outcome: Outcome) -> str:
    count = _part(outcome.peak_memory.get(INT8))
    return "–" if count is None else f"{count:.0f}"


def _accuracy(outcome: Outcome, key: str) -> str:
    return f"{100 * outcome.accuracy[key]:.1f}" if key in outcome.accuracy else "–"


def _with_error(outcome: Outcome, images: int) -> str:
    """The accuracy of int8 with one standard error; '!' where its gate failed."""
    if INT8 not in outcome.accuracy:
        return "–"
    share = outcome.accuracy[INT8]
    error = 100 * standard_error(share, outcome.test_images or images)
    failed = GATE if INT8 in outcome.gates_failed else ""
    return f"{failed}{100 * share:.1f} ±{error:.1f}"


def _training(outcome: Outcome) -> str:
    return "–" if outcome.failure else f"{outcome.training_seconds / 60:.1f}"
