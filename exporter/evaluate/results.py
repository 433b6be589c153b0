"""What an evaluation came to, and its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from exporter.evaluate.running import Broken
from exporter.prove.results import Status
from exporter.prove.runtimes.base import Evidence
from models.calibration import Bin
from models.labels import Label
from models.metrics import Confusion, Scores
from models.safety import Safety, Share

SCHEMA = 1


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities can be believed.

    Attributes:
        error: expected calibration error as they are.
        bins: what it is made of.
        temperature: that which would make the answers likeliest; 1 changes nothing.
        note: why it is not the minimum; '' where it is.
        error_after: the error where each half of the images was given the temperature
            fitted on the other half; None for a single image.
        bins_after: what that is made of.
    """

    error: float
    bins: tuple[Bin, ...]
    temperature: float
    note: str
    error_after: float | None
    bins_after: tuple[Bin, ...]


@dataclass(frozen=True)
class Chosen:
    """A threshold for a stated rate of venomous species called harmless.

    Attributes:
        most: the rate that was asked for.
        threshold: the smallest that keeps it on these images; None where none does.
        safety: the counts there; None with it.
        needed: images of venomous species, none of them missed, that would rule out a
            higher rate at 95 % confidence; None for a rate of 0.
    """

    most: float
    threshold: float | None
    safety: Safety | None
    needed: int | None


@dataclass(frozen=True)
class Measured:
    """One file.

    Attributes:
        key: the format, 'reference' or 'checkpoint', or a lone file's name.
        path: where it is.
        images: how many it answered.
        reference_accuracy: of the first file that answered, on the images that this one was
            given; None for that file itself and where it did not answer them all.
        status: 'passed' where it answered, else 'failed' or 'not run' with `reason`.
        safety: None where the labels do not say which species are venomous.
    """

    key: str
    path: str
    runtime: str
    version: str
    evidence: Evidence
    images: int
    status: Status
    reason: str = ""
    reference_accuracy: float | None = None
    scores: Scores | None = None
    calibration: Calibration | None = None
    safety: Safety | None = None
    chosen: Chosen | None = None


@dataclass(frozen=True)
class Evaluation:
    """A whole run.

    Attributes:
        model: the contract's name for it.
        given: the path that was named.
        data: where the photographs come from.
        images: how many of them were used.
        total: how many there are.
        broken: those that cannot be decoded.
        labels: the classes.
        activation: 'softmax' or 'sigmoid'.
        threshold: the contract's for 'not sure'.
        thresholds: above which a class is there, one a class; empty for softmax.
        files: every file.
        main: index of the one that tables, pictures and answers are of.
        confusions: of that, counts of (truth, answer), the diagonal included; none for
            sigmoid.
        notes: what a reader has to know.
    """

    model: str
    given: str
    data: str
    images: int
    total: int
    broken: tuple[Broken, ...]
    labels: tuple[Label, ...]
    activation: str
    threshold: float
    thresholds: tuple[float, ...]
    files: tuple[Measured, ...]
    main: int
    confusions: tuple[Confusion, ...]
    notes: tuple[str, ...]

    @property
    def shown(self) -> Measured:
        return self.files[self.main]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    def to_json(self) -> dict[str, Any]:
        """All numbers; see docs/evaluation.md for the keys."""
        known = _plain(self)
        known["labels"] = [label.to_json() for label in self.labels]
        known["confusions"] = [[each.truth, each.answer, each.count] for each in self.confusions]
        return {"schema": SCHEMA, "kind": "evaluation", **known}


def _plain(value: Any) -> Any:
    """Dataclasses as objects, tuples as lists; a share with its rate and interval."""
    if isinstance(value, Share):
        return {**asdict(value), "rate": value.rate, "interval": list(value.interval)}
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value
