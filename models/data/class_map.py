"""One class list mapped onto another, so that sets that name things differently fit together.

A CSV with the header `from,to`, or a JSON object of the same:

    from,to                       {"Vipera berus": "Adder",
    Vipera berus,Adder             "adder (juv.)": "Adder",
    adder (juv.),Adder             "unidentified": "-"}
    unidentified,-

`to` empty or `-` drops the class; a class that the map does not name keeps its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.data.labelled import DataError
from models.data.table import read_csv
from models.data.words import plural, short

ClassMap = Mapping[str, str | None]
_DROPPED = ("", "-")


def load_class_map(path: Path) -> dict[str, str | None]:
    """Read a class map.

    Returns:
        The new name of each class, None for one that is dropped.

    Raises:
        DataError: the file cannot be read, is empty or of another form, names a class
            twice, or drops everything.
    """
    path = Path(path)
    pairs = _from_json(path) if path.suffix.lower() == ".json" else _from_csv(path)
    found: dict[str, str | None] = {}
    for before, after in pairs:
        if not before:
            raise DataError(
                f"The class map {path} has an entry without a class.",
                f"'from' is empty where 'to' is {after!r}",
                "write the class that is meant, or remove the entry",
            )
        if before in found:
            raise DataError(
                f"The class map {path} names '{before}' twice.",
                "it cannot be known which one is meant",
                "keep one of the two",
            )
        found[before] = None if after in _DROPPED else after
    if not any(found.values()):
        raise DataError(
            f"The class map {path} keeps no class.",
            "every 'to' is empty or '-'",
            "write the new name of at least one class",
        )
    return found


def refuse_unknown(path: Path, mapped: ClassMap, classes: Iterable[str]) -> None:
    """Refuse a map that names classes which are in none of the sets.

    Raises:
        DataError: there are some; they and the known ones are named.
    """
    known = sorted(set(classes))
    unknown = [name for name in mapped if name not in known]
    if unknown:
        raise DataError(
            f"The class map {path} names {plural(len(unknown), 'class')} that the data does not "
            f"have: {short(unknown)}.",
            f"the data has: {short(known)}",
            "correct the spelling in the column 'from', or remove the entries",
        )


def _from_csv(path: Path) -> list[tuple[str, str]]:
    header, rows = read_csv(path, "class map")
    if sorted(header) != ["from", "to"]:
        raise DataError(
            f"The class map {path} has the columns {', '.join(map(repr, header))}.",
            "it has two: the class as it is called, and as it shall be called",
            "begin it with the line from,to",
        )
    at, to = header.index("from"), header.index("to")
    return [(cells[at], cells[to]) for _, cells in rows]


def _from_json(path: Path) -> list[tuple[str, str]]:
    content = read_json(path, "class map")
    if not isinstance(content, dict) or not content:
        raise DataError(
            f"The class map {path} is no object with entries.",
            "it says for each class what it shall be called",
            'write {"old name": "new name"}; "-" drops a class',
        )
    odd = [key for key, value in content.items() if not isinstance(value, str | None)]
    if odd:
        raise DataError(
            f"The class map {path} has values that are no text: {short(odd)}.",
            "a class is mapped onto one name",
            'write a name, or "-" for a class that is dropped',
        )
    return [(key.strip(), (value or "").strip()) for key, value in content.items()]


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file; a key that stands twice in one object is not overlooked.

    Raises:
        DataError: it cannot be read, is not UTF-8, not JSON, or has a key twice.
    """
    try:
        return json.loads(
            Path(path).read_bytes().decode("utf-8-sig"), object_pairs_hook=_once(path, what)
        )
    except OSError as error:
        raise DataError(
            f"The {what} {path} cannot be read.", error.strerror or str(error), "check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"The {what} {path} is not UTF-8.",
            f"byte {error.start} is 0x{error.object[error.start]:02x}",
            "save it as UTF-8",
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f"The {what} {path} is not JSON.", str(error), "write it again from where it came"
        ) from error


def _once(path: Path, what: str) -> Any:
    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [key for key, _ in pairs]
            twice = sorted({key for key in names if names.count(key) > 1})
            raise DataError(
                f"The {what} {path} has the key(s) {short(twice)} twice in one object.",
                "it cannot be known which one is meant",
                "keep one of them",
            )
        return found

    return collect
