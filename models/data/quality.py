"""What is to be known about images before a network learns them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.data.folder import BrokenImage
from models.data.labelled import Item, LabelledSet
from models.data.looking import NEAR_BITS, Looks, near_pairs

BETA = 0.999  # of the effective numbers


@dataclass(frozen=True)
class NearPair:
    """Two images that look alike.

    Attributes:
        first, second: one image of either content.
        bits: how many of 64 bits of their hashes differ.
    """

    first: Item
    second: Item
    bits: int

    @property
    def contradicts(self) -> bool:
        """Whether they have different labels."""
        return self.first.labels != self.second.labels


@dataclass(frozen=True)
class Spread:
    """How a figure is distributed: least, quarters and greatest."""

    least: float
    quarter: float
    median: float
    three_quarters: float
    greatest: float


@dataclass(frozen=True)
class Quality:
    """Everything that was found.

    Attributes:
        data: the set without its broken images.
        broken: images that cannot be decoded.
        exact: images of the same content, two or more each, largest first.
        near: images that look alike and are not of the same content.
        sizes: width and height in pixels of each of the set's images, in order.
        shorter: of the shorter sides, in pixels.
        aspect: of width / height.
    """

    data: LabelledSet
    broken: tuple[BrokenImage, ...]
    exact: tuple[tuple[Item, ...], ...]
    near: tuple[NearPair, ...]
    sizes: tuple[tuple[int, int], ...]
    shorter: Spread
    aspect: Spread

    @property
    def images(self) -> int:
        """How many there are, broken ones included."""
        return len(self.data) + len(self.broken)

    @property
    def exact_contradictions(self) -> tuple[tuple[Item, ...], ...]:
        """Of `exact`, those with different labels."""
        return tuple(same for same in self.exact if len({item.labels for item in same}) > 1)

    @property
    def near_contradictions(self) -> tuple[NearPair, ...]:
        """Of `near`, those with different labels."""
        return tuple(pair for pair in self.near if pair.contradicts)

    @property
    def imbalance(self) -> float:
        """Images of the largest class over those of the smallest that has any."""
        counts = [count for count in self.data.counts() if count]
        return max(counts) / min(counts) if counts else 1.0

    @property
    def without_label(self) -> int:
        """Images of none of the classes."""
        return sum(not item.labels for item in self.data.items)

    @property
    def groups(self) -> int:
        return len({item.group for item in self.data.items if item.group})


def effective_number(count: int, beta: float = BETA) -> float:
    """How many images that are no near copies of each other a class is worth.

    `(1 - beta^n) / (1 - beta)`: Cui et al. 2019, arXiv:1901.05555, equation 2.
    """
    return (1.0 - beta**count) / (1.0 - beta)


def judge(data: LabelledSet, looks: Looks, near_bits: int = NEAR_BITS) -> Quality:
    """Put together what was seen.

    Args:
        data: the whole set, read with `strict=False` so that contradictions are there.
        looks: of its items, with hashes.
        near_bits: see `near_pairs`; -1 to look for none.
    """
    from dataclasses import replace

    items = tuple(item for item in data.items if item.digest in looks.by_digest)
    same: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        same[item.digest].append(item)
    digests = list(same)
    pairs = (
        near_pairs([looks.by_digest[each] for each in digests], near_bits) if near_bits >= 0 else []
    )
    near = sorted(
        (NearPair(same[digests[a]][0], same[digests[b]][0], bits) for a, b, bits in pairs),
        key=lambda pair: (not pair.contradicts, pair.bits, str(pair.first.path)),
    )
    sizes = tuple(
        (looks.by_digest[item.digest].width, looks.by_digest[item.digest].height) for item in items
    )
    exact = sorted((tuple(each) for each in same.values() if len(each) > 1), key=lambda e: -len(e))
    return Quality(
        replace(data, items=items),
        looks.broken,
        tuple(exact),
        tuple(near),
        sizes,
        spread([min(size) for size in sizes]),
        spread([width / height for width, height in sizes]),
    )


def spread(values: Sequence[float]) -> Spread:
    """Least, quarters and greatest; zeros of no values."""
    import numpy as np

    if not values:
        return Spread(0.0, 0.0, 0.0, 0.0, 0.0)
    return Spread(*np.quantile(np.asarray(values, np.float64), (0, 0.25, 0.5, 0.75, 1)).tolist())


def shown(path: Path, root: Path) -> str:
    """A path as a report shows it: relative to the set where it lies in it."""
    folder = root if root.is_dir() else root.parent
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return str(path)
