"""From what the user points at to training, validation and test images.

divided = read_divided(DataChoice(data=(Path("sightings.csv"),), seed=3,
                                  split_file=Path("runs/snakes/split.csv")))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.data.folder import BrokenImage, refuse_duplicates, refuse_other_classes
from models.data.labelled import DataError, LabelledSet
from models.data.looking import NEAR_BITS, Looks, look_at, near_pairs, refuse_many_broken
from models.data.reading import read_set, with_classes
from models.data.split import find_given_split, too_small
from models.data.split_file import apply_split, refuse_divided_groups, write_split
from models.data.stratify import TEST, TRAIN, VALIDATION, by_draw, iteratively, units_of
from models.data.words import plural, short


@dataclass(frozen=True)
class DataChoice:
    """Which images, and how they are divided; what a command's flags say.

    Attributes:
        data: class folders, tables (.csv) or COCO files (.json); several are one set.
        validation: those that judge; none: a share of `data`. A single folder `data` that
            holds train/ and val/ (and test/) is divided already.
        test: those that judge at the very end; none: a share of `data`, if one is asked.
        images: the folder that tables and COCO files name images in; None for their own.
        class_map: a file of `models.data.class_map`.
        multi_label: True makes any set one; False refuses one; None goes by the files.
        validation_fraction: the share of images, above 0 and below 1.
        test_fraction: the share of images, 0 for no test set.
        seed: another seed divides otherwise.
        split_file: who is where; used where it is there, written where it is not.
        most_broken: the share of images that may be broken and left out.
        near_bits: images whose perceptual hashes differ in at most so many of 64 bits stay
            on one side; 0 for equal hashes only, -1 to look for none.
    """

    data: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    images: Path | None = None
    class_map: Path | None = None
    multi_label: bool | None = None
    validation_fraction: float = 0.2
    test_fraction: float = 0.0
    seed: int = 0
    split_file: Path | None = None
    most_broken: float = 0.05
    near_bits: int = NEAR_BITS


@dataclass(frozen=True)
class Divided:
    """The sets of a training; all of them have the same class list.

    Attributes:
        train, validation: neither is empty.
        test: None where there is none.
        broken: images that cannot be decoded, which are in none of the sets.
        notes: what a person should know, one sentence each.
        reused: the split file was there already.
    """

    train: LabelledSet
    validation: LabelledSet
    test: LabelledSet | None
    broken: tuple[BrokenImage, ...] = ()
    notes: tuple[str, ...] = ()
    reused: bool = False


def read_divided(choice: DataChoice, on_image: Callable[[int, int], None] | None = None) -> Divided:
    """Read the images, leave broken ones out, and divide what is not divided yet.

    Every image is decoded once. Copies, exact and near, and the images of a group stay on
    one side. A set without groups whose images have one class each is divided as
    `models.data.split` does it, other sets by iterative stratification; see
    `models.data.stratify`. A class in one group only is learned from and not judged, and
    so is a class of a multi-label set with one image; the notes say so.

    Args:
        on_image: called after each decoded image: how many are done, of how many.

    Raises:
        DataError, ImageError: a set cannot be read (see `read_set`); a fraction is out of
            range; more than `most_broken` of the images are broken; a class has but one
            image (where each image has one class); the split file is of other images; a
            group or an image is on two sides of a given split; a set is empty.
    """
    given, split_paths = _given(choice)
    if given:
        return _as_given(choice, split_paths, on_image)
    _refuse_fractions(choice.validation_fraction, choice.test_fraction)
    whole = _read(choice, choice.data)
    outside = [_read(choice, choice.test)] if choice.test else []
    reuse = choice.split_file is not None and choice.split_file.exists()
    looks = _look(choice, [whole, *outside], on_image, hashes=not reuse)
    notes = list(whole.notes)
    bad = frozenset(item.digest for item in whole.items) - set(looks.by_digest)
    kept, *rest = [_without_broken(each, looks) for each in (whole, *outside)]
    if reuse:
        assert choice.split_file is not None
        parts = apply_split(choice.split_file, kept, bad)
        notes.append(f"divided as {choice.split_file} says")
    else:
        parts = _divide(choice, kept, looks, notes)
    train, validation, test = parts
    if rest:
        test = _aligned(train, rest[0])
    found = _checked(choice, train, validation, test, looks, notes, near=bool(rest))
    if choice.split_file is not None and not reuse:
        write_split(choice.split_file, kept.root, parts)
    return replace(found, reused=reuse)


def _given(choice: DataChoice) -> tuple[bool, tuple[Sequence[Path], ...]]:
    """Whether somebody has divided the data, and where the three parts lie."""
    paths: tuple[Sequence[Path], ...] = (choice.data, choice.validation, choice.test)
    if not choice.data:
        raise DataError("There is no data.", "no folder or file was given", "give --data PATH")
    if not choice.validation and len(choice.data) == 1 and choice.data[0].is_dir():
        found = find_given_split(choice.data[0])
        if found is not None:
            paths = ((found[0],), (found[1],), choice.test or _third(choice.data[0], found[1]))
    if not paths[1]:
        return False, paths
    if choice.split_file is not None and choice.split_file.exists():
        raise DataError(
            f"The images are divided twice: by {choice.split_file} and by "
            f"{', '.join(map(str, paths[1]))}.",
            "the split file divides --data, and the validation images were given besides",
            "give one of the two",
        )
    return True, paths


def _third(root: Path, validation: Path) -> tuple[Path, ...]:
    """A folder 'test' beside a validation folder of another name."""
    return tuple(
        path
        for path in sorted(root.iterdir())
        if path.is_dir()
        and path.name.lower() == "test"
        and path != validation
        and any(each.is_dir() for each in path.iterdir())
    )


def _as_given(
    choice: DataChoice,
    paths: tuple[Sequence[Path], ...],
    on_image: Callable[[int, int], None] | None,
) -> Divided:
    if choice.test_fraction and not paths[2]:
        raise DataError(
            f"A test share of {choice.test_fraction:g} was asked for, and the validation images "
            "were given.",
            "where validation images are given, nothing is divided",
            "give the test images too (--test), or neither",
        )
    sets = [_read(choice, part) for part in paths if part]
    looks = _look(choice, sets, on_image, hashes=choice.near_bits >= 0)
    train, *others = [_without_broken(each, looks) for each in sets]
    others = [_aligned(train, each) for each in others]
    notes = [note for each in sets for note in each.notes]
    test = others[1] if len(others) > 1 else None
    return _checked(choice, train, others[0], test, looks, notes, near=True)


def _read(choice: DataChoice, paths: Sequence[Path]) -> LabelledSet:
    return read_set(paths, choice.images, choice.class_map, multi_label=choice.multi_label)


def _look(
    choice: DataChoice,
    sets: Sequence[LabelledSet],
    on_image: Callable[[int, int], None] | None,
    hashes: bool,
) -> Looks:
    items = [item for each in sets for item in each.items]
    looks = look_at(items, on_image, hashes and choice.near_bits >= 0)
    refuse_many_broken(looks.broken, len(items), choice.most_broken)
    return looks


def _without_broken(data: LabelledSet, looks: Looks) -> LabelledSet:
    kept = tuple(item for item in data.items if item.digest in looks.by_digest)
    return replace(data, items=kept) if len(kept) < len(data.items) else data


def _aligned(train: LabelledSet, other: LabelledSet) -> LabelledSet:
    """Another set in the training set's classes; folders have to have the same ones."""
    if train.root.is_dir() and other.root.is_dir() and not train.multi_label:
        refuse_other_classes(train, other)
        return other
    if train.multi_label != other.multi_label:
        several, single = (train, other) if train.multi_label else (other, train)
        raise DataError(
            f"{several.root} is multi-label, and {single.root} is not.",
            "the network answers with one class or with several, not now this and now that",
            "give both as tables with a column 'labels', or both with one class an image",
        )
    return with_classes(other, train.classes)


