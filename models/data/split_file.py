"""A split on disk, to be used again: CSV with the columns file, digest and set.

    file,digest,set
    Adder/1.jpg,9f86d081884c7d65...,train
    Adder/2.jpg,60303ae22b998861...,validation

`digest` is the sha256 of the file, and decides: a renamed image keeps its side. `file` is
for people, relative to the data set. `set` is train, validation or test.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.data.labelled import DataError, Item, LabelledSet
from models.data.table import read_csv
from models.data.words import listed, plural

SETS = ("train", "validation", "test")


def write_split(path: Path, root: Path, sets: Sequence[LabelledSet | None]) -> None:
    """Write who is where; beside and renamed.

    Args:
        root: what `file` is relative to.
        sets: training, validation and test set; None for one that there is not.

    Raises:
        DataError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "digest", "set"))
    for name, found in zip(SETS, sets, strict=True):
        for item in found.items if found is not None else ():
            writer.writerow((_shown(item, root), item.digest, name))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text.getvalue(), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise DataError(
            f"The split file {path} cannot be written.",
            error.strerror or str(error),
            "give another path",
        ) from error


def apply_split(
    path: Path, whole: LabelledSet, broken: frozenset[str] = frozenset()
) -> tuple[LabelledSet, LabelledSet, LabelledSet | None]:
    """Divide a set as a file says.

    Args:
        broken: digests of images that were left out of the set.

    Returns:
        Training, validation and test set; None if the file names no test image.

    Raises:
        DataError: the file cannot be read or names an unknown set; the same image or group
            is on two sides; an image of the set is not in it, or one of it is not in the
            set (all are named).
    """
    rows = _read(path)
    sides = _sides(path, rows)
    _refuse_others(path, whole, rows, sides, broken)
    parts = [
        replace(whole, items=tuple(item for item in whole.items if sides[item.digest] == name))
        for name in SETS
    ]
    refuse_divided_groups(*parts)
    return parts[0], parts[1], parts[2] if "test" in sides.values() else None


def refuse_divided_groups(*sets: LabelledSet) -> None:
    """Refuse sets that share a group.

    Raises:
        DataError: they do; the groups are named, with an image on either side.
    """
    seen: dict[str, tuple[int, Item]] = {}
    divided: dict[str, str] = {}
    for number, each in enumerate(sets):
        for item in each.items:
            if not item.group:
                continue
            side, first = seen.setdefault(item.group, (number, item))
            if side != number:
                divided.setdefault(item.group, f"  {item.group}: {first.path} | {item.path}")
    if divided:
        raise DataError(
            f"{plural(len(divided), 'group')} lie(s) on both sides of the split that was given:\n"
            + listed(list(divided.values())),
            "a model that has seen one picture of a group is not tested by the next one",
            "put all images of a group into one set, or let the set be divided anew",
        )


def _read(path: Path) -> list[tuple[int, str, str, str]]:
    header, rows = read_csv(path, "split file")
    if sorted(header) != ["digest", "file", "set"]:
        raise DataError(
            f"The split file {path} has the columns {', '.join(map(repr, header))}.",
            "it has three: file, digest, set",
            "remove it to have the set divided anew",
        )
    at = [header.index(name) for name in ("file", "digest", "set")]
    found = [
        (line, cells[at[0]], cells[at[1]].lower(), cells[at[2]].lower()) for line, cells in rows
    ]
    odd = [f"  line {line}: {name!r}" for line, _, _, name in found if name not in SETS]
    if odd:
        raise DataError(
            f"The split file {path} names unknown sets:\n" + listed(odd),
            "a set is one of " + ", ".join(SETS),
            "correct these lines",
        )
    return found


def _sides(path: Path, rows: list[tuple[int, str, str, str]]) -> dict[str, str]:
    sides: dict[str, str] = {}
    twice = []
    for line, file, digest, name in rows:
        if sides.setdefault(digest, name) != name:
            twice.append(f"  line {line} ({file}): {name}, before: {sides[digest]}")
    if twice:
        raise DataError(
            f"The split file {path} has the same image on two sides:\n" + listed(twice),
            "a model that has seen an image in training is not tested by it",
            "keep one of the lines",
        )
    return sides


def _refuse_others(
    path: Path,
    whole: LabelledSet,
    rows: list[tuple[int, str, str, str]],
    sides: dict[str, str],
    broken: frozenset[str],
) -> None:
    here = {item.digest for item in whole.items} | broken
    gone = {file: digest for _, file, digest, _ in rows if digest not in here}
    lines = []
    for item in whole.items:
        if item.digest not in sides:
            name = _shown(item, whole.root)
            was = "has changed" if gone.pop(name, None) else "is not in the split file"
            lines.append(f"  {name} {was}")
    lines += [f"  {file} is no longer there" for file in gone]
    if lines:
        raise DataError(
            f"The split file {path} is of other images ({plural(len(lines), 'difference')}):\n"
            + listed(lines),
            "it would divide something else than it was made for",
            "give it the images it was made for, or another file name to have them divided anew",
        )


def _shown(item: Item, root: Path) -> str:
    folder = root if root.is_dir() else root.parent
    try:
        return Path(os.path.relpath(item.path, folder)).as_posix()
    except ValueError:  # on another drive
        return str(item.path)
