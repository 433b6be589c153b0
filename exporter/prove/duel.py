"""The reference and every opened file, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

import numpy as np

from exporter.bundle import Bundle, Format, Precision, size_of
from exporter.prove import golden
from exporter.prove.answering import Accuracy, Rule
from exporter.prove.compare import FLOAT16, FLOAT32, Comparison, NumberFormat
from exporter.prove.gates import Limits, check, judged
from exporter.prove.imageset import ImageSet, Sample, evenly
from exporter.prove.inside import other_thresholds
from exporter.prove.opened import Opened, one_line
from exporter.prove.results import ArtifactResult
from exporter.prove.runtimes.base import Pixels, Probabilities, Session
from exporter.prove.tally import Tally
from models.errors import UserError

TIMED_IMAGES = 8
Place = tuple[str, str]  # (format key, runtime)


def numbers_of(row: Format) -> NumberFormat:
    """The arithmetic in which a format's softmax is computed.

    Core ML computes float16 programs, and those with int8 weights, in float16; the
    float16 and int8 TFLite files compute their softmax in float32.
    """
    return FLOAT16 if row.runtime == "coreml" and row.precision != "float32" else FLOAT32


@dataclass
class _Contestant:
    """One opened file and what was seen of it so far."""

    entry: Opened
    session: Session
    comparison: Comparison
    places: set[int] | None  # of the images it is given; None for all
    broken: str = ""
    found: Probabilities | None = None  # of the image at hand
    tally: Tally | None = None


class Duel:
    """The reference and the artifacts, image by image.

    Args:
        bundle: what is proven.
        given: the images.
        reference: the opened reference.
        opened: every row, opened or not.
        pool: threads for sessions that may be asked in any; None asks one after the other.
        slow_limit: how many images go to files that are evaluated or emulated; None
            for as many as their runtimes usually take.

    Attributes:
        ready: the first images, for the latency.
        replays: the golden answers met again, where these are the golden images.
    """

    def __init__(
        self,
        bundle: Bundle,
        given: ImageSet,
        reference: Session,
        opened: Sequence[Opened],
        slow_limit: int | None = None,
        pool: Executor | None = None,
    ) -> None:
        self._pool = pool
        self._bundle, self._given, self._reference = bundle, given, reference
        self._count = 0
        self._rule = Rule.of(bundle.contract)
        self._accuracy = Accuracy(self._rule)
        self.ready: list[Pixels] = []
        self._recorded = golden.load(bundle) if given.square else None
        self.replays: list[golden.Replay] = []
        self._contestants: dict[Place, _Contestant] = {}
        for entry in opened:
            if entry.session is not None:
                comparison = Comparison.of(bundle.contract, numbers_of(entry.row))
                places = _places(entry, len(given.samples), slow_limit)
                self._contestants[entry.place] = _Contestant(
                    entry, entry.session, comparison, places
                )

    def image(self, sample: Sample) -> None:
        """Classify the next image everywhere."""
        pixels = self._given.pixels(sample)
        pixels.setflags(write=False)  # no session may change what the next one sees
        if len(self.ready) < TIMED_IMAGES:
            self.ready.append(pixels)
        asked = [
            contestant
            for contestant in self._contestants.values()
            if not contestant.broken
            and (contestant.places is None or self._count in contestant.places)
        ]
        waiting = {
            contestant.entry.place: self._pool.submit(contestant.session.probabilities, pixels)
            for contestant in asked
            if self._pool is not None and contestant.session.any_thread
        }
        wanted = self._reference.probabilities(pixels)
        self._require_sound(wanted, sample)
        if sample.truth is not None:
            self._accuracy.add(self._rule.answer(wanted), sample.truth)
        for contestant in self._contestants.values():
            contestant.found = None
        for contestant in asked:
            answer = waiting.get(contestant.entry.place)
            self._compare(contestant, sample, pixels, wanted, answer)
        self._count += 1

    def _compare(
        self,
        contestant: _Contestant,
        sample: Sample,
        pixels: Pixels,
        wanted: Probabilities,
        answer: Future[Probabilities] | None,
    ) -> None:
        entry = contestant.entry
        try:
            found = answer.result() if answer else contestant.session.probabilities(pixels)
            if found.shape != wanted.shape:
                contestant.broken = f"it gives {found.shape} values, the reference {wanted.shape}"
                return
            contestant.found = found
            self._face_counterpart(contestant, pixels)
        except UserError as error:
            contestant.broken = one_line(error)
            return
        label = sample.label(self._bundle.contract)
        contestant.comparison.add(sample.name, wanted, found, label, sample.truth)
        if self._recorded is not None and entry.counterpart is None:
            self.replays.append(self._recorded.replay(sample.path.name, entry.row.key, found))

    def _face_counterpart(self, contestant: _Contestant, pixels: Pixels) -> None:
        """Hold a runtime's numbers against those of the runtime that it should repeat."""
        name = contestant.entry.counterpart
        other = self._contestants.get((contestant.entry.row.key, name)) if name else None
        if name is None or other is None or other.found is None or contestant.found is None:
            return
        if contestant.tally is None:
            contestant.tally = Tally(name)
        mine, theirs = contestant.session.integers(pixels), other.session.integers(pixels)
        if mine is not None and theirs is not None:
            contestant.tally.add("steps", mine, theirs)
        else:
            contestant.tally.add("probability", contestant.found, other.found)

    @property
    def reference_accuracy(self) -> float | None:
        """The reference's top-1, or macro F1, over the labelled images; None without any."""
        return self._accuracy.value

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
        found = self._contestants.get(entry.place)
        return found is not None and not found.broken

    def limited(self) -> dict[tuple[str, int], list[str]]:
        """Files that were given some of the images only: (evidence, images) to keys."""
        groups: dict[tuple[str, int], list[str]] = {}
        for found in self._contestants.values():
            if found.places is not None and not found.broken:
                group = (found.entry.evidence, len(found.places))
                groups.setdefault(group, []).append(found.entry.row.key)
        return groups

    def result(self, entry: Opened, gates: Mapping[Precision, Limits]) -> ArtifactResult:
        """What the comparison of one artifact came to."""
        row = entry.row
        path = self._bundle.path(row.key)
        base = ArtifactResult(
            key=row.key,
            path=row.path,
            precision=row.precision,
            runtime=entry.runtime,
            version=entry.version,
            evidence=entry.evidence,
            status=entry.status,
            reason=entry.reason,
            bytes=size_of(path) if path.exists() else 0,
        )
        found = self._contestants.get(entry.place)
        if found is None:
            return base
        if found.broken:
            return replace(base, status="failed", reason=found.broken)
        strange = other_thresholds(self._bundle, row)
        if strange:
            return replace(base, status="failed", reason=strange)
        metrics = found.comparison.metrics()
        checks = check(metrics, gates[row.precision], self._bundle.contract.activation)
        versus = found.tally.result() if found.tally is not None else None
        return judged(replace(metrics.put_into(base), versus=versus), checks)


def _places(entry: Opened, count: int, slow_limit: int | None) -> set[int] | None:
    """Which of `count` images an entry is given; None for all of them."""
    slow = entry.evidence in ("evaluated", "emulated")
    limit = slow_limit if slow and slow_limit is not None else entry.usual_images
    return None if limit is None or limit >= count else evenly(count, limit)
