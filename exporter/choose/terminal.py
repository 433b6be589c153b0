"""The comparison in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from exporter.choose.results import Comparison


def show(comparison: Comparison, console: Console) -> None:
    """Print the table of candidates."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("candidate", "start", "accuracy", "int8"):
        table.add_column(name)
    for outcome in comparison.outcomes:
        table.add_row(
            outcome.name,
            outcome.start,
            *(f"{outcome.accuracy[key]:.1%}" if key in outcome.accuracy else "–"
              for key in ("torch", "tflite-int8")),
        )  # fmt: skip
    console.print(table)
