"""Fields of JSON that came from another device: checked, and plain text where it is text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from models.errors import UserError

UNUSABLE = "The device's result cannot be used: "
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_MAX_NUMBER = 1e30


class DeviceError(UserError):
    """A device's result that cannot be used."""


def object_(data: Any, where: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        DeviceError: it is another thing; so do all functions here.
    """
    if not isinstance(data, dict):
        raise bad(where, type(data).__name__, "it is a JSON object")
    return data


def text(section: Mapping[str, Any], key: str, limit: int) -> str:
    """A text of 1 to `limit` characters."""
    value = section.get(key)
    if not isinstance(value, str) or not plain(value) or len(value) > limit:
        raise bad(key, value, f"it is a text of 1 to {limit} characters")
    return plain(value)


def integer(section: Mapping[str, Any], key: str, least: int, most: int) -> int:
    """A whole number in a range."""
    value = section.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise bad(key, value, f"it is a whole number from {least} to {most}")
    return value


def number(value: Any, where: str) -> float:
    """A finite number of a size that means something."""
    if not is_number(value):
        raise bad(where, value, "it is a finite number")
    return float(value)


def is_number(value: Any) -> bool:
    """Whether `number` takes it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value) and abs(value) <= _MAX_NUMBER
    except OverflowError:
        return False


def plain(value: str) -> str:
    """One line without control characters or marks that turn the direction of writing."""
    return " ".join(_CONTROL.sub(" ", value).split())


def shown(found: Any) -> str:
    """What was found, as far as it fits into a message."""
    return plain(repr(found)[:80])


def bad(where: str, found: Any, why: str) -> DeviceError:
    """The error for a field that is not as it should be."""
    return DeviceError(
        f"{UNUSABLE}{where} is {shown(found)}.",
        why,
        "load the page again, so that page and bundle belong together",
    )
