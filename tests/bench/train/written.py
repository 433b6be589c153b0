"""The table inside docs/training.md, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.train.rows import Row
from models.errors import UserError

BEGIN = "<!-- written by make bench-train -->"
END = "<!-- end -->"


def markdown(rows: Sequence[Row]) -> str:
    """A table, and under it the commands that each row is measured with."""
    lines = ["| figure | measured | goal | |", "|---|---|---|---|"]
    lines += [f"| {r.figure} | {r.measured} | {r.goal} | {r.verdict} |" for r in rows]
    commands = list(dict.fromkeys(command for row in rows for command in row.commands))
    if commands:
        lines += ["", "```sh", *commands, "```"]
    return "\n".join(lines) + "\n"


def put(page: Path, rows: Sequence[Row]) -> None:
    """Replace what stands between the marks.

    Raises:
        UserError: the page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{page} has no place for the table.", f"it lacks {BEGIN} and {END}", "")
    page.write_text(f"{before}{begin}\n\n{markdown(rows)}\n{end}{after}", encoding="utf-8")
