"""A figure, what was measured, and what it should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        reached: whether the goal was; None where there is none or nothing was measured.
        commands: what a reader types to measure it again.
    """

    figure: str
    measured: str
    goal: str = ""
    reached: bool | None = None
    commands: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        return {True: "reached", False: "missed", None: ""}[self.reached]


def not_run(figure: str, why: str) -> Row:
    """A figure that could not be measured; it never counts as reached."""
    return Row(figure, f"not run: {why.removeprefix('not run: ')}")
