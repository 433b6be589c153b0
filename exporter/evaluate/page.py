"""The evaluation as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter import __version__
from exporter.evaluate import words
from exporter.evaluate.results import Evaluation

__all__ = ["render"]

_PAIRS = 20
_OPEN = 24  # classes up to which their table is shown unfolded
_BROKEN = 50


def render(evaluation: Evaluation, pictures: Mapping[str, Path]) -> str:
    """The page as text.

    Args:
        pictures: name of each PNG that was drawn, to its file; they are put into the page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter.evaluate"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=words.percent, share=words.share, rate=words.rate, number=words.number
    )
    shown = evaluation.shown
    return environment.get_template("evaluation.html.j2").render(
        evaluation=evaluation,
        shown=shown,
        scores=shown.scores,
        scope=words.scope(evaluation),
        how=words.how,
        pictures={name: _data_url(path) for name, path in pictures.items()},
        safety=words.safety_lines(evaluation),
        chosen=words.chosen_lines(shown.chosen, evaluation.threshold) if shown.chosen else [],
        calibrated=words.calibrated(shown),
        classes=_classes(evaluation),
        unfolded=_OPEN,
        pairs=words.confused(evaluation, _PAIRS),
        broken=evaluation.broken[:_BROKEN],
        version=__version__,
    )


def _classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The classes that occur, the lowest F1 first."""
    scores = evaluation.shown.scores
    assert scores is not None
    many = bool(evaluation.thresholds)
    rows = [
        {
            "label": label,
            "each": scores.classes[index],
            "precision": scores.average_precision[index] if many else None,
            "threshold": evaluation.thresholds[index] if many else None,
        }
        for index, label in enumerate(evaluation.labels)
        if scores.counted[index]
    ]
    return sorted(rows, key=lambda row: (row["each"].f1, -row["each"].support))


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