def _divide(
    choice: DataChoice, whole: LabelledSet, looks: Looks, notes: list[str]
) -> tuple[LabelledSet, LabelledSet, LabelledSet | None]:
    if not whole.multi_label:
        _refuse_single_images(whole)
    near = _near(whole, looks, choice.near_bits)
    units = units_of(whole.items, near, choice.seed)
    fractions = (choice.validation_fraction, choice.test_fraction)
    grouped = any(item.group for item in whole.items)
    sides = (
        iteratively(units, len(whole.classes), fractions)
        if grouped or whole.multi_label
        else by_draw(units, fractions)
    )
    side = {item: each for unit, each in zip(units, sides, strict=True) for item in unit.items}
    train, validation, test = (
        replace(whole, items=tuple(item for item in whole.items if side[item] == part))
        for part in (TRAIN, VALIDATION, TEST)
    )
    if near:
        notes.append(f"{plural(len(near), 'pair')} of near copies kept on one side each")
    if not choice.test_fraction:
        return train, validation, None
    return train, validation, test


def _near(data: LabelledSet, looks: Looks, bits: int) -> list[tuple[str, str]]:
    if bits < 0:
        return []
    digests = sorted({item.digest for item in data.items})
    pairs = near_pairs([looks.by_digest[each] for each in digests], bits)
    return [(digests[one], digests[other]) for one, other, _ in pairs]


