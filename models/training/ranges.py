"""Figures out of their range, refused in the same words everywhere; imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from models.errors import UserError


class TrainingError(UserError):
    """A training run that cannot be done as asked."""


def whole(what: str, value: Any, smallest: int, largest: int) -> None:
    """Refuse all but a whole number from `smallest` to `largest`.

    Raises:
        TrainingError: it is something else; True and False are too.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise TrainingError(
            f"{what} is {value!r}.",
            f"it is a whole number from {smallest} to {largest}",
            "give one in that range",
        )


def number(what: str, value: Any, smallest: float, largest: float) -> None:
    """Refuse all but a finite number from `smallest` to `largest`.

    Raises:
        TrainingError: it is something else.
    """
    sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not sound or not smallest <= value <= largest:
        raise TrainingError(
            f"{what} is {value!r}.",
            f"it is a number from {smallest:g} to {largest:g}",
            "give one in that range",
        )


def one_of(what: str, value: Any, known: Collection[str]) -> None:
    """Refuse all but the names in `known`.

    Raises:
        TrainingError: it is something else.
    """
    if value not in known:
        raise TrainingError(
            f"{what} is {value!r}.", "it is one of: " + ", ".join(known), "give one of them"
        )


def refuse_undividable(batch: int, count: int) -> None:
    """Refuse a batch of which processes cannot take equal shares.

    Raises:
        TrainingError: it is one.
    """
    if batch % count == 0:
        return
    lower = batch - batch % count
    raise TrainingError(
        f"A batch of {batch} pictures cannot be divided among {count} processes.",
        "each takes the same number of every batch, so that together they do what one would do",
        f"give --batch-size {lower or count}, or another number of processes",
    )
