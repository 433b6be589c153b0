"""Train a classifier on folders of photographs, from published weights or from nothing.

    checkpoint = train(TrainSettings(out=Path("runs/flowers"), data=Path("flowers"),
                                     weights="imagenet"))

The result takes raw pixels by way of `pixel / 127.5 - 1`, see `models.normalization`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.contract import Contract, Label
from models.data.dividing import Divided
from models.data.labelled import LabelledSet
from models.training import reading
from models.training.calibrating import calibrate
from models.training.measuring import measure, measure_all, test_line
from models.training.naming import settle_labels
from models.training.record import RunFolder, describe
from models.training.settings import (
    FINE_TUNE,
    FROM_SCRATCH,
    Recipe,
    TrainingError,
    TrainingInterruptedError,
    TrainSettings,
    check,
)
from models.training.techniques import settled_criterion, settled_loss

__all__ = [
    "FINE_TUNE",
    "FROM_SCRATCH",
    "Recipe",
    "TrainSettings",
    "TrainingError",
    "TrainingInterruptedError",
    "measure",
    "settle_labels",
    "train",
]
Say = Callable[[str], None]


def train(
    settings: TrainSettings,
    data: tuple[LabelledSet, LabelledSet] | None = None,
    on_message: Say = lambda text: None,
) -> Path:
    """Train, and keep the best epoch's weights.

    Args:
        data: training and validation images; read from the settings' folders if None.
        on_message: told what happens, one line each.

    Returns:
        The path of the checkpoint, `checkpoint.safetensors` in `settings.out`.

    Raises:
        UserError: settings, data, labels or weights that cannot be used; all of it
            is checked, and every image decoded, before the first epoch.
        TrainingInterruptedError: Ctrl-C; what is finished is kept.
    """
    if settings.quantization_aware:
        from models.training.start import continued

        settings = continued(settings)
    check(settings)
    folder = RunFolder(Path(settings.out))
    folder.check(settings.resume, settings.force)
    _refuse_own_weights(settings, folder)
    divided = Divided(*data, None) if data else reading.read(settings, on_message)
    train_set, validation_set, test_set = divided.train, divided.validation, divided.test
    settled_loss(settings.techniques.loss, train_set.multi_label)
    settled_criterion(settings.techniques.keeping, train_set.multi_label)
    if settings.quantization_aware and train_set.multi_label:
        raise TrainingError(
            "--quantization-aware trains one class an image.",
            "these images may have several",
            "train in float; exporter export quantizes it afterwards",
        )
    labels = settle_labels(settings.labels, train_set.classes)
    description = describe(settings, labels, train_set, validation_set)
    if settings.resume:
        folder.compare(description)
        if folder.finished():
            on_message(f"The run in {folder.path} is finished already.")
            return folder.checkpoint
    on_message(
        f"{len(labels)} classes, {len(train_set)} training and "
        f"{len(validation_set)} validation images"
    )

    def begin() -> None:
        folder.begin(description)
        reading.keep_split(folder, settings, divided)

    history = _fit(settings, folder, begin, labels, (train_set, validation_set), on_message)
    history |= calibrate(folder.checkpoint, validation_set, on_message, settings.temperature)
    if test_set is not None:
        found = measure_all(folder.checkpoint, test_set)
        history |= {f"test_{name}": round(value, 5) for name, value in found.items()}
        on_message(f"{test_line(found)} on {len(test_set)} images")
    folder.write_history(**history, finished=True)
    return folder.checkpoint


def _refuse_own_weights(settings: TrainSettings, folder: RunFolder) -> None:
    """Refuse to begin with the weights of the very run that would be replaced.

    Raises:
        TrainingError: `weights` is the checkpoint in `out`.
    """
    weights = Path(settings.weights)
    if settings.resume or not (weights.is_file() and folder.checkpoint.is_file()):
        return
    if weights.samefile(folder.checkpoint):
        raise TrainingError(
            f"{folder.path} holds the weights that the run would begin with.",
            "it would replace them",
            "give --out a folder of its own",
        )


def _fit(
    settings: TrainSettings,
    folder: RunFolder,
    begin: Callable[[], None],
    labels: tuple[Label, ...],
    sets: tuple[LabelledSet, LabelledSet],
    on_message: Say,
) -> dict[str, Any]:
    """Everything that needs torch; the history of the run."""
    from models.training import adapting
    from models.training.course import Course
    from models.training.start import starting_network

    contract = Contract(
        labels,
        settings.preprocessing,
        activation="sigmoid" if sets[0].multi_label else "softmax",
        name=settings.name or folder.path.resolve().name,
    )
    notes: dict[str, Any] = {}
    adaptation = None
    net = starting_network(settings, labels, on_message)
    if settings.quantization_aware:
        contract, notes = adapting.inherited(settings.weights, contract)
        pictures = adapting.calibration_pictures(sets[0], settings.preprocessing, folder.path)
        adaptation = adapting.Adaptation(pictures, on_message)
    course = Course(settings, folder, net, contract, sets, on_message, adaptation, notes)
    course.run(begin)
    history: dict[str, Any] = {"epochs": course.keeper.epochs, "best": course.keeper.best}
    if adaptation is not None:
        history["quantization_aware"] = adaptation.figures
    return history
