"""A folder per class: the plainest data set there is.

The class names are the folder names in sorted order, so the same folder gives
the same classifier outputs on every machine. Every file is hashed when the
folder is read, so that copies of one photograph can be told by their content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from models.data.labelled import DataError, Item, LabelledSet
from models.data.words import listed, refuse_odd_names, short
from models.images import SUFFIXES, ImageError, content_hash, list_images, open_rgb


@dataclass(frozen=True)
class BrokenImage:
    """An image that cannot be decoded, and why."""

    path: Path
    reason: str


def load_folder(path: Path, strict: bool = True) -> LabelledSet:
    """Read a folder that holds one folder of JPEG, PNG or WebP images a class.

    Nothing is decoded here; `check_images` does that.

    Args:
        strict: refuse an image that lies in two classes; without, both stay, for a report.

    Raises:
        ImageError: the folder is missing, holds no image, mixes loose images with
            class folders, or has a class folder without images.
        DataError: the images lie loose, there is one class only, the same image lies in
            two classes, or a name is not UTF-8.
    """
    path = Path(path)
    files = list_images(path)
    refuse_odd_names(file.path for file in files)
    if files[0].label is None:
        raise DataError(
            f"{path} holds loose images.",
            "the class of an image is the name of the folder it lies in",
            "make one folder a class and move the images into them",
        )
    classes = tuple(sorted({file.label for file in files if file.label is not None}))
    if len(classes) == 1:
        raise DataError(
            f"{path} has one class only: {classes[0]}.",
            "a classifier tells at least two classes apart",
            "add a folder for each other class (one named 'other' will do), "
            "or point at the folder above",
        )
    index = {name: position for position, name in enumerate(classes)}
    digests = hash_all([file.path for file in files])
    items = sorted(
        (
            Item(file.path, (index[file.label or ""],), digest)
            for file, digest in zip(files, digests, strict=True)
        ),
        key=lambda item: (item.labels, item.path.name),
    )
    found = LabelledSet(path, classes, tuple(items), _not_images(path, classes))
    if strict:
        refuse_contradictions(found)
    return found


def hash_all(paths: Sequence[Path]) -> list[str]:
    """The sha256 (hex) of each file's bytes, in order."""
    with ThreadPoolExecutor(workers()) as pool:
        return list(pool.map(content_hash, paths))


def check_images(
    items: Iterable[Item], on_image: Callable[[], None] | None = None
) -> tuple[BrokenImage, ...]:
    """Decode every image once and list those that cannot be decoded.

    Run it before training: a photograph cut short must not stop the last epoch.

    Args:
        items: what to decode; several sets can be chained.
        on_image: called in this thread after each image, for a progress bar.

    Returns:
        The broken images in the order of `items`.
    """
    broken = []
    with ThreadPoolExecutor(workers()) as pool:
        for problem in pool.map(_decode, items):
            if problem is not None:
                broken.append(problem)
            if on_image is not None:
                on_image()
    return tuple(broken)


def refuse_broken(items: Iterable[Item], on_image: Callable[[], None] | None = None) -> None:
    """Like `check_images`, but broken images are an error that names them all.

    Raises:
        DataError: at least one image cannot be decoded.
    """
    broken = check_images(items, on_image)
    if broken:
        count = f"{len(broken)} images" if len(broken) > 1 else "One image"
        raise DataError(
            f"{count} cannot be decoded:\n"
            + listed([f"  {image.path}: {image.reason}" for image in broken]),
            "they would stop the training in the middle",
            "remove them or copy them again from where they came",
        )


def refuse_duplicates(*sets: LabelledSet) -> None:
    """Refuse sets that share an image: what is learned must not also judge.

    Images are compared by the sha256 of their files. Copies within one set are
    let be.

    Raises:
        DataError: an image of one set lies in another one too; both files are named.
    """
    seen: dict[str, tuple[int, Path]] = {}
    pairs = []
    for number, folder_set in enumerate(sets):
        for item in folder_set.items:
            first_number, first = seen.setdefault(item.digest, (number, item.path))
            if first_number != number:
                pairs.append(f"  {first} = {item.path}")
    if pairs:
        raise DataError(
            f"{len(pairs)} image(s) lie in more than one set:\n" + listed(pairs),
            "a model that has seen an image in training is not tested by it",
            "remove one file of each pair",
        )


def refuse_other_classes(train: LabelledSet, other: LabelledSet) -> None:
    """Refuse two sets whose class folders differ.

    Raises:
        DataError: a class of one set is missing in the other; all are named.
    """
    if train.classes == other.classes:
        return
    here, there = set(train.classes), set(other.classes)
    lines = [
        f"  only in {folder_set.root}: {short(sorted(names))}"
        for folder_set, names in ((train, here - there), (other, there - here))
        if names
    ]
    raise DataError(
        f"{train.root} and {other.root} have different classes:\n" + "\n".join(lines),
        "the outputs of the model are the classes it was trained on",
        "give both folders the same class folders, spelled alike",
    )


def refuse_contradictions(folder_set: LabelledSet) -> None:
    """Refuse an image that is there with two answers.

    Raises:
        DataError: files of the same content have different classes; both are named.
    """
    seen: dict[str, Item] = {}
    pairs = []
    for item in folder_set.items:
        first = seen.setdefault(item.digest, item)
        if first.labels != item.labels:
            pairs.append(f"  {first.path} = {item.path}")
    if pairs:
        raise DataError(
            f"{len(pairs)} image(s) lie in two classes:\n" + listed(pairs),
            "one image cannot have two answers",
            "remove each from the class it does not belong to",
        )


def _decode(item: Item) -> BrokenImage | None:
    try:
        open_rgb(item.path)
    except ImageError as error:
        return BrokenImage(item.path, error.why or error.what)
    return None


def _not_images(root: Path, classes: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(
        path
        for name in classes
        for path in sorted((root / name).iterdir())
        if not path.name.startswith(".")
        and not (path.is_file() and path.suffix.lower() in SUFFIXES)
    )


def workers() -> int:
    return min(8, os.cpu_count() or 1)
