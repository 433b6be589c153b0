"""When a tensor is read for the last time, so that its memory can be given back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Step(Protocol):
    """A step of a program or network: the names of what it reads and of what it makes."""

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def output(self) -> str: ...


def last_uses(steps: Iterable[Step], keep: set[str]) -> dict[str, list[str]]:
    """By a step's output, the tensors that no later step reads; those to keep left out."""
    last = {name: step.output for step in steps for name in step.inputs}
    freed: dict[str, list[str]] = {}
    for name, output in last.items():
        if name not in keep:
            freed.setdefault(output, []).append(name)
    return freed
