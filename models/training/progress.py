"""One bar at the bottom of the terminal, which makes way for messages."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


class Bar:
    """How far something is; shows nothing without a `progress` of rich."""

    def __init__(self, progress: Any = None, total: int = 0) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task("", total=total)
        self._done = 0

    def advance(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """One step more, or `done` steps in all (of `total`); `text` says what is going on."""
        self._done = self._done + 1 if done is None else done
        if self._progress is not None:
            self._progress.update(
                self._task, completed=self._done, description=text, total=total
            )  # a total of None leaves it as it is

    def above(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """`say`, with the bar out of the way meanwhile: it may print to any console."""

        def aside(text: str) -> None:
            if self._progress is None:
                say(text)
                return
            self._progress.stop()
            try:
                say(text)
            finally:
                self._progress.start()

        return aside


@contextlib.contextmanager
def bar(total: int, wanted: bool = True) -> Iterator[Bar]:
    """A bar of `total` steps, where it is wanted and standard output is a terminal."""
    if not wanted or not sys.stdout.isatty():
        yield Bar()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        yield Bar(progress, total)
