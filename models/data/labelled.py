"""Labelled images, however they were found: class folders, a table, COCO annotations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError


class DataError(UserError):
    """A data set that cannot be trained on or measured with."""


@dataclass(frozen=True)
class Item:
    """One labelled image.

    Attributes:
        path: where it is.
        labels: its classes, ascending indices into `LabelledSet.classes`; exactly one
            unless the set is multi-label, where there may be none.
        digest: sha256 (hex) of the file's bytes.
        group: what must not be divided between sets, the same animal or photographer for
            instance; '' for an image that belongs to none.
    """

    path: Path
    labels: tuple[int, ...]
    digest: str
    group: str = ""

    @property
    def class_index(self) -> int:
        """The class of an image that has exactly one.

        Raises:
            ValueError: it has none or several.
        """
        (only,) = self.labels
        return only


@dataclass(frozen=True)
class LabelledSet:
    """Labelled images.

    Attributes:
        root: the folder or file they were read from; errors name it.
        classes: the class names; the order of the classifier's outputs.
        items: the images; of a class folder sorted by class and then by path.
        skipped: files that lie among the images and are none of a known kind.
        multi_label: whether an image may have several classes, or none.
        notes: what a person should know about how it was read, one sentence each.
    """

    root: Path
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    skipped: tuple[Path, ...] = ()
    multi_label: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def counts(self) -> tuple[int, ...]:
        """How many images each class has, in class order."""
        counted = [0] * len(self.classes)
        for item in self.items:
            for index in item.labels:
                counted[index] += 1
        return tuple(counted)