def _checked(
    choice: DataChoice,
    train: LabelledSet,
    validation: LabelledSet,
    test: LabelledSet | None,
    looks: Looks,
    notes: list[str],
    near: bool,
) -> Divided:
    """The parts, once it is sure that they can be used.

    Args:
        near: look for near copies on two sides too; they are said, not refused.
    """
    parts = [part for part in (train, validation, test) if part is not None]
    for name, part in zip(("training", "validation", "test"), parts, strict=False):
        if not part.items:
            raise DataError(
                f"The {name} set is empty.",
                f"none of the images of {part.root} is in it",
                "add images, divide by other shares, or give another split",
            )
    refuse_duplicates(*parts)
    refuse_divided_groups(*parts)
    if near and choice.near_bits >= 0:
        across = _near_across(parts, looks, choice.near_bits)
        if across:
            notes.append(
                f"{plural(across, 'pair')} of near copies on both sides of the split that was "
                "given: accuracy will look better than it is ('exporter data-report' shows them)"
            )
    _refuse_unlearned(train)
    notes += _not_judged(validation, "validation")
    notes += _not_judged(test, "test") if test is not None else []
    if looks.broken:
        notes.append(f"{plural(len(looks.broken), 'broken image')} left out")
    return Divided(train, validation, test, looks.broken, tuple(notes))


def _near_across(parts: Sequence[LabelledSet], looks: Looks, bits: int) -> int:
    side = {item.digest: number for number, part in enumerate(parts) for item in part.items}
    digests = sorted(side)
    pairs = near_pairs([looks.by_digest[each] for each in digests], bits)
    return sum(side[digests[one]] != side[digests[other]] for one, other, _ in pairs)


def _not_judged(part: LabelledSet, name: str) -> list[str]:
    lacking = [n for n, count in zip(part.classes, part.counts(), strict=True) if not count]
    if not lacking:
        return []
    count = plural(len(lacking), "class")
    return [f"{count} without a {name} image, so not judged there: {short(lacking)}"]


def _refuse_unlearned(train: LabelledSet) -> None:
    """Refuse to train without an image of a class."""
    lacking = [name for name, count in zip(train.classes, train.counts(), strict=True) if not count]
    if lacking:
        raise DataError(
            f"{plural(len(lacking), 'class')} have no training image: {short(lacking)}.",
            "a class that is never seen cannot be learned",
            "move images of them to the training set, or drop the classes with a class map",
        )


def _refuse_single_images(whole: LabelledSet) -> None:
    small = too_small(whole)
    if small:
        raise DataError(
            f"{whole.root} has classes too small to divide: {short(small)}.",
            "each class needs one image to learn from and another one to judge by; copies of "
            "one image count once, broken ones not at all",
            "add images to these classes, or drop them or join them to another one with a class "
            "map",
        )


def _refuse_fractions(validation: float, test: float) -> None:
    if not 0.0 < validation < 1.0:
        raise DataError(
            f"The share of validation images is {validation!r}.",
            "some images have to judge and some have to be learned from",
            "give a number above 0 and below 1; 0.2 is usual",
        )
    if not 0.0 <= test < 1.0 or validation + test >= 1.0:
        raise DataError(
            f"The share of test images is {test!r}, that of validation images {validation!r}.",
            "something has to be left to learn from",
            "give numbers of 0 or more that add up to less than 1; 0.1 is usual for a test",
        )
