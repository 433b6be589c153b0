"""The classes of a classifier: their names, in order, with what an app shows of them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from models.strict_json import ContractError, Section, read_text

Venomous = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Label:
    """One class, in the order of the classifier's outputs.

    Attributes:
        name: what a person is shown; never empty, on one line.
        scientific_name: the species' binomial, where there is one.
        venomous: 'yes', 'no' or 'unknown'.
    """

    name: str
    scientific_name: str | None = None
    venomous: Venomous = "unknown"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ContractError(
                "A label has no name.",
                f"got {self.name!r}",
                "give every class a name that is not empty",
            )
        if re.search(r"[\r\n\x00]", self.name):
            raise ContractError(
                f"The label {self.name!r} holds a line break.",
                "labels.txt has one name a line",
                "take the line break out",
            )
        if self.venomous not in get_args(Venomous):
            raise ContractError(
                f"The label {self.name!r} has venomous={self.venomous!r}.",
                "it is one of: " + ", ".join(get_args(Venomous)),
                "use 'unknown' where it is not known",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "scientific_name": self.scientific_name,
            "venomous": self.venomous,
        }


def labels_from_json(data: Sequence[Any]) -> tuple[Label, ...]:
    """Labels from a JSON list of names or of objects with attributes."""
    labels = []
    for position, item in enumerate(data):
        if isinstance(item, str):
            labels.append(Label(item))
            continue
        section = Section(item, f"labels[{position}]")
        label = Label(
            name=section.take("name", str),
            scientific_name=section.take("scientific_name", (str, type(None)), "") or None,
            venomous=section.take("venomous", str, "unknown"),
        )
        section.done()
        labels.append(label)
    return tuple(labels)


def load_labels(path: Path) -> tuple[Label, ...]:
    """Read a labels file: one name a line, a JSON list of names or objects, or a CSV.

    A file is a CSV if its name ends in .csv; its header is `name` and, if wanted,
    `scientific_name` and `venomous` (empty cells: not known), in any order.

    Raises:
        ContractError: the file cannot be read, is empty or not well-formed.
    """
    text = read_text(path, "labels file")
    if path.suffix.lower() == ".csv":
        return _labels_from_csv(path, text)
    if path.suffix.lower() == ".json" or text.lstrip().startswith("["):
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(
                f"{path} is not JSON.",
                f"line {error.lineno}, column {error.colno}: {error.msg}",
                "write a list of names, or of objects with name, scientific_name and venomous",
            ) from error
        if not isinstance(data, list):
            raise ContractError(
                f"{path} holds a JSON {type(data).__name__}.",
                "labels are a list, in the order of the model's outputs",
                "write a list of names, or of objects with name, scientific_name and venomous",
            )
        return labels_from_json(data)
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ContractError(f"{path} is empty.", "there are no labels in it", "one name a line")
    return tuple(Label(line) for line in lines)


_COLUMNS = ("name", "scientific_name", "venomous")


def _labels_from_csv(path: Path, text: str) -> tuple[Label, ...]:
    lines = csv.reader(io.StringIO(text, newline=""))
    rows = [[cell.strip() for cell in row] for row in lines if any(cell.strip() for cell in row)]
    header = [cell.lower() for cell in rows[0]] if rows else []
    unknown = [name for name in header if name not in _COLUMNS]
    if unknown or "name" not in header or len(set(header)) != len(header):
        raise ContractError(
            f"The labels file {path} begins with {','.join(rows[0]) if rows else 'nothing'!r}.",
            "its columns are name and, if wanted, scientific_name and venomous, each once",
            "begin it with the line name,scientific_name,venomous",
        )
    if len(rows) == 1:
        raise ContractError(f"{path} is empty.", "there are no labels in it", "one row a class")
    labels = []
    for place, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise ContractError(
                f"Label {place} in {path} has {len(row)} cells, the header {len(header)}.",
                f"it reads {','.join(row)}",
                "put names with a comma in quotation marks",
            )
        cells = dict(zip(header, row, strict=True))
        venomous = cells.get("venomous", "").lower() or "unknown"
        labels.append(
            Label(cells["name"], cells.get("scientific_name") or None, cast("Venomous", venomous))
        )
    return tuple(labels)
