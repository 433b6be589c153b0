"""Progress that nobody looks at."""

from __future__ import annotations


class Silent:
    """An `exporter.pipeline.request.Progress` that shows nothing."""

    def start(self, stage: str, total: int | None = None) -> None:
        del stage, total

    def advance(self) -> None:
        """Nothing is shown."""

    def done(self, note: str = "") -> None:
        del note
