"""From probabilities and true classes to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.evaluate.photographs import Photograph, Photographs, truth_of
from exporter.evaluate.results import Calibration, Chosen, Evaluation, Measured
from exporter.evaluate.running import Answered, Broken
from models import calibration, metrics, safety
from models.contract import Contract
from models.errors import UserError
from models.metrics import Confusion

__all__ = ["Answers", "evaluate", "has_attributes", "verdicts"]


@dataclass(frozen=True, eq=False)
class Answers:
    """What tables and pictures are drawn from.

    Attributes:
        photographs: those that could be decoded.
        truth: int64 `[n]`, or 0 and 1 in `[n, classes]`.
        given: key of each file that answered, to the photographs that it was given and its
            probabilities, float32 `[m, classes]`.
    """

    photographs: tuple[Photograph, ...]
    truth: npt.NDArray[np.int64]
    given: dict[str, tuple[list[int], npt.NDArray[np.float32]]]


def has_attributes(contract: Contract) -> bool:
    """Whether the labels say of any class that it is venomous."""
    return any(label.venomous == "yes" for label in contract.labels)


def class_thresholds(contract: Contract) -> tuple[float, ...]:
    """From which probability each class counts; empty where an image has one class."""
    return contract.class_thresholds if contract.multi_label else ()


def evaluate(
    given: str,
    contract: Contract,
    photographs: Photographs,
    answered: Sequence[Answered],
    whole: Sequence[Photograph],
    broken: Sequence[Broken],
    most_missed: float | None,
    notes: Sequence[str],
) -> tuple[Evaluation, Answers]:
    """Measure every file.

    Raises:
        UserError: none of the files answered.
        MissingExtraError: torchmetrics is not installed.
    """
    truth = truth_of(tuple(whole), len(contract.labels), photographs.many)
    files = tuple(_measured(each, truth, contract, most_missed) for each in answered)
    main = next((place for place, each in enumerate(answered) if each.works), None)
    if main is None:
        reason = files[0].reason
        raise UserError(
            f"{files[0].path} cannot be evaluated." if len(files) == 1
            else f"No file of {given} can be evaluated.",
            reason,
            "'exporter doctor' lists what is installed; export the model again if it is damaged",
        )  # fmt: skip
    confusions: tuple[Confusion, ...] = ()
    if not photographs.many:
        table, places = answered[main].probabilities, answered[main].places
        matrix = metrics.confusion_matrix(
            truth[places], metrics.answers_of(table), len(contract.labels)
        )
        confusions = metrics.confusions(matrix)
    files = tuple(
        replace(file, reference_accuracy=_accuracy_there(answered[main], each, truth, contract))
        if each.works and each is not answered[main]
        else file
        for file, each in zip(files, answered, strict=True)
    )
    evaluation = Evaluation(
        model=contract.name,
        given=given,
        data=photographs.source,
        images=len(whole),
        total=photographs.total,
        broken=tuple(broken),
        labels=contract.labels,
        activation=contract.activation,
        threshold=contract.not_sure_threshold,
        thresholds=class_thresholds(contract),
        files=files,
        main=main,
        confusions=confusions,
        notes=tuple(notes),
    )
    kept = {
        each.opened.row.key: (each.places, each.probabilities) for each in answered if each.works
    }
    return evaluation, Answers(tuple(whole), truth, kept)


def _measured(
    answered: Answered, truth: npt.NDArray[np.int64], contract: Contract, most: float | None
) -> Measured:
    opened = answered.opened
    base = {
        "key": opened.row.key,
        "path": opened.row.path,
        "runtime": opened.runtime,
        "version": opened.version,
        "evidence": opened.evidence,
    }
    if not answered.works:
        reason = answered.broken or opened.reason or "it was given no image"
        status: Any = "failed" if answered.broken else opened.status
        status = "not run" if status == "passed" else status
        return Measured(**base, images=0, status=status, reason=reason)  # type: ignore[arg-type]
    table, right = answered.probabilities, truth[answered.places]
    counts = _safety(table, right, contract, most)
    return Measured(
        **base,  # type: ignore[arg-type]
        images=len(table),
        status="passed",
        scores=_scores(table, right, contract),
        calibration=_calibration(table, right, contract),
        safety=counts[0],
        chosen=counts[1],
    )


def _accuracy_there(
    first: Answered, other: Answered, truth: npt.NDArray[np.int64], contract: Contract
) -> float | None:
    """The first file's accuracy on the images that another was given."""
    row_of = {place: row for row, place in enumerate(first.places)}
    if not set(other.places) <= set(row_of):
        return None
    table = first.probabilities[[row_of[place] for place in other.places]]
    return _scores(table, truth[other.places], contract).accuracy


def _scores(table: Any, right: npt.NDArray[np.int64], contract: Contract) -> metrics.Scores:
    if right.ndim == 1:
        return metrics.single_label_scores(table, right)
    return metrics.multi_label_scores(table, right, class_thresholds(contract))


def _calibration(table: Any, right: npt.NDArray[np.int64], contract: Contract) -> Calibration:
    """From the probabilities alone, so that it is the same for every kind of file."""
    logits = calibration.logits_of(table, contract.activation)
    fitted = calibration.fit(logits, right, contract.activation)
    halves = calibration.cross_validated(logits, right, contract.activation)
    return Calibration(
        error=calibration.expected_calibration_error(table, right),
        bins=calibration.reliability(table, right),
        temperature=fitted.temperature,
        note=fitted.note,
        error_after=halves.after if halves is not None else None,
        bins_after=(
            calibration.reliability(halves.after_probabilities, right) if halves is not None else ()
        ),
    )


def verdicts(table: Any, right: npt.NDArray[np.int64], contract: Contract) -> safety.Verdicts:
    """What was said of each image's venom."""
    venomous = [label.venomous for label in contract.labels]
    return safety.verdicts(table, right, venomous, class_thresholds(contract) or None)


def _safety(
    table: Any, right: npt.NDArray[np.int64], contract: Contract, most: float | None
) -> tuple[safety.Safety | None, Chosen | None]:
    if not has_attributes(contract):
        return None, None
    found = verdicts(table, right, contract)
    counts = safety.count(found, contract.not_sure_threshold)
    if most is None:
        return counts, None
    threshold = safety.choose_threshold(found, most)
    return counts, Chosen(
        most,
        threshold,
        safety.count(found, threshold) if threshold is not None else None,
        safety.images_needed(most) if most > 0 else None,
    )
