"""The images of a run, read, checked and divided as its settings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.data.dividing import DataChoice, Divided, read_divided
from models.data.split_file import write_split
from models.training.progress import bar
from models.training.record import RunFolder
from models.training.settings import TrainingError, TrainSettings

_SHOWN = 10
Say = Callable[[str], None]


def read(settings: TrainSettings, on_message: Say) -> Divided:
    """Training, validation and perhaps test images; what a person should know of them is said.

    Raises:
        TrainingError: there is no data.
        DataError, ImageError: see `models.data.dividing.read_divided`.
    """
    choice = choice_of(settings)
    with bar(0, settings.progress) as shown:
        found = read_divided(
            choice, lambda done, total: shown.advance("Looking at the images", done, total)
        )
    for note in found.notes:
        on_message(note)
    rest = len(found.broken) - _SHOWN
    for image in found.broken[:_SHOWN]:
        on_message(f"  {image.path}: {image.reason}")
    if rest > 0:
        on_message(f"  and {rest} more")
    return found


def choice_of(settings: TrainSettings) -> DataChoice:
    """What the settings say of the images.

    Raises:
        TrainingError: nothing.
    """
    if settings.data is None:
        raise TrainingError("There is no data.", "no folder was given", "give --data DIR")
    usual = DataChoice(())
    return DataChoice(
        data=_paths(settings.data),
        validation=_paths(settings.validation),
        test=_paths(settings.test),
        images=settings.images,
        class_map=settings.class_map,
        multi_label=settings.multi_label,
        validation_fraction=settings.validation_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.seed,
        split_file=settings.split,
        most_broken=settings.most_broken,
        near_bits=usual.near_bits if settings.near_bits is None else settings.near_bits,
    )


def keep_split(folder: RunFolder, settings: TrainSettings, divided: Divided) -> None:
    """Write into the run's folder who is where, unless that stands elsewhere already.

    Other runs can be given the file with --split. Images that somebody had divided are not
    listed: those lie apart.
    """
    root, test = divided.train.root, divided.test
    if settings.split is not None and settings.split.exists():
        return
    if root == divided.validation.root:
        held = test if test is not None and test.root == root else None
        write_split(folder.split, root, (divided.train, divided.validation, held))


def _paths(given: Path | tuple[Path, ...] | None) -> tuple[Path, ...]:
    if given is None:
        return ()
    return given if isinstance(given, tuple) else (Path(given),)
