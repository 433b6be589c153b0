"""The labels of a run: one a class, with the attributes that somebody wrote down."""

from __future__ import annotations

from pathlib import Path

from models.contract import Label, load_labels
from models.training.settings import TrainingError


def settle_labels(
    given: Path | tuple[Label, ...] | None, classes: tuple[str, ...]
) -> tuple[Label, ...]:
    """One label for each class, in the order of the data's classes.

    Raises:
        TrainingError: the names are not exactly the classes' names.
        ContractError: the labels file cannot be read.
    """
    if given is None:
        return tuple(Label(name) for name in classes)
    labels = given if isinstance(given, tuple) else load_labels(given)
    by_name = {label.name: label for label in labels}
    lacking = [name for name in classes if name not in by_name]
    spare = [name for name in by_name if name not in classes]
    if lacking or spare or len(by_name) != len(labels):
        found = [
            f"{what}: {', '.join(names[:5])}"
            for what, names in (("without a label", lacking), ("without images", spare))
            if names
        ]
        raise TrainingError(
            "The labels do not match the classes of the data.",
            "; ".join(found) or "a label is there twice",
            "name each label exactly as its folder, its label in the table or its category",
        )
    return tuple(by_name[name] for name in classes)
