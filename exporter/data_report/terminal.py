"""The report in a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporter.data_report.findings import WARN, findings
from exporter.data_report.page import rarest
from models.data.quality import Quality, shown

LISTED = 12
_NAME, _BAR = 34, 24


def summary(quality: Quality) -> RenderableType:
    """Everything but where the files were written."""
    data = quality.data
    head = f"{data.root}: {quality.images} images, {len(data.classes)} classes"
    parts: list[RenderableType] = [Text(head, "bold"), _classes(quality), Text("")]
    size = quality.shorter
    parts.append(
        Text(f"shorter side {size.least:.0f} to {size.greatest:.0f} pixels (median "
             f"{size.median:.0f}); largest to smallest class {quality.imbalance:.3g} : 1")
    )  # fmt: skip
    parts += [
        Text(f"- {sentence}", "bold red" if grave == WARN else "")
        for grave, sentence in findings(quality)
    ]
    parts += [Text(f"  {shown(each.path, data.root)}: {each.reason}", "dim")
              for each in quality.broken[:LISTED]]  # fmt: skip
    parts += [Text(f"note: {note}", "dim") for note in data.notes]
    return Group(*parts)


def _classes(quality: Quality) -> Table:
    """The commonest and the rarest classes."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("class", no_wrap=True)
    grid.add_column("images", justify="right")
    grid.add_column("")
    counts, rare = quality.data.counts(), rarest(quality)
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    hidden = len(order) - 2 * LISTED
    for place, label in enumerate(order):
        if hidden > 0 and LISTED <= place < LISTED + hidden:
            if place == LISTED:
                grid.add_row(Text(f"and {hidden} more between", "dim"), "", "")
            continue
        name = quality.data.classes[label]
        tall = round(_BAR * counts[label] / max(max(counts), 1))
        grid.add_row(
            Text(name if len(name) <= _NAME else name[: _NAME - 1] + "…"),
            str(counts[label]),
            Text("█" * max(tall, 1 if counts[label] else 0), "red" if label in rare else "blue"),
        )
    return grid
