"""Wall times, interleaved: every artifact is timed in the same seconds as the reference.

A desktop's clock and load drift over a run. So each round times every session once,
on the same pixels, starting with another session each round; the ratio to the
reference then compares like with like. Medians and 90th percentiles, never means.
"""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.prove.results import Latency, LatencyResult
from exporter.prove.runtimes.base import Pixels, Session
from models.errors import UserError

MIN_RUNS = 50
FEWEST_LONG = 10  # timed rounds, where each takes long
NOTE = "Times are those of a desktop or CI processor, which is not a phone: compare the ratios."


@dataclass(frozen=True)
class LatencySettings:
    """How long to measure.

    Attributes:
        runs: timed runs of each session, 50 at least.
        warmup: untimed rounds before them.
        seconds: once all sessions together took so long, `FEWEST_LONG` timed rounds are enough;
            a tenth of it is enough to warm up. A run of a second is itself a mean over what
            disturbs it, and 50 of each file of a large network would take minutes.
    """

    runs: int = 100
    warmup: int = 10
    seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.runs < MIN_RUNS or self.warmup < 1:
            raise UserError(
                f"Latency over {self.runs} runs after {self.warmup} of warm-up was asked for.",
                f"fewer than {MIN_RUNS} runs and 1 of warm-up give no steady median",
                "ask for more, or switch latency off",
            )


@dataclass(frozen=True)
class Timed:
    """One session to time.

    Attributes:
        key: the format's key, or the reference's name.
        runtime: the runtime with its version.
    """

    key: str
    runtime: str
    session: Session


def measure(
    entries: Sequence[Timed],
    pixels: Sequence[Pixels],
    threads: int,
    settings: LatencySettings,
    not_timed: Sequence[tuple[str, str]] = (),
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Latency:
    """Time sessions against the first of them.

    Args:
        entries: what to time; the first is the reference that ratios refer to.
        pixels: ready-made images, uint8 `[height, width, 3]`, taken in turn.
        threads: what the sessions were opened with, for the record.
        clock: nanoseconds.

    Returns:
        milliseconds an image, batch 1: median, 90th percentile, ratio of medians.
    """
    times: list[tuple[int, ...]] = []
    warm = spent = 0
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection inside one session's turn would be booked on that session
    try:
        while warm < settings.warmup and (not warm or spent <= settings.seconds * 1e8):
            spent += sum(_round(entries, pixels, warm, clock))
            warm += 1
        spent = 0
        while len(times) < settings.runs and (
            len(times) < FEWEST_LONG or spent <= settings.seconds * 1e9
        ):
            times.append(_round(entries, pixels, warm + len(times), clock))
            spent += sum(times[-1])
    finally:
        if was_enabled:
            gc.enable()
    each = list(zip(*times, strict=True))  # by session
    medians = [float(np.median(taken)) / 1e6 for taken in each]
    results = tuple(
        LatencyResult(
            key=entry.key,
            runtime=entry.runtime,
            runs=len(taken),
            median_ms=median,
            p90_ms=float(np.percentile(taken, 90)) / 1e6,
            ratio=median / medians[0] if medians[0] else 0.0,
        )
        for entry, taken, median in zip(entries, each, medians, strict=True)
    )
    return Latency(device_name(), threads, warm, results, tuple(not_timed))


def _round(
    entries: Sequence[Timed], pixels: Sequence[Pixels], turn: int, clock: Callable[[], int]
) -> tuple[int, ...]:
    """The nanoseconds of each session on one image; each turn begins with another one."""
    image, count = pixels[turn % len(pixels)], len(entries)
    taken = [0] * count
    for place in range(count):
        index = (turn + place) % count
        before = clock()
        entries[index].session.probabilities(image)
        taken[index] = clock() - before
    return tuple(taken)


def device_name() -> str:
    """The processor's name and core count, as the system gives it."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "Hardware") and value.strip():
                return value.strip()
    if platform.system() == "Darwin":
        try:
            asked = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
                capture_output=True, text=True, check=False, timeout=5,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return platform.machine()
        if asked.stdout.strip():
            return asked.stdout.strip()
    return platform.processor() or platform.machine() or "unknown processor"
