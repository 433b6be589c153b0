"""One row a quantizer: its figures, what it costs, or why it was not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.int8 import figures, tflite_files
from bench.int8.environments import NotRunError
from bench.int8.figures import Estimate, Figures, PerImage
from bench.int8.ours import Made, Method
from bench.int8.peers import Peer, Ran
from bench.int8.prepared import Logits, Prepared

SIMULATED = "simulated, writes no phone file"
REFERENCE_FILE = "tflite-converter"  # latency ratios refer to it


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        ours: whether it is one of our quantizers.
        writes: whether it writes a .tflite.
        not_run: the reason, or None.
        sqnr_to_ours, error_to_ours: this row's figure minus that of our default, paired.
        seconds, cpu_seconds: to quantize, by the clock and by processor (which a busy
            machine changes less). megabytes: of the file. installed_mb: of the environment.
        latency_ms: median, one thread; `latency_ratio` to TFLiteConverter's file.
    """

    key: str
    label: str
    ours: bool
    writes: bool
    not_run: str | None = None
    version: str | None = None
    figures: Figures | None = None
    sqnr_to_ours: Estimate | None = None
    error_to_ours: Estimate | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    megabytes: float | None = None
    installed_mb: float | None = None
    latency_ms: float | None = None
    latency_ratio: float | None = None


@dataclass(frozen=True)
class _Kept:
    """What outlives a run beside its row."""

    row: Row
    images: PerImage | None
    tflite: Path | None


class Measuring:
    """Collects rows over one task.

    Args:
        prepared: the task.
        say: called with a line for each quantizer.
    """

    def __init__(self, prepared: Prepared, say: Callable[[str], None]) -> None:
        self._prepared = prepared
        self._say = say
        self._weights = figures.resamples(len(prepared.truth))
        self._kept: list[_Kept] = []

    def add_ours(
        self, method: Method, run: Callable[[Method], Made], version: str, installed_mb: float
    ) -> None:
        """Run one of our quantizers; a failure becomes a row that says so."""
        row = Row(method.key, method.label, True, True, version=version, installed_mb=installed_mb)
        try:
            made = run(method)
        except NotRunError as error:
            self._keep(replace(row, not_run=str(error)))
            return
        self._keep(
            replace(row, seconds=made.seconds, cpu_seconds=made.cpu_seconds),
            made.logits,
            made.tflite,
        )

    def add_peer(self, peer: Peer, run: Callable[[Peer, Prepared], Ran]) -> None:
        """Run a peer; a failure becomes a row that says so."""
        row = Row(peer.key, peer.label, False, peer.writes)
        try:
            ran = run(peer, self._prepared)
        except NotRunError as error:
            self._keep(replace(row, not_run=str(error)))
            return
        row = replace(
            row,
            version=ran.version,
            seconds=ran.seconds,
            cpu_seconds=ran.cpu_seconds,
            installed_mb=ran.megabytes,
        )
        self._keep(row, ran.logits, ran.tflite)

    def _keep(self, row: Row, logits: Logits | None = None, tflite: Path | None = None) -> None:
        if logits is None:
            self._say(f"{row.label}: not run: {row.not_run}")
            self._kept.append(_Kept(row, None, None))
            return
        images = figures.compare(
            self._prepared.reference.astype(np.float64),
            logits.astype(np.float64),
            self._prepared.truth,
        )
        if not images.finite.any():
            self._keep(replace(row, not_run="no image gave finite logits"))
            return
        found = figures.figures(images, self._weights)
        size = tflite.stat().st_size / 1e6 if tflite else None
        self._say(f"{row.label}: {found.sqnr.value:.2f} dB, {found.error.value:.3f}")
        self._kept.append(_Kept(replace(row, figures=found, megabytes=size), images, tflite))

    def rows(self, runs: int) -> list[Row]:
        """All rows, with differences to our default and with latencies.

        Args:
            runs: timed runs of each file; 0 times none.
        """
        ours = next(
            (one.images for one in self._kept if one.row.key == "default" and one.images), None
        )
        compared = [self._with_differences(one, ours) for one in self._kept]
        files = [(one.row.key, one.tflite, one.row.ours) for one in self._kept if one.tflite]
        if not runs or not files:
            return compared
        times = tflite_files.latencies(files, self._prepared, runs)
        return [_with_latency(row, times) for row in compared]

    def _with_differences(self, one: _Kept, ours: PerImage | None) -> Row:
        if ours is None or one.images is None or one.images is ours:
            return one.row
        sqnr, error = (
            figures.difference(of, one.images, ours, self._weights)
            for of in (figures.sqnr, figures.error)
        )
        return replace(one.row, sqnr_to_ours=sqnr, error_to_ours=error)


def _with_latency(row: Row, times: dict[str, float]) -> Row:
    if row.key not in times:
        return row
    reference = times.get(REFERENCE_FILE)
    ratio = times[row.key] / reference if reference else None
    return replace(row, latency_ms=times[row.key], latency_ratio=ratio)


@dataclass(frozen=True)
class FoldFigures:
    """One of our quantizers over folds: mean, standard deviation and extremes of a figure."""

    mean: float
    deviation: float
    low: float
    high: float


def over_folds(folds: Sequence[Sequence[Row]]) -> dict[str, dict[str, FoldFigures]]:
    """Figures by row label and name, over the folds in which the row was run in all.

    Args:
        folds: the rows of each fold, the same quantizers in each.
    """
    found: dict[str, dict[str, FoldFigures]] = {}
    for same in zip(*folds, strict=True):
        if any(row.figures is None for row in same):
            continue
        found[same[0].label] = {
            name: _spread([getattr(row.figures, name).value for row in same])
            for name in ("sqnr", "error", "agreement", "top1", "drop")
        }
    return found


def _spread(values: Sequence[float]) -> FoldFigures:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return FoldFigures(float(np.mean(values)), deviation, min(values), max(values))
