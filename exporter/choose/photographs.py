"""The images of a comparison: learned from, picking the epoch, and judging.

What judges has been seen by no candidate: not in training, not in picking the epoch, not
in calibrating int8. Where no folder was given for a part, a share of the rest is set
aside, by content and seed alone.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.choose.request import ChooseRequest
from models.atomic import beside
from models.data.folder import load_folder, refuse_broken, refuse_duplicates, refuse_other_classes
from models.data.labelled import Item, LabelledSet
from models.data.split import find_given_split, split

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.15
DRAWN = "data"
_SEEDS = (1, 2, 3)  # of the drawn sets: no picture is in two of them
_DRAWN_SIZE = 112


@dataclass(frozen=True)
class Photographs:
    """The three sets, with the same classes; no image lies in two of them or twice in one.

    Attributes:
        train: what every candidate learns from, and what int8 is calibrated on.
        validation: decides which epoch is kept.
        test: what every candidate is judged on.
        source: the name of the data, for people.
        notes: what a reader of the result has to know about the sets.
    """

    train: LabelledSet
    validation: LabelledSet
    test: LabelledSet
    source: str
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """'flowers: 17 classes, 1088 training, 136 validation and 272 test images'."""
        return (
            f"{self.source}: {len(self.train.classes)} classes, {len(self.train)} training, "
            f"{len(self.validation)} validation and {len(self.test)} test images"
        )

    @property
    def identity(self) -> str:
        """sha256 (hex) over all images with their classes, in their sets."""
        total = hashlib.sha256("\n".join(self.train.classes).encode())
        for part in (self.train, self.validation, self.test):
            for item in part.items:
                total.update(f"{item.class_index} {item.digest}\n".encode())
            total.update(b"--\n")
        return total.hexdigest()


def draw(request: ChooseRequest, on_image: Callable[[], None]) -> None:
    """Draw what --synthetic trains on into `out`, where it is not there already.

    Raises:
        DataError: that folder holds something else.
    """
    from models.data import synthetic

    for name, count, seed in zip(("train", "validation", "test"), request.drawn, _SEEDS,
                                 strict=True):  # fmt: skip
        folder = request.out / DRAWN / name
        synthetic.draw_dataset(folder, count, seed, _DRAWN_SIZE, on_image)


def gather(request: ChooseRequest) -> Photographs:
    """List and divide the images; nothing is decoded.

    Raises:
        ImageError, DataError: a folder that cannot be used, classes that differ, an image
            in two sets, a class too small to divide.
    """
    data, validation, test = request.data, request.validation, request.test
    if data is None:
        folder = request.out / DRAWN
        parts = [load_folder(folder / name) for name in ("train", "validation", "test")]
        return Photographs(parts[0], parts[1], parts[2], "drawn snakes")
    source, notes = data.resolve().name, []
    given = find_given_split(data)
    if given is not None:
        test = test or _third_folder(data, given)
        data = given[0]
        if test is None:
            test = given[1]
        elif validation is None:
            validation = given[1]
    learned = _unique(load_folder(data))
    judging = None if test is None else _unique(load_folder(test))
    if judging is None:
        learned, judging = split(learned, TEST_SHARE, request.seed)
        notes.append(
            f"{TEST_SHARE:.0%} of the images were set aside to judge: no --test was given."
        )
    if validation is None:
        learned, picking = split(learned, VALIDATION_SHARE, request.seed)
    else:
        picking = _unique(load_folder(validation))
    for other in (picking, judging):
        refuse_other_classes(learned, other)
    refuse_duplicates(learned, picking, judging)
    return Photographs(learned, picking, judging, source, tuple(notes))


def _third_folder(data: Path, given: tuple[Path, Path]) -> Path | None:
    """The folder 'test' of data that is divided in three: `given` holds the other two."""
    others = [path for path in sorted(data.glob("*")) if path.is_dir() and path not in given]
    return next((path for path in others if path.name.lower() == "test"), None)


def refuse_unreadable(photographs: Photographs, on_image: Callable[[], None]) -> None:
    """Decode every image once.

    Raises:
        DataError: some cannot be decoded; they are named.
    """
    parts = (photographs.train, photographs.validation, photographs.test)
    refuse_broken([item for part in parts for item in part.items], on_image)


def set_out(photographs: Photographs, folder: Path) -> tuple[Path, Path]:
    """Links to the training and to the test images, one folder a class, for the exports.

    Returns:
        The folders of the training and of the test images.
    """
    with beside(folder) as staging:
        for name, part in (("train", photographs.train), ("test", photographs.test)):
            for item in part.items:
                _link(item, staging.folder / name / part.classes[item.class_index])
    return folder / "train", folder / "test"


def _link(item: Item, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / item.path.name).symlink_to(item.path.resolve())
    except (OSError, NotImplementedError):  # Windows, without the right to make links
        shutil.copyfile(item.path, folder / item.path.name)


def _unique(found: LabelledSet) -> LabelledSet:
    """Without copies: an image counts once."""
    first: dict[str, Item] = {}
    for item in found.items:
        first.setdefault(item.digest, item)
    return replace(found, items=tuple(first.values()))
