"""Which images are learned from and which judge.

An image's side is decided by its content and the seed alone: not by its name,
its folder's order or what the other classes hold. Copies of one image therefore
always land on the same side.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from models.data.folder import load_folder, refuse_duplicates, refuse_other_classes
from models.data.labelled import DataError, Item, LabelledSet

_TRAIN_NAMES = ("train", "training")
_VALIDATION_NAMES = ("val", "valid", "validation", "test")


def split(folder_set: LabelledSet, fraction: float, seed: int) -> tuple[LabelledSet, LabelledSet]:
    """Divide each class between training and validation.

    Every class is ordered by sha256(seed, content) and its first images judge:
    `round(fraction * images)` of them, at least one, and at least one is left to
    learn from.

    Args:
        folder_set: what to divide.
        fraction: the share that judges, above 0 and below 1.
        seed: another seed draws other images.

    Returns:
        The training set and the validation set; together the items of `folder_set`.

    Raises:
        DataError: the fraction is not between 0 and 1, or a class has fewer than
            two different images.
    """
    if not 0.0 < fraction < 1.0:
        raise DataError(
            f"The share of validation images is {fraction!r}.",
            "some images have to judge and some have to be learned from",
            "give a number above 0 and below 1; 0.2 is usual",
        )
    _refuse_small_classes(folder_set)
    judges: set[Item] = set()
    for _, group in groupby(folder_set.items, key=lambda item: item.class_index):
        judges |= _first_share(list(group), fraction, seed)
    return (
        replace(folder_set, items=tuple(i for i in folder_set.items if i not in judges)),
        replace(folder_set, items=tuple(i for i in folder_set.items if i in judges)),
    )


def load_given_split(train: Path, validation: Path) -> tuple[LabelledSet, LabelledSet]:
    """Read two folders that somebody has divided already.

    Raises:
        ImageError, DataError: a folder cannot be used (see `load_folder`), the class
            names differ, or an image lies in both.
    """
    train_set, validation_set = load_folder(train), load_folder(validation)
    refuse_other_classes(train_set, validation_set)
    refuse_duplicates(train_set, validation_set)
    return train_set, validation_set


def find_given_split(path: Path) -> tuple[Path, Path] | None:
    """The training and validation folders inside `path`, where it was divided already.

    That is the case when it holds a folder named train (or training) and one of
    val, valid, validation or test, the first of those that is there, and neither
    holds loose images: classes may be called 'train' and 'test' too.
    """
    folders = {p.name.lower(): p for p in sorted(Path(path).glob("*")) if p.is_dir()}
    train = next((folders[name] for name in _TRAIN_NAMES if name in folders), None)
    validation = next((folders[name] for name in _VALIDATION_NAMES if name in folders), None)
    if train is None or validation is None:
        return None
    if not all(any(p.is_dir() for p in folder.iterdir()) for folder in (train, validation)):
        return None
    return train, validation


def load_split(path: Path, fraction: float, seed: int) -> tuple[LabelledSet, LabelledSet]:
    """Training and validation images of a data folder, divided already or not.

    Raises:
        ImageError, DataError: see `load_given_split`, `load_folder` and `split`.
    """
    given = find_given_split(path)
    if given is not None:
        return load_given_split(*given)
    return split(load_folder(path), fraction, seed)


def too_small(labelled: LabelledSet) -> list[str]:
    """Classes with fewer than two different images, each with how many it has.

    Args:
        labelled: a set of one class an image.
    """
    different: list[set[str]] = [set() for _ in labelled.classes]
    for item in labelled.items:
        different[item.class_index].add(item.digest)
    return [
        f"{name} ({len(found)})"
        for name, found in zip(labelled.classes, different, strict=True)
        if len(found) < 2
    ]


def _refuse_small_classes(folder_set: LabelledSet) -> None:
    small = too_small(folder_set)
    if small:
        raise DataError(
            f"{folder_set.root} has classes too small to divide: {', '.join(small)}.",
            "each class needs one image to learn from and another one to judge by; "
            "copies of one image count once",
            "add images to these classes or remove them",
        )


def _first_share(items: list[Item], fraction: float, seed: int) -> set[Item]:
    """The judging images of one class; copies of one image stay together."""
    wanted = max(1, round(fraction * len(items)))
    taken: set[Item] = set()
    ordered = sorted(items, key=lambda item: (_draw(item.digest, seed), item.path.name))
    copies = [list(group) for _, group in groupby(ordered, key=lambda item: item.digest)]
    for same in copies[:-1]:  # the last one is always left to learn from
        if taken and len(taken) + len(same) > wanted:
            break
        taken.update(same)
    return taken


def _draw(digest: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{digest}".encode()).digest()
