"""COCO annotations as a multi-label set: what is to be seen in each picture.

    {"images": [{"id": 1, "file_name": "a.jpg"}, ...],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 7, ...}, ...],
     "categories": [{"id": 7, "name": "Adder"}, ...]}

An image has a class where it has an annotation of that category, crowds ("iscrowd")
too; boxes and masks are not read. Images without annotations stay, as pictures of none
of the classes. An image may have a key "group", as in a table (`models.data.table`).
The format: https://cocodataset.org/#format-data (retold here in full as far as it is read).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.data.class_map import read_json
from models.data.folder import hash_all
from models.data.labelled import DataError, Item, LabelledSet
from models.data.table import refuse_few_classes
from models.data.words import is_utf8, listed, plural, short

_Key = int | str


def load_coco(path: Path, images: Path | None = None) -> LabelledSet:
    """Read COCO annotations, as described above; nothing is decoded here.

    Args:
        images: the folder that `file_name` is relative to; None for the file's own.

    Returns:
        A multi-label set. Its classes are the names of the categories that at least one
        image has, sorted; those without are left out and said in its notes.

    Raises:
        DataError: the file is missing, no JSON or of another form; ids or category names
            occur twice; an annotation is of an unknown image or category; an image's file
            is missing; some images have a group and others do not; fewer than two classes.
    """
    path = Path(path)
    content = read_json(path, "annotation file")
    pictures, annotations, categories = (
        _entries(path, content, key) for key in ("images", "annotations", "categories")
    )
    names = _category_names(path, categories)
    folder = Path(images) if images is not None else path.parent
    files = _image_files(path, pictures, folder)
    positive = _positives(path, annotations, files, names)
    used = {key for keys in positive.values() for key in keys}
    classes = tuple(sorted(names[key] for key in used))
    refuse_few_classes(path, classes)
    index = {name: place for place, name in enumerate(classes)}
    keys = list(files)
    groups = _groups(path, pictures)
    items = [
        Item(
            files[key],
            tuple(sorted(index[names[each]] for each in positive.get(key, ()))),
            digest,
            groups[key],
        )
        for key, digest in zip(keys, hash_all([files[key] for key in keys]), strict=True)
    ]
    items.sort(key=lambda item: (item.labels, str(item.path)))
    unused = sorted(names[key] for key in names if key not in used)
    notes = (
        (f"{plural(len(unused), 'category')} of {path.name} without an image left out: "
         f"{short(unused)}",)
        if unused
        else ()
    )  # fmt: skip
    return LabelledSet(path, classes, tuple(items), (), True, notes)


def _entries(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise DataError(
            f"{path} has no list '{key}' of objects.",
            "COCO annotations have three: images, annotations, categories",
            "write it again from where it came ('instances_*.json', not captions or keypoints "
            "without categories)",
        )
    if not found and key != "annotations":
        raise DataError(f"{path} has no {key}.", "the list is empty", "add some")
    return found


def _key(path: Path, entry: dict[str, Any], name: str, kind: str, place: int) -> _Key:
    value = entry.get(name)
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise DataError(
            f"{path}: entry {place} of '{kind}' has {name}={value!r}.",
            "it is a number (or a text) that the others refer to",
            f"give it its '{name}'",
        )
    return value


def _unique(path: Path, entries: list[dict[str, Any]], kind: str) -> dict[_Key, dict[str, Any]]:
    found: dict[_Key, dict[str, Any]] = {}
    twice = []
    for place, entry in enumerate(entries):
        key = _key(path, entry, "id", kind, place)
        if key in found:
            twice.append(str(key))
        found[key] = entry
    if twice:
        raise DataError(
            f"{path} has ids twice in '{kind}': {short(twice)}.",
            "it cannot be known which one is meant",
            "give each its own id; several files are merged by giving --data several times, "
            "not by joining their lists",
        )
    return found


def _category_names(path: Path, categories: list[dict[str, Any]]) -> dict[_Key, str]:
    names: dict[_Key, str] = {}
    for key, entry in _unique(path, categories, "categories").items():
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip() or not is_utf8(name):
            raise DataError(
                f"{path}: the category {key!r} has the name {name!r}.",
                "its name is the class that an app shows",
                "give it a name",
            )
        names[key] = name.strip()
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise DataError(
            f"{path} has several categories of one name: {short(twice)}.",
            "a class is known by its name",
            "rename them, or make one of them",
        )
    return names


def _image_files(path: Path, pictures: list[dict[str, Any]], folder: Path) -> dict[_Key, Path]:
    files: dict[_Key, Path] = {}
    seen: dict[str, _Key] = {}
    missing, twice = [], []
    for key, entry in _unique(path, pictures, "images").items():
        name = entry.get("file_name")
        if not isinstance(name, str) or not name or not is_utf8(name) or "\0" in name:
            raise DataError(
                f"{path}: the image {key!r} has the file_name {name!r}.",
                "it is the path of the image, in UTF-8",
                "correct it, and rename the file if its name is not UTF-8",
            )
        files[key] = folder / name
        if seen.setdefault(os.path.normpath(name), key) != key:
            twice.append(f"  {name}: ids {seen[os.path.normpath(name)]} and {key}")
        if not files[key].is_file():
            missing.append(f"  {name} (id {key})")
    if twice:
        raise DataError(
            f"{path} has the same file under two ids:\n" + listed(twice),
            "its annotations would be parted",
            "give it one id, and that one to its annotations",
        )
    if missing:
        raise DataError(
            f"{plural(len(missing), 'image')} of {path} are missing:\n" + listed(missing),
            f"looked in {folder}",
            "give the folder of the images with --images-root, or remove the entries",
        )
    return files


def _positives(
    path: Path,
    annotations: list[dict[str, Any]],
    files: dict[_Key, Path],
    names: dict[_Key, str],
) -> dict[_Key, set[_Key]]:
    """The categories of each image that has any."""
    found: dict[_Key, set[_Key]] = {}
    strange, lost = [], []
    # ids of annotations are referred to by nothing, and many tools leave them out
    _unique(path, [entry for entry in annotations if "id" in entry], "annotations")
    for place, entry in enumerate(annotations):
        image = _key(path, entry, "image_id", "annotations", place)
        category = _key(path, entry, "category_id", "annotations", place)
        called = f"annotation {entry.get('id', f'at place {place}')}"
        if category not in names:
            strange.append(f"  {called}: category_id {category!r}")
        if image not in files:
            lost.append(f"  {called}: image_id {image!r}")
        found.setdefault(image, set()).add(category)
    if strange:
        known = [f"{key} {name}" for key, name in names.items()]
        raise DataError(
            f"{plural(len(strange), 'annotation')} of {path} are of an unknown class:\n"
            + listed(strange),
            f"'categories' has: {short(known)}",
            "add the category, or remove the annotations",
        )
    if lost:
        raise DataError(
            f"{plural(len(lost), 'annotation')} of {path} are of an unknown image:\n"
            + listed(lost),
            "'images' has no such id",
            "add the image, or remove the annotations",
        )
    return found


def _groups(path: Path, pictures: Sequence[dict[str, Any]]) -> dict[_Key, str]:
    groups = {entry["id"]: str(entry.get("group") or "").strip() for entry in pictures}
    blank = [f"  {entry['file_name']}" for entry in pictures if not groups[entry["id"]]]
    if blank and len(blank) < len(pictures):
        raise DataError(
            f"{plural(len(blank), 'image')} of {path} have no group, and the others have one:\n"
            + listed(blank),
            "an image of an unknown group might be divided from its like",
            "give each image a 'group', or none",
        )
    return groups
