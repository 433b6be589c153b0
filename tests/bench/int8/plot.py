"""SQNR and logit error of every quantizer that was run, with their intervals, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.int8.rows import Row

OURS, PHONE, SIMULATED = "#0b6e4f", "#2f5d9b", "#8a8a8a"
PANELS = (("sqnr", "logit SQNR, dB (more is better)"),
          ("error", "mean abs logit error (less is better)"))  # fmt: skip


def write_plot(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Draw two panels, best at the top; rows that were not run are left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    run = [row for row in rows if row.figures is not None]
    run.sort(key=lambda row: row.figures.sqnr.value if row.figures else 0.0)
    figure = Figure(figsize=(12, 1.6 + 0.36 * max(len(run), 3)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (name, label) in zip(panels, PANELS, strict=True):
        for place, row in enumerate(run):
            found = getattr(row.figures, name)
            errors = [[found.value - found.low], [found.high - found.value]]
            panel.errorbar(found.value, place, xerr=errors, fmt="o", color=_colour(row),
                           capsize=3, markersize=5)  # fmt: skip
        panel.set_xlabel(label)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(run)), [row.label for row in run])
    kinds = ((OURS, "ours"), (PHONE, "writes a .tflite"), (SIMULATED, "simulated"))
    marks = [Line2D([], [], color=colour, marker="o", linestyle="", label=label)
             for colour, label in kinds]  # fmt: skip
    panels[1].legend(handles=marks, loc="best")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _colour(row: Row) -> str:
    if row.ours:
        return OURS
    return PHONE if row.writes else SIMULATED
