"""What a comparison leaves behind: the table as CSV, the page, and its two pictures."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.choose import csv_file, page
from exporter.choose.results import Comparison
from models.errors import UserError

CSV = "choose.csv"
PAGE = "choose.html"
PICTURES = ("choose-accuracy.svg", "choose-size.svg")


def write(comparison: Comparison, folder: Path) -> Path:
    """Write choose.csv, choose.html and the pictures as SVG; the rest of the folder stays as it is.

    Each file appears whole or stays as it was.

    Args:
        folder: made where it is not there.

    Returns:
        The page.

    Raises:
        UserError: the folder cannot be written.
    """
    files = {CSV: csv_file.text(comparison)}
    files |= dict(zip(PICTURES, page.pictures(comparison), strict=True))
    files[PAGE] = page.render(comparison)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if text:
                _replace(folder / name, text)
            else:
                (folder / name).unlink(missing_ok=True)  # an earlier comparison's
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written.",
            error.strerror or str(error),
            "give a folder that may be written with --out",
        ) from error
    return folder / PAGE


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(text.encode("utf-8"))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
