"""A table of images and labels: CSV in UTF-8 with a header.

    file,label,group                    file,labels
    photos/1.jpg,Adder,walk 3           photos/1.jpg,Adder|Slow worm
    photos/2.jpg,Grass snake,walk 3     photos/2.jpg,

- `file`: an image, relative to the table's folder (or to a folder that is given).
- `label`: its one class; an image has one row.
- `labels`, instead of `label`: its classes with `|` between them, or none. The set is
  multi-label then. Rows of the same image add up, so that one row a label will do too.
- `group`, if wanted: what must not be divided between sets, the same animal, walk or
  photographer. Empty in every row or filled in every row.

The classes are the labels that occur, in sorted order.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from models.data.folder import hash_all, refuse_contradictions
from models.data.labelled import DataError, Item, LabelledSet
from models.data.words import is_utf8, listed, plural, short
from models.images import SUFFIXES

_COLUMNS = ("file", "label", "labels", "group")


@dataclass(frozen=True)
class _Row:
    line: int
    name: str
    path: Path
    labels: tuple[str, ...]
    group: str

    @property
    def shown(self) -> str:
        return f"line {self.line} ({self.name})"


def load_table(
    path: Path,
    images: Path | None = None,
    multi_label: bool | None = None,
    strict: bool = True,
) -> LabelledSet:
    """Read a CSV of images and labels, as described above.

    Nothing is decoded here.

    Args:
        images: the folder that `file` is relative to; None for the table's own.
        multi_label: True reads a `label` column as one of possibly several or no labels,
            a row each; False refuses a `labels` column; None goes by the column.
        strict: refuse files of the same content with different classes; without, they stay.

    Raises:
        DataError: the file is missing, empty or not UTF-8; a column is unknown, missing or
            there twice; a row has a label without an image, an image that is not there or
            no label; the same image has two classes or groups; some rows have a group and
            others do not; fewer than two classes. Rows are named by line.
    """
    path = Path(path)
    header, records = _read(path)
    many = _is_multi_label(path, header, multi_label)
    folder = Path(images) if images is not None else path.parent
    rows = _rows(path, header, records, folder)
    _refuse_missing(path, rows, folder)
    if not many:
        _refuse_unlabelled(path, rows)
    _refuse_half_grouped(path, rows)
    merged, repeated = _merged(path, rows, many)
    classes = tuple(sorted({name for row in merged for name in row.labels}))
    refuse_few_classes(path, classes)
    index = {name: place for place, name in enumerate(classes)}
    digests = hash_all([row.path for row in merged])
    items = sorted(
        (
            Item(row.path, tuple(sorted(index[name] for name in row.labels)), digest, row.group)
            for row, digest in zip(merged, digests, strict=True)
        ),
        key=lambda item: (item.labels, str(item.path)),
    )
    skipped = _without_a_row(merged)
    notes = [f"{plural(repeated, 'row')} repeat another one"] if repeated and not many else []
    if skipped:
        notes.append(
            f"{plural(len(skipped), 'image')} beside those of {path.name} have no row in it and "
            f"are left out: {short([each.name for each in skipped[:3]])}"
        )
    found = LabelledSet(path, classes, tuple(items), skipped, many, tuple(notes))
    if strict and not many:
        refuse_contradictions(found)
    return found


def refuse_few_classes(path: Path, classes: tuple[str, ...]) -> None:
    """Refuse a set that leaves nothing to tell apart.

    Raises:
        DataError: it has fewer than two classes.
    """
    if len(classes) < 2:
        raise DataError(
            f"{path} has {f'one class only: {classes[0]}' if classes else 'no class'}.",
            "a classifier tells at least two classes apart",
            "add images of another class (one named 'other' will do)",
        )


def read_csv(path: Path, what: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and the rows of a CSV file, each row with its line; blank rows left out.

    Raises:
        DataError: it is missing, empty, not UTF-8, no CSV, has a column twice, or a row
            with more or fewer cells than the header.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"The {what} {path} cannot be read.", error.strerror or str(error), "check the path"
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"The {what} {path} is not UTF-8.",
            f"line {line} has the byte 0x{raw[error.start]:02x}, as Latin-1 or Windows-1252 "
            "write an accented letter",
            "save it as 'CSV UTF-8', or convert it: iconv -f WINDOWS-1252 -t UTF-8",
        ) from error
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise DataError(
            f"The {what} {path} is no CSV.",
            f"line {reader.line_num}: {error}",
            "check the quotation marks in that line",
        ) from error
    if len(rows) < 2:
        raise DataError(
            f"The {what} {path} is empty.",
            "it has no row below the header" if rows else "there is nothing in it",
            "write a header and one row for each entry",
        )
    header = [cell.lower() for cell in rows[0][1]]
    _check_shape(path, what, header, rows[1:])
    return header, rows[1:]


def _check_shape(
    path: Path, what: str, header: list[str], rows: list[tuple[int, list[str]]]
) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"The {what} {path} has the column(s) {', '.join(map(repr, twice))} twice.",
            "it cannot be known which one is meant",
            "remove or rename one of them in the header",
        )
    odd = [f"  line {line}: {len(cells)}" for line, cells in rows if len(cells) != len(header)]
    if odd:
        raise DataError(
            f"{plural(len(odd), 'row')} of {path} have another number of cells than the header's "
            f"{len(header)}:\n" + listed(odd),
            "a name with a comma in it has to stand in quotation marks",
            'write "Adder, common" with its quotation marks, and as many commas in every row',
        )


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    header, records = read_csv(path, "table")
    unknown = [name for name in header if name not in _COLUMNS]
    if unknown:
        separated = len(header) == 1 and any(mark in header[0] for mark in ";\t")
        raise DataError(
            f"The table {path} has the unknown column(s) {', '.join(map(repr, unknown))}.",
            "its columns are separated by something else than commas"
            if separated
            else "columns are file, label (or labels) and, if wanted, group; one that is silently "
            "ignored hides a mistake",
            "save it with commas" if separated else "rename or remove the column",
        )
    if "file" not in header or not {"label", "labels"} & set(header):
        lacking = "file" if "file" not in header else "label"
        raise DataError(
            f"The table {path} has no column '{lacking}'.",
            f"its first line is {','.join(header)}",
            "begin it with the line file,label (file,labels where an image may have several)",
        )
    if {"label", "labels"} <= set(header):
        raise DataError(
            f"The table {path} has a column 'label' and a column 'labels'.",
            "the one says that each image has one class, the other that it may have several",
            "keep one of them",
        )
    return header, records


def _is_multi_label(path: Path, header: list[str], wanted: bool | None) -> bool:
    several = "labels" in header
    if wanted is False and several:
        raise DataError(
            f"The table {path} has a column 'labels'.",
            "images with several classes were not asked for",
            "name the column 'label' and give each image one",
        )
    return several if wanted is None else wanted


def _rows(
    path: Path, header: list[str], records: list[tuple[int, list[str]]], folder: Path
) -> list[_Row]:
    column = {name: place for place, name in enumerate(header)}
    several = "labels" in column
    at = column["labels" if several else "label"]
    rows, nameless = [], []
    for line, cells in records:
        name = cells[column["file"]]
        if not name:
            nameless.append(f"  line {line}: {cells[at] or 'no label either'}")
            continue
        parts = cells[at].split("|") if several else [cells[at]]
        labels = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        group = cells[column["group"]] if "group" in column else ""
        rows.append(_Row(line, name, folder / name, labels, group))
    if nameless:
        raise DataError(
            f"{plural(len(nameless), 'row')} of {path} have a label without an image:\n"
            + listed(nameless),
            "the cell in the column 'file' is empty",
            "write the image's path there, or remove the row",
        )
    return rows


def _refuse_missing(path: Path, rows: list[_Row], folder: Path) -> None:
    missing = [f"  {row.shown}" for row in rows if not _is_file(row)]
    if missing:
        raise DataError(
            f"{plural(len(missing), 'row')} of {path} have a label, but their image is missing:\n"
            + listed(missing),
            f"looked in {folder}",
            "correct the paths, remove the rows, or give the images' folder with --images-root",
        )
    other = [f"  {row.shown}" for row in rows if row.path.suffix.lower() not in SUFFIXES]
    if other:
        raise DataError(
            f"{plural(len(other), 'row')} of {path} name a file of an unknown kind:\n"
            + listed(other),
            "images are " + ", ".join(SUFFIXES),
            "save them as JPEG, PNG or WebP, or remove the rows",
        )


def _is_file(row: _Row) -> bool:
    try:
        return row.path.is_file()
    except (OSError, ValueError):  # too long a name, a NUL in it
        return False


def _refuse_unlabelled(path: Path, rows: list[_Row]) -> None:
    bare = [f"  {row.shown}" for row in rows if not row.labels]
    if bare:
        raise DataError(
            f"{plural(len(bare), 'image')} of {path} have no label:\n" + listed(bare),
            "each image has exactly one class where the column is 'label'",
            "write the label, remove the row, or name the column 'labels' where an image may "
            "have none or several",
        )


def _refuse_half_grouped(path: Path, rows: list[_Row]) -> None:
    blank = [f"  {row.shown}" for row in rows if not row.group]
    if blank and len(blank) < len(rows):
        raise DataError(
            f"{plural(len(blank), 'row')} of {path} have no group, and the others have one:\n"
            + listed(blank),
            "an image of an unknown group might be divided from its like",
            "fill them in (a name of its own for an image that belongs to no other), "
            "or remove the column",
        )


def _merged(path: Path, rows: list[_Row], many: bool) -> tuple[list[_Row], int]:
    """One row for each image, and how many there were too many."""
    import os

    first: dict[str, _Row] = {}
    labels: dict[str, dict[str, None]] = {}
    contradictions, groups = [], []
    for row in rows:
        key = os.path.normpath(row.path)
        known = first.setdefault(key, row)
        if known.group != row.group:
            groups.append(f"  {known.shown}: {known.group}; line {row.line}: {row.group}")
        if not many and known.labels != row.labels:
            contradictions.append(
                f"  {known.shown}: {known.labels[0]}; line {row.line}: {row.labels[0]}"
            )
        labels.setdefault(key, {}).update(dict.fromkeys(row.labels))
    if contradictions:
        raise DataError(
            f"{path} gives the same image different labels:\n" + listed(contradictions),
            "one image cannot have two answers",
            "remove the wrong rows, or name the column 'labels' where an image may have several",
        )
    if groups:
        raise DataError(
            f"{path} gives the same image different groups:\n" + listed(groups),
            "a group is what its image is never divided from",
            "write the same group in all rows of an image",
        )
    merged = [
        _Row(row.line, row.name, row.path, tuple(labels[key]), row.group)
        for key, row in first.items()
    ]
    return merged, len(rows) - len(merged)


def _without_a_row(rows: list[_Row]) -> tuple[Path, ...]:
    """Images in the same folders that no row names."""
    named = {row.path.resolve() for row in rows}
    folders = sorted({row.path.parent for row in rows})
    return tuple(
        file
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES
        and not file.name.startswith(".")
        and is_utf8(file.name)
        and file.resolve() not in named
    )
