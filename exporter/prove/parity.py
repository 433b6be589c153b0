"""The proof: every artifact of a bundle against the model it was made from.

Images are decoded once each and go to all sessions; what is kept of an image is a
summary of a few numbers, so memory does not grow with the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from exporter.bundle import Bundle, Format, Precision, size_of
from exporter.prove import golden, latency
from exporter.prove.compare import FLOAT16, FLOAT32, Comparison, NumberFormat
from exporter.prove.gates import GATES, Limits, check, judged
from exporter.prove.imageset import ImageSet, Sample, evenly, prepare
from exporter.prove.latency import LatencySettings, Timed
from exporter.prove.opened import GetRuntime, Opened, one_line, open_artifacts, open_reference
from exporter.prove.results import ArtifactResult, Latency, ParityReport
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from models.errors import UserError
from models.images import ImageFile

_TIMED_IMAGES = 8


@dataclass(frozen=True)
class ParitySettings:
    """How a proof is run.

    Attributes:
        threads: of every runtime that can be told.
        limit: at most so many images, spread evenly over the list.
        evaluated_limit: at most so many for artifacts that are evaluated instead of
            run, which takes a hundred times as long; the report says over how many.
        gates: limits for each precision, see `gates.with_overrides`.
        runtimes: only these, by name; None for all.
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
    ):
        duel = _Duel(bundle, given, reference, opened)
        few = evenly(len(given.samples), settings.evaluated_limit)
        for place, sample in enumerate(given.samples):
            duel.image(sample, evaluate=place in few)
            if settings.on_image is not None:
                settings.on_image()
        results = tuple(duel.result(entry, settings.gates) for entry in opened)
        timing = None
        if settings.latency is not None and runtime.timed:
            name = "torch" if runtime.name == "torch" else "reference"
            first = Timed(name, runtime.version(), reference)
            timing = _time(settings.latency, settings.threads, duel, first, opened)
    notes = [*settings.notes, *given.notes]
    evaluated = [entry for entry in opened if duel.works(entry) and entry.evidence == "evaluated"]
    if evaluated and len(few) < len(given.samples):
        notes.append(f"evaluated, not run, on {len(few)} of the images: {_keys(evaluated)}")
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
        artifacts=results,
        latency=timing,
        notes=tuple(notes),
    )


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


def _keys(entries: Sequence[Opened]) -> str:
    return ", ".join(entry.row.key for entry in entries)


def numbers_of(row: Format) -> NumberFormat:
    """The arithmetic in which a format's softmax is computed.

    Core ML computes float16 programs, and those with int8 weights, in float16; the
    float16 and int8 TFLite files compute their softmax in float32.
    """
    return FLOAT16 if row.runtime == "coreml" and row.precision != "float32" else FLOAT32


class _Duel:
    """The reference and the artifacts, image by image."""

    def __init__(
        self, bundle: Bundle, given: ImageSet, reference: Session, opened: Sequence[Opened]
    ) -> None:
        self._bundle, self._given, self._reference = bundle, given, reference
        activation = bundle.contract.activation
        self._sessions: dict[str, Session] = {}
        self._comparisons: dict[str, Comparison] = {}
        self._evaluated = {entry.row.key for entry in opened if entry.evidence == "evaluated"}
        self._broken: dict[str, str] = {}
        self.ready: list[Pixels] = []
        self._recorded = golden.load(bundle) if given.square else None
        self.replays: list[golden.Replay] = []
        for entry in opened:
            if entry.session is not None:
                self._sessions[entry.row.key] = entry.session
                self._comparisons[entry.row.key] = Comparison(activation, numbers_of(entry.row))

    def image(self, sample: Sample, evaluate: bool) -> None:
        """Classify one image everywhere; only where it is run, without `evaluate`."""
        pixels = self._given.pixels(sample)
        pixels.setflags(write=False)  # no session may change what the next one sees
        if len(self.ready) < _TIMED_IMAGES:
            self.ready.append(pixels)
        wanted = self._reference.probabilities(pixels)
        self._require_sound(wanted, sample)
        label = None if sample.truth is None else self._bundle.contract.names[sample.truth]
        for key, session in self._sessions.items():
            if key in self._broken or (key in self._evaluated and not evaluate):
                continue
            try:
                found = session.probabilities(pixels)
            except UserError as error:
                self._broken[key] = one_line(error)
                continue
            if found.shape != wanted.shape:
                self._broken[key] = f"it gives {found.shape} values, the reference {wanted.shape}"
                continue
            self._comparisons[key].add(sample.name, wanted, found, label, sample.truth)
            if self._recorded is not None:
                self.replays.append(self._recorded.replay(sample.path.name, key, found))

    def _require_sound(self, wanted: Probabilities, sample: Sample) -> None:
        classes = len(self._bundle.contract.labels)
        if wanted.shape != (classes,):
            raise UserError(
                f"The reference gives {wanted.shape} values, the contract has {classes} labels.",
                "nothing can be compared with it",
                "export the model again",
            )
        if not np.isfinite(wanted).all():
            raise UserError(
                f"The reference itself gives NaN or infinity for {sample.name}.",
                "its weights hold such values, or it overflows",
                "train it again, or take an earlier checkpoint",
            )

    def works(self, entry: Opened) -> bool:
        return entry.session is not None and entry.row.key not in self._broken

    def result(self, entry: Opened, gates: Mapping[Precision, Limits]) -> ArtifactResult:
        """What the comparison of one artifact came to."""
        row = entry.row
        path = self._bundle.path(row.key)
        base = ArtifactResult(
            key=row.key,
            path=row.path,
            precision=row.precision,
            runtime=row.runtime,
            version=entry.version,
            evidence=entry.evidence,
            status=entry.status,
            reason=entry.reason,
            bytes=size_of(path) if path.exists() else 0,
        )
        if entry.session is None:
            return base
        if row.key in self._broken:
            return replace(base, status="failed", reason=self._broken[row.key])
        metrics = self._comparisons[row.key].metrics()
        checks = check(metrics, gates[row.precision], self._bundle.contract.activation)
        return judged(metrics.put_into(base), checks)


def _time(
    settings: LatencySettings,
    threads: int,
    duel: _Duel,
    reference: Timed,
    opened: Sequence[Opened],
) -> Latency:
    entries, not_timed = [reference], []
    for entry in opened:
        if not duel.works(entry):
            not_timed.append((entry.row.key, entry.reason or "it does not run"))
        elif not entry.timed:
            not_timed.append((entry.row.key, "evaluated, not run: its speed says nothing"))
        else:
            assert entry.session is not None
            entries.append(Timed(entry.row.key, entry.version, entry.session))
    return latency.measure(entries, duel.ready, threads, settings, tuple(not_timed))
