"""What a person sees while candidates are compared: how far all is, and how far this step."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import TaskID

from exporter import bundle
from exporter.pipeline.summary import Bars

_STEPS = {
    "check": "checking the checkpoint",
    "decode": "decoding calibration images",
    "onnx": "writing model.onnx",
    "quantized": "quantizing to int8",
    "golden": "recording golden answers",
    "prove": "proving every file",
    "report": "writing the report",
}


class Board(Bars):
    """Two bars: the steps of the whole comparison, and the current step.

    It is a `Progress` of the pipeline, so that trainings and exports draw on it.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._whole = self._bars.add_task("Comparing", total=None)
        self._step: TaskID | None = None
        self._name, self._began = "", 0.0

    def plan(self, steps: int) -> None:
        """How many steps the whole has."""
        self._bars.update(self._whole, total=steps)

    def at(self, title: str, done: int) -> None:
        """What the next steps belong to: a line of its own, and the upper bar's text.

        Args:
            done: steps of the whole that lie behind.
        """
        self.console.print(f"[bold]{escape(title)}[/]", highlight=False)
        self._bars.update(self._whole, description=escape(title), completed=done)

    def passed(self, steps: int = 1) -> None:
        """So many steps of the whole are done."""
        self._bars.advance(self._whole, steps)

    def note(self, text: str) -> None:
        """One line that stays."""
        self.console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)

    def start(self, stage: str, total: int | None = None) -> None:
        self._end_step()
        row = bundle.BY_KEY.get(stage)
        self._name = _STEPS.get(stage) or (f"writing {row.path}" if row else stage)
        self._began = time.perf_counter()
        self._step = self._bars.add_task(escape(self._name), total=total)

    def advance(self) -> None:
        if self._step is not None:
            self._bars.advance(self._step)

    def done(self, note: str = "") -> None:
        seconds = time.perf_counter() - self._began
        self._end_step()
        tail = f"  [dim]{escape(note)}[/]" if note else ""
        self.console.print(
            f"  {escape(self._name):<40}[dim]{seconds:7.1f} s[/]{tail}",
            highlight=False,
            soft_wrap=True,
        )

    def _end_step(self) -> None:
        if self._step is not None:
            self._bars.remove_task(self._step)
            self._step = None
