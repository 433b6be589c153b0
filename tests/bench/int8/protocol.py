"""Which photographs calibrate and which evaluate, and where they lie.

ImageNet: the folder sorted by name, every fifth image calibrates, the others evaluate.
Fold k of a cross-validation takes the images k, k + 5, k + 10 ... to calibrate instead.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError
from models.images import ImageFile, list_images

DATA = "EXPORTER_BENCH_DATA"
IMAGENET = "ImageNet"
FOLDS = 5
CALIBRATE = 100
WEIGHTS = Path("weights/mobilenet_v2_imagenet.pth")
PHOTOGRAPHS = Path("images/imagenet_dev")
FLOWERS = Path("images/flowers17")


@dataclass(frozen=True)
class Task:
    """A model, and photographs.

    Attributes:
        name: as the table's heading says it.
        words: what names the model on the exporter's command line.
        calibration, evaluation: the files, in order; no file is in both.
        truth: the class of each evaluated image: its index, or its label's name.
    """

    name: str
    words: tuple[str, ...]
    calibration: tuple[Path, ...]
    evaluation: tuple[Path, ...]
    truth: tuple[int | str, ...]


def find_data(given: Path | None) -> Path:
    """The folder with weights and photographs.

    Args:
        given: `--data`; else `$EXPORTER_BENCH_DATA`, else `../shared/data` beside the project.

    Raises:
        UserError: there is no such folder.
    """
    from_variable = os.environ.get(DATA)
    beside = Path(__file__).parents[4] / "shared" / "data"
    folder = given or (Path(from_variable) if from_variable else beside)
    if not folder.is_dir():
        raise UserError(
            "not run: there are no photographs to measure on.",
            f"{folder} is no folder",
            f"name the folder that holds {WEIGHTS} and {PHOTOGRAPHS}/ with --data or ${DATA}",
        )
    return folder


def imagenet(data: Path, fold: int = 0) -> Task:
    """MobileNetV2 1.0/224 with ImageNet weights on the 500 photographs.

    Raises:
        UserError: weights or photographs are missing, or a name does not begin with a class.
    """
    weights, photographs = data / WEIGHTS, data / PHOTOGRAPHS
    for path in (weights, photographs):
        if not path.exists():
            raise UserError(
                f"not run: there is no {path}.", "the ImageNet bench needs it", "check --data"
            )
    files = sorted((file.path for file in list_images(photographs)), key=lambda path: path.name)
    kept = split(files, fold)
    evaluated = tuple(file for file in files if file not in set(kept))
    words = (str(weights), "--arch", "mobilenet_v2", "--labels", "imagenet", "--resize", "224")
    return Task(IMAGENET, words, kept, evaluated, tuple(map(_class_of, evaluated)))


def _class_of(path: Path) -> int:
    first = path.name.partition("_")[0]
    if not first.isdigit():
        raise UserError(
            f"not run: {path.name} does not begin with the index of its class.",
            "photographs are named IIII_wnid_name.jpg",
            "rename it",
        )
    return int(first)


def split(files: Sequence[Path], fold: int) -> tuple[Path, ...]:
    """The calibration images of one fold: every fifth, from the `fold`-th on."""
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold {fold} of {FOLDS}")
    return tuple(files[fold::FOLDS])


def flowers(data: Path, checkpoint: Path) -> Task:
    """A fine-tuned checkpoint: calibrated on `train/`, evaluated on `test/`.

    Raises:
        UserError: the checkpoint or a folder is missing.
    """
    if not checkpoint.is_file():
        raise UserError(f"not run: there is no checkpoint {checkpoint}.", "", "check --checkpoint")
    train = list_images(data / FLOWERS / "train")
    test = list_images(data / FLOWERS / "test")
    evaluated = tuple(file.path for file in test)
    truth = tuple(_label_of(file) for file in test)
    return Task("flowers17", (str(checkpoint),), spread(train, CALIBRATE), evaluated, truth)


def _label_of(file: ImageFile) -> str:
    if file.label is None:
        raise UserError(
            f"not run: {file.path} has no class.", "test/ holds a folder a class", "sort them"
        )
    return file.label


def spread(files: Sequence[ImageFile], count: int) -> tuple[Path, ...]:
    """`count` of the files (or all, where there are fewer), evenly over their order."""
    count = min(count, len(files))
    return tuple(files[index * len(files) // count].path for index in range(count))
