"""The labelled photographs: read, and their classes found among the model's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exporter.bundle import Bundle
from exporter.prove.imageset import evenly
from models.contract import Contract
from models.data.labelled import DataError, Item, LabelledSet

__all__ = ["Photograph", "Photographs", "calibrated_on", "prepare", "read", "truth_of"]

_SHOWN = 8


@dataclass(frozen=True)
class Photograph:
    """One labelled image.

    Attributes:
        path: the file.
        name: as the results name it: relative to the data's folder, with '/'.
        classes: its true classes as indices of the model's outputs, ascending.
        digest: sha256 (hex) of its bytes.
    """

    path: Path
    name: str
    classes: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class Photographs:
    """What is measured on.

    Attributes:
        source: where they come from.
        each: the images, in order.
        total: how many there were before a limit.
        absent: classes of the model that the data does not have.
        notes: what a person should know about how the set was read.
        many: whether the truth is one number an image (False) or a vector (True).
    """

    source: str
    each: tuple[Photograph, ...]
    total: int
    absent: tuple[str, ...]
    many: bool
    notes: tuple[str, ...] = ()


def read(data: Path, images: Path | None = None, class_map: Path | None = None) -> LabelledSet:
    """Read a labelled set.

    Args:
        data: a folder of class folders, a CSV table, or COCO annotations.
        images: where the files lie that a table or annotations name.
        class_map: see `models.data.class_map`.

    Raises:
        DataError, ImageError: it cannot be read.
    """
    from models.data.reading import read_set

    return read_set(data, images=images, class_map=class_map)


def prepare(found: LabelledSet, contract: Contract, limit: int | None = None) -> Photographs:
    """Match a set's classes with the model's outputs by name, or by index where it is a number.

    Args:
        limit: at most so many images, spread evenly over the set.

    Raises:
        DataError: classes that the model does not have; pictures with several classes, or
            none, for a model that answers one.
    """
    place = {name: _index_of(name, contract) for name in found.classes}
    strangers = [name for name, index in place.items() if index is None]
    if strangers:
        raise _unknown(found, strangers, contract)
    index = [place[name] for name in found.classes]
    many = contract.activation == "sigmoid"
    if not many:
        _require_one_class(found)
    chosen = [found.items[each] for each in sorted(evenly(len(found.items), limit))]
    here = {index[label] for item in found.items for label in item.labels}
    return Photographs(
        str(found.root),
        tuple(
            Photograph(
                item.path,
                _relative(item, found),
                tuple(sorted(index[label] or 0 for label in item.labels)),
                item.digest,
            )
            for item in chosen
        ),
        len(found.items),
        tuple(name for number, name in enumerate(contract.names) if number not in here),
        many,
        found.notes,
    )


def truth_of(
    photographs: tuple[Photograph, ...], classes: int, many: bool
) -> npt.NDArray[np.int64]:
    """int64 `[n]`, or 0 and 1 in `[n, classes]` for many."""
    if not many:
        return np.array([each.classes[0] for each in photographs], dtype=np.int64)
    truth = np.zeros((len(photographs), classes), dtype=np.int64)
    for row, each in zip(truth, photographs, strict=True):
        row[list(each.classes)] = 1
    return truth


def calibrated_on(bundle: Bundle | None, photographs: tuple[Photograph, ...]) -> int:
    """How many of them are the very files that the bundle's int8 was calibrated on."""
    calibration = bundle.manifest.get("calibration") if bundle is not None else None
    listed = calibration.get("files") if isinstance(calibration, dict) else None
    if not isinstance(listed, list):
        return 0
    known = {entry.get("sha256") for entry in listed if isinstance(entry, dict)}
    return sum(each.digest in known for each in photographs)


def _index_of(name: str, contract: Contract) -> int | None:
    if name in contract.names:
        return contract.names.index(name)
    if name.isdecimal() and int(name) < len(contract.labels):
        return int(name)
    return None


def _unknown(found: LabelledSet, strangers: list[str], contract: Contract) -> DataError:
    def some(names: list[str]) -> str:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return ", ".join(names[:_SHOWN]) + more

    what = "a class" if len(strangers) == 1 else f"{len(strangers)} classes"
    return DataError(
        f"{found.root} has {what} that the model does not know: {some(strangers)}.",
        f"the model's {len(contract.names)} classes are: {some(list(contract.names))}",
        "name the classes as the model does (the contract's labels), or leave their images out",
    )


def _require_one_class(found: LabelledSet) -> None:
    odd = [item.path.name for item in found.items if len(item.labels) != 1]
    if odd:
        raise DataError(
            f"{found.root} has images with several classes, or none: {odd[0]}"
            + (f" and {len(odd) - 1} more." if len(odd) > 1 else "."),
            "the model answers exactly one class an image (softmax)",
            "evaluate on images of one class each, or train with several (sigmoid)",
        )


def _relative(item: Item, found: LabelledSet) -> str:
    root = found.root if found.root.is_dir() else found.root.parent
    try:
        return item.path.relative_to(root).as_posix()
    except ValueError:
        return item.path.as_posix()
