"""`exporter data-report`: look at every image, show what was found, write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from exporter.data_report import page, terminal
from models.data.labelled import LabelledSet
from models.data.looking import (
    NEAR_BITS,
    Looks,
    look_at,
    near_pairs,
    refuse_many_broken,
)
from models.data.quality import judge
from models.data.reading import read_set
from models.errors import UserError


def data_report(
    paths: Sequence[Path],
    out: Path | None,
    images: Path | None = None,
    class_map: Path | None = None,
    most_broken: float = 0.05,
    near_bits: int = NEAR_BITS,
) -> int:
    """Report on a data set before training.

    Args:
        paths: as `models.data.reading.read_set` takes them.
        out: the folder for data-report.html, data-report.json and contact-sheet.jpg; None
            for '<set>-data-report' in the current folder. One that this command wrote
            before is replaced.
        images, class_map: see `read_set`.
        most_broken: the share of images that may be broken.
        near_bits: see `near_pairs`; -1 to look for none.

    Returns:
        The exit code: 0.

    Raises:
        UserError: the set cannot be read, too much of it is broken, or the folder cannot
            be written.
    """
    folder = out if out is not None else Path(f"{paths[0].resolve().stem}-data-report")
    _require_folder(folder)
    near_pairs([], near_bits if near_bits >= 0 else 0)  # refuses a number out of range
    console = Console()
    data = read_set(paths, images, class_map, strict=False)
    looks = _looked(data, console, near_bits >= 0)
    refuse_many_broken(looks.broken, len(data), most_broken)
    quality = judge(data, looks, near_bits)
    console.print(terminal.summary(quality))
    page.write(quality, folder)
    for name in (page.PAGE, page.JSON, page.SHEET):
        console.print(f"Wrote {folder / name}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"Next: open {page.PAGE}, mend what it shows, then 'exporter train --data "
        f"{paths[0]}'.", markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def _looked(data: LabelledSet, console: Console, hashes: bool) -> Looks:
    with Progress(
        TextColumn("Looking at images"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TimeRemainingColumn(), console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=len(data))
        return look_at(
            data.items, lambda done, whole: bar.update(task, completed=done, total=whole), hashes
        )


def _require_folder(folder: Path) -> None:
    """Refuse to replace a folder that this command did not write."""
    if not folder.exists():
        return
    if folder.is_dir() and ((folder / page.JSON).is_file() or not any(folder.iterdir())):
        return
    raise UserError(
        f"{folder} is in the way.",
        "it is no report of this command, so it is not replaced",
        "give another folder with --out, or move it away",
    )
