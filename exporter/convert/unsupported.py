"""The error for models that hold what no target can write; it names everything at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from models.errors import UserError


@dataclass(frozen=True)
class Offender:
    """A node that cannot be converted: its name, its operator, and why."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} {self.node!r}: {self.reason}"


class UnsupportedOperatorsError(UserError):
    """A model with operators, or settings of operators, that no target can write.

    Attributes:
        offenders: every one of them.
    """

    def __init__(
        self, origin: str, offenders: tuple[Offender, ...], known: Iterable[str] = ()
    ) -> None:
        kinds = sorted({offender.operator for offender in offenders})
        names = ", ".join(sorted(known))
        super().__init__(
            f"{origin} has {len(offenders)} node(s) that cannot be converted: {', '.join(kinds)}.",
            "\n  ".join(["these nodes are the ones:", *map(str, offenders)]),
            "replace them in the model and export it again"
            + (f"; the operators that are known: {names}" if names else ""),
        )
        self.offenders = offenders
