"""The images of a proof: checked before the long work, labelled where labels are known.

A label comes from the class folder an image lies in, where the folder's name is one
of the contract's labels, or from a file `labels.csv` beside the images with the
columns `file,label`; a label is a class name or, failing that, its index. Where a
picture may show several classes, `label` (or `labels`) has them with `|` between them,
or is empty for none, and rows of one file add up.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.bundle import GOLDEN, Bundle
from models.contract import Contract
from models.errors import UserError
from models.images import (
    ImageError,
    ImageFile,
    Pixels,
    check_images,
    content_hash,
    list_images,
    load_pixels,
    open_rgb,
    raise_all,
)

LABELS_FILE = "labels.csv"
NOTHING = "none"  # the label of a picture that shows no class


@dataclass(frozen=True)
class Sample:
    """One image of the proof.

    Attributes:
        path: the file.
        name: as reports name it: relative to the image folder, with '/'.
        truth: indices of its true classes (just one where there is one answer), or None
            where they are not known.
    """

    path: Path
    name: str
    truth: tuple[int, ...] | None = None

    def label(self, contract: Contract) -> str | None:
        """The true classes as a person reads them; None where they are not known."""
        if self.truth is None:
            return None
        return ", ".join(contract.names[place] for place in self.truth) or NOTHING


@dataclass(frozen=True)
class ImageSet:
    """What a proof runs over.

    Attributes:
        source: where the images come from, for the report.
        square: they are the input pixels already, so nothing is resized.
        notes: what a reader of the report has to know about them.
    """

    samples: tuple[Sample, ...]
    source: str
    contract: Contract
    square: bool = False
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> int:
        return sum(sample.truth is not None for sample in self.samples)

    def pixels(self, sample: Sample) -> Pixels:
        """The image as every artifact takes it: uint8 `[height, width, 3]`."""
        if self.square:
            return square_pixels(sample.path, self.contract)
        return load_pixels(sample.path, self.contract.preprocessing)


def prepare(
    bundle: Bundle, images: Sequence[ImageFile], root: Path | None, limit: int | None = None
) -> ImageSet:
    """Choose, check and label the images.

    Args:
        images: from `models.images.list_images(root)`; none means the bundle's golden images.
        root: the image folder, for names and for `labels.csv`.
        limit: at most so many, spread evenly over the list.

    Raises:
        ImageError: one or more cannot be decoded; all of them are named.
        UserError: no image at all, or a `labels.csv` that cannot be used.
    """
    contract = bundle.contract
    if not images:
        return _golden_images(bundle, limit)
    folder = root if root is not None else Path(images[0].path).parent
    chosen = spread(images, limit)
    check_images([image.path for image in chosen], contract.preprocessing.exif)
    listed = _read_labels(folder, contract)
    if listed and not {_relative(image.path, folder) for image in images} & set(listed):
        raise UserError(
            f"{folder / LABELS_FILE} names none of the images beside it.",
            f"its first file is {next(iter(listed))!r}",
            "write the files' paths relative to the folder",
        )
    samples, strangers = [], set()
    for image in chosen:
        name = _relative(image.path, folder)
        truth = listed.get(name)
        if truth is None and image.label is not None:
            place = _index_of(image.label, contract)
            if place is None:
                strangers.add(image.label)
            else:
                truth = (place,)
        samples.append(Sample(image.path, name, truth))
    notes = [*_calibrated(bundle, chosen)]
    if len(chosen) < len(images):
        notes.append(f"{len(chosen)} of {len(images)} images, spread evenly over the list")
    if strangers:
        some = ", ".join(sorted(strangers)[:5])
        notes.append(f"folders that are no label of the model, counted as unlabelled: {some}")
    if not any(sample.truth is not None for sample in samples):
        notes.append("unlabelled: accuracy was not measured, the accuracy gate did not apply")
    return ImageSet(tuple(samples), str(folder), contract, notes=tuple(notes))


def _calibrated(bundle: Bundle, images: Sequence[ImageFile]) -> Iterator[str]:
    """A note where int8 was calibrated on some of the very same files, by their hashes."""
    calibration = bundle.manifest.get("calibration")
    listed = calibration.get("files") if isinstance(calibration, dict) else None
    if not isinstance(listed, list):
        return
    known = {entry.get("sha256") for entry in listed if isinstance(entry, dict)}
    count = sum(content_hash(image.path) in known for image in images)
    if count == len(images):
        yield "these are the images that int8 was calibrated on: give --images for others"
    elif count:
        yield f"int8 was calibrated on {count} of these images, which are no test of it"


def spread(images: Sequence[ImageFile], limit: int | None) -> list[ImageFile]:
    """At most `limit` images at even steps, so that sorted class folders are all met."""
    return [images[place] for place in sorted(evenly(len(images), limit))]


def evenly(count: int, limit: int | None) -> set[int]:
    """At most `limit` of `count` places, at even steps; all of them without a limit."""
    if limit is None or limit >= count:
        return set(range(count))
    return {(index * count) // limit for index in range(limit)}


def square_pixels(path: Path, contract: Contract) -> Pixels:
    """A golden image: its pixels as they are.

    Raises:
        ImageError: it cannot be decoded or is not of the model's input size.
    """
    rule = contract.preprocessing
    pixels = np.asarray(open_rgb(path, "ignore"), dtype=np.uint8)
    if pixels.shape != (rule.height, rule.width, 3):
        raise ImageError(
            f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels.",
            f"a golden image has the model's input size, {rule.width} x {rule.height}",
            "export the model again",
        )
    return pixels


def _golden_images(bundle: Bundle, limit: int | None) -> ImageSet:
    folder = bundle.root / GOLDEN
    if not folder.is_dir():
        raise UserError(
            "There are no images to compare on.",
            f"no folder was given and the bundle has no {GOLDEN}/",
            "name a folder of photographs with --images",
        )
    squares = [image for image in list_images(folder) if image.path.stem.isdecimal()]
    found = spread(squares, limit)
    samples = tuple(Sample(image.path, f"{GOLDEN}/{image.path.name}") for image in found)
    problems = []
    for sample in samples:
        try:
            square_pixels(sample.path, bundle.contract)
        except ImageError as error:
            problems.append(error)
    raise_all(problems)
    return ImageSet(
        samples,
        f"golden images only: {len(samples)}",
        bundle.contract,
        square=True,
        notes=(
            f"golden images only: {len(samples)}; name a folder of photographs for a real proof",
            "unlabelled: accuracy was not measured, the accuracy gate did not apply",
        ),
    )


def _index_of(name: str, contract: Contract) -> int | None:
    """A class name, else an index, as the contract's output index; None for a stranger."""
    if name in contract.names:
        return contract.names.index(name)
    if name.isdecimal() and int(name) < len(contract.labels):
        return int(name)
    return None


