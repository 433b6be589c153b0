"""Train a classifier on folders of photographs, from published weights or from nothing.

    checkpoint = train(TrainSettings(out=Path("runs/flowers"), data=Path("flowers"),
                                     weights="imagenet"))

The result takes raw pixels by way of `pixel / 127.5 - 1`, see `models.normalization`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.contract import Contract, Label
from models.data.dividing import Divided
from models.data.labelled import LabelledSet
from models.training import processes, rate_range, reading
from models.training.calibrating import calibrate
from models.training.measuring import measure, measure_all, test_line
from models.training.naming import settle_labels
from models.training.rate_range import RateRange
from models.training.record import RunFolder, describe
from models.training.settings import (
    FINE_TUNE,
    FROM_SCRATCH,
    Recipe,
    TrainingError,
    TrainingInterruptedError,
    TrainSettings,
    check,
    refuse_range_test,
)
from models.training.techniques import settled_criterion, settled_loss

if TYPE_CHECKING:
    from models.training.course import Course

__all__ = [
    "FINE_TUNE",
    "FROM_SCRATCH",
    "Recipe",
    "TrainSettings",
    "TrainingError",
    "TrainingInterruptedError",
    "find_rate",
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
    with _begun(settings, data, on_message) as work:
        return _trained(work)


def find_rate(
    settings: TrainSettings,
    data: tuple[LabelledSet, LabelledSet] | None = None,
    on_message: Say = lambda text: None,
) -> RateRange:
    """Try learning rates on a copy of what would be trained, see `models.training.rate_range`.

    The run's folder gets the table and the picture and nothing else; no network is kept. A
    run of stages is tried in its first one.

    Raises:
        UserError: as `train` does.
        TrainingInterruptedError: Ctrl-C.
    """
    refuse_range_test(settings)
    descent = replace(settings.techniques.descent, schedule="constant")  # whose end never comes
    settings = replace(settings, techniques=replace(settings.techniques, descent=descent))
    with _begun(settings, data, on_message) as work:
        from models.training.rate_sweep import sweep

        course = _course(work)
        _, task, loaders = course.opening()
        found = sweep(task, loaders[0], settings, work.folder)
        for path in rate_range.write(found, work.folder.path, settings.architecture):
            on_message(f"wrote {path}")
        return found


@dataclass(frozen=True)
class _Work:
    """A training that can begin: settings and data have been checked."""

    settings: TrainSettings
    folder: RunFolder
    divided: Divided
    labels: tuple[Label, ...]
    say: Say

    @property
    def sets(self) -> tuple[LabelledSet, LabelledSet]:
        return self.divided.train, self.divided.validation


@contextlib.contextmanager
def _begun(
    settings: TrainSettings, data: tuple[LabelledSet, LabelledSet] | None, say: Say
) -> Iterator[_Work]:
    """With all processes that train, what they train."""
    if settings.quantization_aware:
        from models.training.start import continued

        settings = continued(settings)
    check(settings)
    folder = RunFolder(Path(settings.out))
    with processes.connected(settings) as place:
        if not place.first:
            settings, say = replace(settings, progress=False), _say_nothing
        processes.alone(lambda: folder.check(settings.resume, settings.force))
        processes.alone(lambda: _refuse_own_weights(settings, folder))
        divided = (
            Divided(*data, None) if data else processes.told(lambda: reading.read(settings, say))
        )
        _refuse_other_answers(settings, divided.train.multi_label)
        labels = processes.told(lambda: settle_labels(settings.labels, divided.train.classes))
        yield _Work(settings, folder, divided, labels, say)


def _refuse_other_answers(settings: TrainSettings, multi_label: bool) -> None:
    """Refuse what is not for images of one class, or not for those of several.

    Raises:
        TrainingError: a loss or a criterion for the other kind, or int8's rounding with
            several.
    """
    settled_loss(settings.techniques.loss, multi_label)
    settled_criterion(settings.techniques.keeping, multi_label)
    if settings.quantization_aware and multi_label:
        raise TrainingError(
            "--quantization-aware trains one class an image.",
            "these images may have several",
            "train in float; exporter export quantizes it afterwards",
        )


def _say_nothing(text: str) -> None:
    """The first process speaks for all."""


def _trained(work: _Work) -> Path:
    settings, folder, labels = work.settings, work.folder, work.labels
    train_set, validation_set = work.sets
    description = describe(settings, labels, train_set, validation_set)
    if settings.resume:
        processes.together(lambda: folder.compare(description))
        if processes.told(folder.finished):
            work.say(f"The run in {folder.path} is finished already.")
            return folder.checkpoint
    work.say(
        f"{len(labels)} classes, {len(train_set)} training and "
        f"{len(validation_set)} validation images"
    )

    def begin() -> None:
        folder.begin(description)
        reading.keep_split(folder, settings, work.divided)

    def begin_together() -> None:
        processes.alone(begin)
        processes.together(lambda: folder.refuse_unshared(description))

    history = _fit(work, begin_together)
    processes.alone(lambda: _finish(work, history))
    return folder.checkpoint


def _finish(work: _Work, history: dict[str, Any]) -> None:
    """What is fitted and measured with the weights that were kept."""
    path, test_set = work.folder.checkpoint, work.divided.test
    history |= calibrate(path, work.divided.validation, work.say, work.settings.temperature)
    if test_set is not None:
        found = measure_all(path, test_set)
        history |= {f"test_{name}": round(value, 5) for name, value in found.items()}
        work.say(f"{test_line(found)} on {len(test_set)} images")
    work.folder.write_history(**history, finished=True)


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


def _fit(work: _Work, begin: Callable[[], None]) -> dict[str, Any]:
    """Train; the history of the run."""
    course = _course(work)
    course.run(begin)
    history: dict[str, Any] = {"epochs": course.keeper.epochs, "best": course.keeper.best}
    if course.adaptation is not None:
        history["quantization_aware"] = course.adaptation.figures
    return history


def _course(work: _Work) -> Course:
    """Everything that needs torch."""
    from models.training import adapting
    from models.training.course import Course
    from models.training.start import starting_network

    settings, folder = work.settings, work.folder
    contract = Contract(
        work.labels,
        settings.preprocessing,
        activation="sigmoid" if work.divided.train.multi_label else "softmax",
        name=settings.name or folder.path.resolve().name,
    )
    notes: dict[str, Any] = {}
    adaptation = None
    net = processes.in_turn(lambda: starting_network(settings, work.labels, work.say))
    if settings.quantization_aware:
        contract, notes = adapting.inherited(settings.weights, contract)
        pictures = adapting.calibration_pictures(work.sets[0], settings.preprocessing, folder.path)
        adaptation = adapting.Adaptation(pictures, work.say)
    return Course(settings, folder, net, contract, work.sets, work.say, adaptation, notes)
