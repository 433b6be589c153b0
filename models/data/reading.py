"""Labelled images from whatever they were kept in: class folders, a CSV, COCO annotations.

read_set("snakes/")                                  a folder a class
read_set("sightings.csv", images="photos/")          see models.data.table
read_set("instances.json", class_map="names.csv")    see models.data.coco, class_map
read_set(["snakes/", "sightings.csv"])               one set of both
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.data.class_map import ClassMap, load_class_map, refuse_unknown
from models.data.coco import load_coco
from models.data.folder import load_folder, refuse_contradictions
from models.data.labelled import DataError, Item, LabelledSet
from models.data.table import load_table, refuse_few_classes
from models.data.words import plural, short


def read_set(
    path: Path | Sequence[Path],
    images: Path | None = None,
    class_map: Path | None = None,
    *,
    multi_label: bool | None = None,
    strict: bool = True,
) -> LabelledSet:
    """Read one set, or several as one.

    Several sets have the classes of all of them together, sorted. An image that is in
    more than one (by its content) is taken once, with the labels of all; the notes say
    so. If any of them is multi-label, the whole is, and an image is taken as negative for
    the classes that only other sets know.

    Args:
        path: a folder with a folder a class, a .csv, or a .json with COCO annotations.
        images: the folder that paths in a CSV or COCO file are relative to, instead of
            the file's own.
        class_map: see `models.data.class_map`; applied to all sets.
        multi_label: True makes a multi-label set of any; False refuses one that is.
        strict: refuse an image that is there with two classes (where each has one);
            without, both stay, for a report.

    Raises:
        DataError, ImageError: see `load_folder`, `load_table`, `load_coco`,
            `load_class_map`; also an unknown kind of file, and fewer than two classes left.
    """
    paths = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(p) for p in path]
    if not paths:
        raise DataError("There is no data.", "no folder or file was given", "give --data PATH")
    sets = [_read_one(each, images, multi_label, strict) for each in paths]
    if class_map is not None:
        mapped = load_class_map(class_map)
        refuse_unknown(class_map, mapped, (name for each in sets for name in each.classes))
        sets = [rename_classes(each, mapped) for each in sets]
    whole = sets[0] if len(sets) == 1 else merge(sets)
    if multi_label and not whole.multi_label:
        whole = replace(whole, multi_label=True)
    if multi_label is False and whole.multi_label:
        raise DataError(
            f"{whole.root} is a multi-label set.",
            "its images may have several classes, or none, and one each was asked for",
            "give each image one class, in a table or in folders",
        )
    refuse_few_classes(whole.root, whole.classes)
    if strict and not whole.multi_label:
        refuse_contradictions(whole)
    return whole


def _read_one(
    path: Path, images: Path | None, multi_label: bool | None, strict: bool
) -> LabelledSet:
    kind = path.suffix.lower()
    if path.is_dir() or (not path.exists() and not kind):
        return load_folder(path, strict and not multi_label)
    if kind == ".csv":
        return load_table(path, images, multi_label, strict)
    if kind == ".json":
        return load_coco(path, images)
    raise DataError(
        f"{path} is no data set that is known.",
        "one is a folder with a folder a class, a table (.csv) or COCO annotations (.json)",
        "check the path, or write one of these",
    )


def rename_classes(data: LabelledSet, mapped: ClassMap) -> LabelledSet:
    """The set with its classes mapped.

    Where each image has one class, the images of a dropped class are left out; of a
    multi-label set every image stays.
    """
    target = [mapped.get(name, name) for name in data.classes]
    classes = tuple(sorted({name for name in target if name is not None}))
    index = {name: place for place, name in enumerate(classes)}
    items, left_out = [], 0
    for item in data.items:
        names = {target[label] for label in item.labels}
        labels = tuple(sorted(index[name] for name in names if name is not None))
        if not labels and not data.multi_label:
            left_out += 1
            continue
        items.append(replace(item, labels=labels))
    items.sort(key=lambda item: item.labels)
    notes = data.notes
    if left_out:
        gone = [name for name in data.classes if mapped.get(name, name) is None]
        notes += (f"{plural(left_out, 'image')} of dropped classes left out: {short(gone)}",)
    return replace(data, classes=classes, items=tuple(items), notes=notes)


def with_classes(data: LabelledSet, classes: tuple[str, ...]) -> LabelledSet:
    """The set in terms of another class list, which has all of its classes.

    Raises:
        DataError: it has a class that the list has not.
    """
    index = {name: place for place, name in enumerate(classes)}
    unknown = [name for name in data.classes if name not in index]
    if unknown:
        raise DataError(
            f"{data.root} has classes that the training set does not have: {short(unknown)}.",
            "the outputs of the model are the classes it was trained on",
            "spell them alike, or map them with a class map ('-' drops one)",
        )
    place = [index[name] for name in data.classes]
    items = tuple(
        replace(item, labels=tuple(sorted(place[label] for label in item.labels)))
        for item in data.items
    )
    return replace(data, classes=classes, items=items)


def merge(sets: Sequence[LabelledSet]) -> LabelledSet:
    """Several sets as one; see `read_set`."""
    classes = tuple(sorted({name for each in sets for name in each.classes}))
    many = any(each.multi_label for each in sets)
    notes = [note for each in sets for note in each.notes]
    taken: dict[str, tuple[int, Item]] = {}
    items: list[Item] = []
    copies = 0
    for number, each in enumerate(with_classes(each, classes) for each in sets):
        for item in each.items:
            owner, first = taken.setdefault(item.digest, (number, item))
            if owner == number or (first.labels != item.labels and not many):
                items.append(item)  # a contradiction stays, for whoever refuses it
                continue
            copies += 1
            labels = tuple(sorted({*first.labels, *item.labels}))
            taken[item.digest] = (owner, replace(first, labels=labels))
    if many:  # copies within one set too have the labels of all now
        union = {digest: item.labels for digest, (_, item) in taken.items()}
        items = [
            replace(item, labels=tuple(sorted({*item.labels, *union[item.digest]})))
            for item in items
        ]
    if copies:
        notes.append(
            f"{plural(copies, 'image')} in more than one set, by content: each is taken once"
            + (", with the labels of all" if many else "")
        )
    if many and not all(each.multi_label for each in sets):
        notes.append("the whole is multi-label, because one of its parts is")
    items.sort(key=lambda item: (item.labels, item.path.name))
    return LabelledSet(
        _common_root(sets), classes, tuple(items),
        tuple(path for each in sets for path in each.skipped), many, tuple(notes),
    )  # fmt: skip


def _common_root(sets: Sequence[LabelledSet]) -> Path:
    roots = [str(each.root.resolve()) for each in sets]
    try:
        return Path(os.path.relpath(os.path.commonpath(roots)))
    except ValueError:  # on different drives
        return sets[0].root
