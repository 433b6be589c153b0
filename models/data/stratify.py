"""Which units are learned from and which judge.

A unit is what must not be divided: the images of a group, and copies of one image, exact
or near. Two rules, for two kinds of set.

- `by_draw`, where each image has one class and there are no groups: each class is ordered
  by sha256(seed, content), and its first units judge. An image's side does not depend on
  what the other classes hold (`models.data.split` is the same for single images).
- `iteratively`, for groups and for images of several classes: iterative stratification
  (Sechidis, Tsoumakas and Vlahavas 2011, 'On the stratification of multi-label data',
  algorithm 1), with units in place of examples: the rarest class is dealt out first, each
  unit to the side that still lacks most of this class, then most images.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.data.labelled import Item

TRAIN, VALIDATION, TEST = range(3)
Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Unit:
    """Images that stay together.

    Attributes:
        items: at least one.
        draw: what decides its turn: the least sha256(seed, content) of its images.
    """

    items: tuple[Item, ...]
    draw: bytes

    @property
    def main_class(self) -> int:
        """The class that most of its images have; the first of several."""
        labels = [label for item in self.items for label in item.labels]
        return min(set(labels), key=lambda label: (-labels.count(label), label))


def units_of(
    items: Sequence[Item], near: Sequence[tuple[str, str]] = (), seed: int = 0
) -> list[Unit]:
    """The items in units, in the order of their draws.

    Args:
        near: pairs of digests of images that look alike.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for item in items:
        root(item.digest)
        if item.group:
            parent[root(item.digest)] = root(f"group {item.group}")
    for one, other in near:
        parent[root(one)] = root(other)
    gathered: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        gathered[root(item.digest)].append(item)
    units = [
        Unit(tuple(found), min(drawn(item.digest, seed) for item in found))
        for found in gathered.values()
    ]
    return sorted(units, key=lambda unit: unit.draw)


def drawn(digest: str, seed: int) -> bytes:
    """A number that content and seed alone decide."""
    return hashlib.sha256(f"{seed}:{digest}".encode()).digest()


def by_draw(units: Sequence[Unit], fractions: tuple[float, float]) -> list[int]:
    """The side of each unit, where each class is divided by itself.

    Each side gets `round(fraction * images)` images of each class, validation at least one
    unit; the last unit is always left to learn from. A unit of several classes (near copies
    with different labels) counts as one of its main class.

    Args:
        units: in the order of their draws.
        fractions: of the validation and of the test set; 0 for no test set.
    """
    sides = [TRAIN] * len(units)
    classes: dict[int, list[int]] = defaultdict(list)
    for place, unit in enumerate(units):
        classes[unit.main_class].append(place)
    for places in classes.values():
        whole = sum(len(units[place].items) for place in places)
        at = 0
        for side, fraction in zip((VALIDATION, TEST), fractions, strict=True):
            wanted, taken = max(1, round(fraction * whole)) if fraction else 0, 0
            while at < len(places) - 1 and taken < wanted:
                more = len(units[places[at]].items)
                if taken and taken + more > wanted:
                    break
                sides[places[at]] = side
                taken, at = taken + more, at + 1
    return sides


def iteratively(units: Sequence[Unit], classes: int, fractions: tuple[float, float]) -> list[int]:
    """The side of each unit by iterative stratification, see above.

    A class in one unit only goes to training. One in two or more is on the training and
    the validation side, and in three or more also in the test set, as far as the classes
    that share its images allow.

    Args:
        units: in the order of their draws.
        fractions: of the validation and of the test set; 0 for no test set.
    """
    counts = np.zeros((len(units), classes + 1))
    for place, unit in enumerate(units):
        counts[place, classes] = len(unit.items)  # the last column: images
        for item in unit.items:
            counts[place, list(item.labels)] += 1
    shares = np.array([1.0 - sum(fractions), *fractions])
    sides = np.full(len(units), -1)
    wanted = shares[:, None] * counts.sum(0)

    def give(place: int, side: int) -> None:
        sides[place] = side
        wanted[side] -= counts[place]

    present = counts[:, :classes] > 0
    held = present.sum(0)
    for place in np.flatnonzero(present[:, held == 1].any(1)).tolist():
        give(place, TRAIN)
    open_sides = [side for side in (TRAIN, VALIDATION, TEST) if shares[side] > 0]
    while (sides < 0).any():
        left = (counts * (sides < 0)[:, None]).sum(0)
        rarest = [each for each in range(classes) if left[each] > 0]
        label = min(rarest, key=lambda each: left[each]) if rarest else classes
        waiting = np.flatnonzero((sides < 0) & (counts[:, label] > 0))
        for place in sorted(waiting.tolist(), key=lambda each: -counts[each, label]):
            give(
                place,
                max(open_sides, key=lambda side: (wanted[side, label], wanted[side, classes])),
            )
    _mend(sides, counts[:, :classes], open_sides)
    return [int(side) for side in sides]


def _mend(sides: npt.NDArray[np.int64], counts: Counts, open_sides: Sequence[int]) -> None:
    """Move single units until no class lacks on a side where it could be, rarest first.

    A unit is moved only if none of its classes, and no side, loses its last unit.
    """
    present = counts > 0
    held = present.sum(0)
    for scarce in np.argsort(held, kind="stable").tolist():
        for need, side in enumerate(open_sides, 1):
            if held[scarce] < max(need, 2) or present[sides == side][:, scarce].any():
                continue
            movable = [
                place
                for place in np.flatnonzero(present[:, scarce])
                if (sides == sides[place]).sum() > 1
                and (present[sides == sides[place]][:, present[place]].sum(0) > 1).all()
            ]
            if movable:
                sides[min(movable, key=lambda each: (counts[each].sum(), each))] = side
