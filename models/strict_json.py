"""Read JSON and text that people may have edited by hand, overlooking nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import UserError


class ContractError(UserError):
    """A contract or label list that cannot be used."""


class Section:
    """A JSON object whose keys are taken one by one, so that none is overlooked."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, Mapping):
            raise ContractError(
                f"{where} is {type(data).__name__}, not an object.",
                "a contract is a JSON object with named keys",
                "see contract.json in any dist folder",
            )
        self._left = dict(data)
        self._where = where

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str, kind: Any, default: Any = None) -> Any:
        if key not in self._left:
            if default is not None:
                return default
            raise ContractError(
                f"{self._where} has no '{key}'.",
                "the model cannot be used without knowing it",
                f"add '{key}' to {self._where}",
            )
        value = self._left.pop(key)
        wanted_number = kind is int or kind == (int, float)
        if not isinstance(value, kind) or (wanted_number and isinstance(value, bool)):
            raise ContractError(
                f"{self._where}.{key} is {value!r}.",
                f"a {type(value).__name__} was found where another type belongs",
                "see contract.json in any dist folder",
            )
        return value

    def section(self, key: str) -> Section:
        return Section(self.take(key, Mapping), f"{self._where}.{key}")

    def numbers(self, key: str) -> tuple[float, float, float]:
        values = self.take(key, list)
        if len(values) != 3 or not all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in values
        ):
            raise ContractError(
                f"{self._where}.{key} is {values!r}.",
                "it holds three numbers, one a channel in the order red, green, blue",
                "write them in units of 0..255 pixels",
            )
        return (float(values[0]), float(values[1]), float(values[2]))

    def done(self) -> None:
        if self._left:
            raise ContractError(
                f"{self._where} has the unknown key(s): {', '.join(sorted(self._left))}.",
                "a key that is silently ignored hides a mistake",
                "remove or correct it",
            )


def read_text(path: Path, what: str) -> str:
    """A UTF-8 text file, with or without a byte order mark.

    Raises:
        ContractError: it cannot be read, or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"The {what} {path} is not UTF-8.", str(error), "save it as UTF-8 text"
        ) from error
    except OSError as error:
        raise ContractError(
            f"The {what} {path} cannot be read.",
            error.strerror or str(error),
            "check the path",
        ) from error
