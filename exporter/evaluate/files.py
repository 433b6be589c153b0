"""The folder of an evaluation: numbers, tables, pictures and a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.evaluate import page, pictures
from exporter.evaluate.measuring import Answers, verdicts
from exporter.evaluate.results import Calibration, Evaluation
from models.atomic import beside
from models.contract import Contract
from models.errors import UserError
from models.metrics import ClassScores
from models.safety import sweep

__all__ = ["ANSWERS", "CALIBRATION", "CONFUSION", "JSON", "PAGE", "PER_CLASS", "SAFETY",
           "require_folder", "write"]  # fmt: skip

JSON, PAGE = "evaluation.json", "evaluation.html"
PER_CLASS, ANSWERS = "per_class.csv", "answers.csv"
CONFUSION, CALIBRATION, SAFETY = "confusion.png", "calibration.png", "safety.png"
_ALL = (JSON, PAGE, PER_CLASS, ANSWERS, CONFUSION, CALIBRATION, SAFETY)


def require_folder(out: Path) -> None:
    """Find out before the long work that a folder could not be written or replaced.

    Raises:
        UserError: it is a file, or holds what no evaluation wrote.
    """
    if not out.exists():
        return
    strangers = [] if out.is_dir() else [out]
    if out.is_dir():
        strangers = [path for path in sorted(out.iterdir()) if path.name not in _ALL]
    if strangers:
        raise UserError(
            f"{out} cannot be replaced.",
            f"it holds {strangers[0].name}" if out.is_dir() else "it is a file",
            "give the evaluation a folder of its own with --out",
        )


def write(evaluation: Evaluation, answers: Answers, contract: Contract, out: Path) -> None:
    """Make the folder `out`; it appears whole or not at all.

    Raises:
        UserError: it cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    try:
        with beside(out) as staging:
            folder = staging.folder
            _draw(evaluation, answers, contract, folder)
            text = json.dumps(evaluation.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
            _write(folder / JSON, text + "\n")
            _write(folder / PER_CLASS, per_class(evaluation))
            _write(folder / ANSWERS, answers_csv(evaluation, answers))
            drawn = {name: folder / name for name in (CONFUSION, CALIBRATION, SAFETY)
                     if (folder / name).exists()}  # fmt: skip
            _write(folder / PAGE, page.render(evaluation, drawn))
    except OSError as error:
        raise UserError(
            f"{out} cannot be written.",
            error.strerror or str(error),
            "give a folder that may be written with --out",
        ) from error


def _draw(evaluation: Evaluation, answers: Answers, contract: Contract, folder: Path) -> None:
    shown = evaluation.shown
    places, table = answers.given[shown.key]
    if evaluation.confusions:
        matrix = np.zeros((len(contract.labels),) * 2, dtype=np.int64)
        for each in evaluation.confusions:
            matrix[each.truth, each.answer] = each.count
        pictures.confusion(matrix, evaluation.names, folder / CONFUSION)
    found: Calibration | None = shown.calibration
    if found is not None:
        pictures.calibration(
            found.bins, found.error, found.bins_after, found.error_after, found.temperature,
            folder / CALIBRATION,
        )  # fmt: skip
    if shown.safety is not None and shown.safety.called_harmless.of and not evaluation.thresholds:
        chosen = shown.chosen
        pictures.safety(
            sweep(verdicts(table, answers.truth[places], contract)),
            shown.safety.called_harmless.of,
            evaluation.threshold,
            folder / SAFETY,
            most=chosen.most if chosen else None,
            chosen=chosen.threshold if chosen else None,
        )


def per_class(evaluation: Evaluation) -> str:
    """The table of classes as CSV, its rows and columns those of scikit-learn's report.

    Classes that occur neither in the truth nor among the answers are left out, as there.
    """
    scores = evaluation.shown.scores
    assert scores is not None
    many = bool(evaluation.thresholds)
    extra = ["average-precision", "threshold"] if many else []
    rows: list[list[Any]] = [["", "precision", "recall", "f1-score", "support", *extra]]
    for index, (name, each) in enumerate(zip(evaluation.names, scores.classes, strict=True)):
        if scores.counted[index]:
            more: list[Any] = []
            if many:
                more = [_blank(scores.average_precision[index]), evaluation.thresholds[index]]
            rows.append([name, *_figures(each), *more])
    if scores.micro is None:
        rows.append(["accuracy", "", "", _round(scores.accuracy), scores.images])
    means = [("micro avg", scores.micro), ("macro avg", scores.macro),
             ("weighted avg", scores.weighted), ("samples avg", scores.samples)]  # fmt: skip
    for name, mean in means:
        if mean is not None:
            known = _blank(scores.mean_average_precision) if name == "macro avg" else ""
            rows.append([name, *_figures(mean), *([known, ""] if many else [])])
    return _csv(rows)


def answers_csv(evaluation: Evaluation, answers: Answers) -> str:
    """One image a row: the truth, and each file's answer with its probability.

    The main file's columns are 'answer' and 'probability'; another's have its key before
    them. Several classes are separated by '|'. Where 'not sure' is said, its largest
    probability is below the threshold.
    """
    head, columns = ["file", "truth"], []
    order = [evaluation.shown.key, *(key for key in answers.given if key != evaluation.shown.key)]
    for number, key in enumerate(order):
        before = f"{key} " if number else ""
        head += [f"{before}answer", f"{before}probability"]
        columns.append(_column(evaluation, *answers.given[key]))
    rows: list[list[Any]] = [head]
    for place, photograph in enumerate(answers.photographs):
        truth = "|".join(evaluation.names[index] for index in photograph.classes)
        row: list[Any] = [photograph.name, truth]
        for column in columns:
            row += column.get(place, ["", ""])
        rows.append(row)
    return _csv(rows)


def _column(
    evaluation: Evaluation, places: Sequence[int], table: npt.NDArray[np.float32]
) -> dict[int, list[Any]]:
    """Place of a photograph to [answer, probability]."""
    found = {}
    for place, row in zip(places, table, strict=True):
        best = int(row.argmax())
        said = evaluation.names[best]
        if evaluation.thresholds:
            present = np.flatnonzero(row.astype(np.float64) >= evaluation.thresholds)
            said = "|".join(evaluation.names[index] for index in present)
        found[place] = [said, f"{row[best]:.6g}"]
    return found


def _figures(each: ClassScores) -> list[Any]:
    return [_round(each.precision), _round(each.recall), _round(each.f1), each.support]


def _round(value: float) -> float:
    return round(value, 6)


def _blank(value: float | None) -> Any:
    return "" if value is None else _round(value)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
