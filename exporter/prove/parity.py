"""The proof: every artifact of a bundle against the model it was made from.

Images are decoded once each and go to all sessions; what is kept of an image is a
summary of a few numbers, so memory does not grow with the probabilities.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporter.bundle import Bundle, Precision
from exporter.prove import devices, golden, latency
from exporter.prove.duel import Duel
from exporter.prove.gates import GATES, Limits
from exporter.prove.imageset import ImageSet, prepare
from exporter.prove.latency import LatencySettings, Timed
from exporter.prove.opened import ALL, GetRuntime, Opened, one_line, open_artifacts, open_reference
from exporter.prove.results import ArtifactResult, Latency, ParityReport
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Runtime, Session
from models.errors import UserError
from models.images import ImageFile


@dataclass(frozen=True)
class ParitySettings:
    """How a proof is run.

    Attributes:
        threads: of every runtime that can be told.
        limit: at most so many images, spread evenly over the list.
        evaluated_limit: at most so many for artifacts that are evaluated or emulated,
            which takes a hundred times as long; the report says over how many.
        gates: limits for each precision, see `gates.with_overrides`.
        runtimes: only these, by name; None for every format's own, 'all' for those and
            the runtimes that open the same files once more.
        latency: how to time, or None not to.
        on_image: called after each image, for a progress bar.
        notes: said in the report, before its own.
    """

    threads: int = 1
    limit: int | None = None
    evaluated_limit: int | None = None
    gates: Mapping[Precision, Limits] = field(default_factory=lambda: GATES)
    runtimes: tuple[str, ...] | None = None
    latency: LatencySettings | None = field(default_factory=LatencySettings)
    on_image: Callable[[], None] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise UserError(f"{self.threads} threads were asked for.", "", "ask for 1 or more")
        for limit in (self.limit, self.evaluated_limit):
            if limit is not None and limit < 1:
                raise UserError(
                    f"The limit is {limit} images.", "a proof needs one at least", "raise it"
                )


def run_parity(
    bundle: Bundle,
    images: Sequence[ImageFile],
    root: Path | None,
    *,
    settings: ParitySettings | None = None,
    get_runtime: GetRuntime = registry.get,
) -> ParityReport:
    """Compare every artifact with the reference, and time them in the same run.

    Args:
        bundle: an opened bundle.
        images: from `models.images.list_images(root)`; none takes the golden images.
        root: the image folder, for names and labels.
        settings: see `ParitySettings`.
        get_runtime: where runtimes come from; tests put their own here.

    Raises:
        UserError: images that cannot be decoded (found before anything is opened), a
            reference that is missing, cannot be opened here, or gives no numbers.
    """
    settings = settings or ParitySettings()
    given = prepare(bundle, images, root, settings.limit)
    with (
        _reference(bundle, given, settings.threads, get_runtime) as (reference, runtime),
        open_artifacts(bundle, settings.threads, settings.runtimes, get_runtime) as opened,
        _threads(settings.threads) as pool,
    ):
        duel = Duel(bundle, given, reference, opened, settings.evaluated_limit, pool)
        for sample in given.samples:
            duel.image(sample)
            if settings.on_image is not None:
                settings.on_image()
        results = tuple(duel.result(entry, settings.gates) for entry in opened)
        timing = None
        if settings.latency is not None and runtime.timed:
            name = "torch" if runtime.name == "torch" else "reference"
            first = Timed(name, runtime.version(), reference)
            timing = _time(settings.latency, settings.threads, duel, first, opened)
    reported, device_latencies, left_out = _devices(bundle, settings)
    notes = [*settings.notes, *given.notes]
    notes += [
        f"{evidence} on {count} of the images: {', '.join(keys)}"
        for (evidence, count), keys in duel.limited().items()
    ]
    notes += dict.fromkeys(
        f"{entry.runtime}: {entry.version}"
        for entry in opened
        if entry.counterpart is not None and duel.works(entry)
    )
    if reported:
        names = ", ".join(dict.fromkeys(row.device for row in reported))
        notes.append(f"reported by devices on the golden images: {names}")
    notes += left_out
    if given.square:
        notes += golden.replay_notes(duel.replays)
    if timing is not None:
        notes.append(latency.NOTE)
    elif settings.latency is not None:
        notes.append("latency not run: there is no reference here to take the ratio to")
    return ParityReport(
        model=bundle.contract.name,
        reference=runtime.version(),
        image_source=given.source,
        images=len(given.samples),
        labelled=given.labelled,
        artifacts=(*results, *reported),
        reference_accuracy=duel.reference_accuracy,
        several=bundle.contract.multi_label,
        latency=timing,
        device_latencies=device_latencies,
        notes=tuple(notes),
    )


def _threads(each: int) -> ThreadPoolExecutor:
    """Threads for the sessions of a proof, as many as the processor has room for."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // each))


@contextmanager
def _reference(
    bundle: Bundle, given: ImageSet, threads: int, get: GetRuntime
) -> Iterator[tuple[Session, Runtime]]:
    """The reference; for golden images its recorded answers where it cannot be run here."""
    lacking = get(registry.reference_name(bundle.reference)).unavailable()
    recorded = golden.recorded_reference(bundle, lacking) if given.square and lacking else None
    if recorded is not None:
        with recorded.open(bundle.reference, bundle.contract) as session:
            yield session, recorded
        return
    with open_reference(bundle, threads, get) as opened:
        yield opened


def _devices(
    bundle: Bundle, settings: ParitySettings
) -> tuple[tuple[ArtifactResult, ...], tuple[Latency, ...], list[str]]:
    """What devices sent for this bundle, where their runtime was asked for.

    Returns:
        Rows, latencies of the files that still are those of the bundle, and a note on
        each result that was left out.
    """
    if settings.runtimes is not None and not {ALL, "browser"} & set(settings.runtimes):
        return (), (), []
    unusable: list[devices.DeviceError] = []
    rows: list[ArtifactResult] = []
    timings: list[Latency | None] = []
    for one in devices.load(bundle, unusable.append):
        found = devices.rows(bundle, one, settings.gates)
        rows += found
        current = {row.key for row in found if row.status != "not run"}
        timings.append(devices.latency(one, current))
    notes = [f"a device's result was left out: {one_line(error)}; remove it" for error in unusable]
    return tuple(rows), tuple(timing for timing in timings if timing is not None), notes


def _time(
    settings: LatencySettings,
    threads: int,
    duel: Duel,
    reference: Timed,
    opened: Sequence[Opened],
) -> Latency:
    entries, not_timed = [reference], []
    for entry in opened:
        if entry.counterpart is not None:
            continue  # its file is timed in its own runtime; elsewhere it says nothing
        if not duel.works(entry):
            not_timed.append((entry.row.key, entry.reason or "it does not run"))
        elif not entry.timed:
            not_timed.append((entry.row.key, f"{entry.evidence}, not run: its speed says nothing"))
        else:
            assert entry.session is not None
            entries.append(Timed(entry.row.key, entry.version, entry.session))
    return latency.measure(entries, duel.ready, threads, settings, tuple(not_timed))