def _indices_of(text: str, contract: Contract) -> tuple[int, ...] | None:
    """A cell of the table as output indices; None where one of them is a stranger.

    The whole cell may be one name, whatever is in it; where there may be several answers
    it may be names with '|' between them, or nothing.
    """
    whole = _index_of(text, contract)
    if whole is not None:
        return (whole,)
    if not contract.multi_label:
        return None
    parts = [part.strip() for part in text.split("|") if part.strip()]
    places = [_index_of(part, contract) for part in parts]
    known = [place for place in places if place is not None]
    return tuple(sorted(set(known))) if len(known) == len(places) else None


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return path.name


def _read_labels(folder: Path, contract: Contract) -> dict[str, tuple[int, ...]]:
    path = folder / LABELS_FILE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read.", str(error), "write it as UTF-8 with columns file,label"
        ) from error
    column = "label"
    if contract.multi_label and rows and "labels" in rows[0]:
        column = "labels"
    if not rows or not {"file", column} <= set(rows[0]):
        raise UserError(
            f"{path} has no columns 'file' and 'label'.",
            "its first line names the columns",
            "begin it with: file,label",
        )
    found: dict[str, tuple[int, ...]] = {}
    bad = []
    for row in rows:
        places = _indices_of((row[column] or "").strip(), contract)
        name = (row["file"] or "").strip()
        if places is None:
            bad.append(f"{row['file']}: {row[column]!r}")
        elif contract.multi_label:
            found[name] = tuple(sorted({*found.get(name, ()), *places}))
        else:
            found[name] = places
    if bad:
        raise UserError(
            f"{path} has {len(bad)} label(s) that the model does not know.",
            "; ".join(bad[:5]),
            "use the names in the bundle's labels.txt, or their index from 0",
        )
    return found
