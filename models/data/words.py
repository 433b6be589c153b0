"""How errors about many files or rows are worded, and names that cannot be written down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from models.data.labelled import DataError

_SHOWN = 10  # how many lines an error shows before it counts the rest


def listed(lines: Sequence[str]) -> str:
    """The first lines, and how many more there are."""
    rest = len(lines) - _SHOWN
    return "\n".join([*lines[:_SHOWN], *([f"  and {rest} more"] if rest > 0 else [])])


def short(names: Sequence[str]) -> str:
    """The first names, and how many more there are, on one line."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def plural(count: int, what: str) -> str:
    """'1 image', '2 images'; 'classes' and 'copies' are known too."""
    if count == 1:
        return f"1 {what}"
    if what.endswith("y"):
        return f"{count} {what[:-1]}ies"
    return f"{count} {what}{'es' if what.endswith('s') else 's'}"


def is_utf8(text: str) -> bool:
    """False for a name that the system gave as bytes which are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def refuse_odd_names(paths: Iterable[Path]) -> None:
    """Refuse files and folders whose names are not UTF-8.

    Raises:
        DataError: there are some; all are named, their odd bytes escaped.
    """
    odd = [path for path in paths if not is_utf8(str(path))]
    if odd:
        names = [str(path).encode("utf-8", "surrogateescape") for path in odd]
        raise DataError(
            f"{plural(len(odd), 'name')} of images or classes cannot be read as UTF-8:\n"
            + listed([f"  {name!r}" for name in names]),
            "such a name can be written neither into a label file nor into a record of the run",
            "rename them ('convmv -f latin1 -t utf8' does it for a whole folder)",
        )
