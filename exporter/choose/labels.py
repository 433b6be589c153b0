"""Names beside points, so that none covers another or a point.

Every name may stand at some places around its point, near and far. The cost of a place
is what it covers, plus a little for its distance; the names are placed one by one, the
most crowded first, and then each is moved to a cheaper place until none gains by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LINE = 1.2  # height of a line, in font sizes
_DISTANCES = (4.0, 12.0, 24.0, 40.0, 62.0, 90.0)  # pixels from the point's edge
_ANGLES = 16
_LEADER = 10.0  # distance from which a line joins the name to its point
_COVERED, _CROSSED, _OUTSIDE = 60.0, 1.5, 600.0  # a square pixel, a pixel, a square pixel
_NARROW, _BROAD = frozenset("fijlrt.,:;'|()[] "), frozenset("mwMW%@")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        tall = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * tall if wide > 0 and tall > 0 else 0.0

    def crossed(self, line: Segment) -> float:
        """The length of a straight line that lies within (Liang and Barsky 1984)."""
        x, y, x_end, y_end = line
        if max(x, x_end) < self.left or min(x, x_end) > self.right:
            return 0.0
        if max(y, y_end) < self.top or min(y, y_end) > self.bottom:
            return 0.0
        dx, dy = x_end - x, y_end - y
        enter, leave = 0.0, 1.0
        for step, room in (
            (-dx, x - self.left), (dx, self.right - x), (-dy, y - self.top), (dy, self.bottom - y)
        ):  # fmt: skip
            if step == 0:
                if room < 0:
                    return 0.0
            elif step < 0:
                enter = max(enter, room / step)
            else:
                leave = min(leave, room / step)
        return max(leave - enter, 0.0) * math.hypot(dx, dy)


Segment = tuple[float, float, float, float]  # x, y of one end, x, y of the other


@dataclass(frozen=True)
class Anchor:
    """A point and its name, in lines; the radius keeps the name off the marker.

    Bold letters are broader.
    """

    x: float
    y: float
    lines: tuple[str, ...]
    radius: float = 6.0
    bold: bool = False


@dataclass(frozen=True)
class Placed:
    """Where a name stands, and the line to its point where it stands far off."""

    box: Box
    leader: Segment | None


def width_of(text: str, size: float) -> float:
    """Pixels of a text in a usual sans-serif face, rather too many than too few."""
    widths = (0.36 if c in _NARROW else 0.95 if c in _BROAD else 0.62 for c in text)
    return size * sum(widths)


def place(
    anchors: Sequence[Anchor],
    bounds: Box,
    covered: Sequence[Box],
    crossed: Sequence[Segment],
    size: float,
) -> list[Placed]:
    """A place for each name, in the order of `anchors`.

    Args:
        bounds: where names may stand.
        covered: markers that no name shall cover, those of the anchors among them.
        crossed: lines that names had better not lie on.
        size: of the font, in pixels.
    """
    offers = [_places(anchor, size) for anchor in anchors]
    fixed = [
        [_own_cost(each, far, bounds, covered, crossed) for each, far in places]
        for places in offers
    ]
    chosen: dict[int, int] = {}
    crowded = sorted(
        range(len(anchors)), key=lambda i: (-sum(sorted(fixed[i])[: len(fixed[i]) // 2]), i)
    )
    for _ in range(12):
        moved = False
        for i in crowded:
            others = [offers[j][k][0] for j, k in chosen.items() if j != i]
            costs = [
                cost + _among(offer[0], others)
                for cost, offer in zip(fixed[i], offers[i], strict=True)
            ]
            best = min(range(len(costs)), key=costs.__getitem__)
            moved |= chosen.get(i) != best
            chosen[i] = best
        if not moved:
            break
    return [offers[i][chosen[i]][0] for i in range(len(anchors))]


def _places(anchor: Anchor, size: float) -> list[tuple[Placed, float]]:
    """Places around a point, each with its distance from the marker's edge."""
    wide = max(width_of(line, size) for line in anchor.lines) * (1.12 if anchor.bold else 1) + 3
    tall = LINE * size * len(anchor.lines)
    found = []
    for far in _DISTANCES:
        for turn in range(_ANGLES):
            angle = 2 * math.pi * turn / _ANGLES
            dx, dy = math.cos(angle), math.sin(angle)
            x, y = anchor.x + dx * (anchor.radius + far), anchor.y + dy * (anchor.radius + far)
            left = x if dx > 0.3 else x - wide if dx < -0.3 else x - wide / 2
            top = y if dy > 0.3 else y - tall if dy < -0.3 else y - tall / 2
            box = Box(left, top, left + wide, top + tall)
            leader = None
            if far >= _LEADER:
                leader = (anchor.x + dx * anchor.radius, anchor.y + dy * anchor.radius, x, y)
            found.append((Placed(box, leader), far + 0.5 * min(turn, _ANGLES - turn)))
    return found


def _own_cost(
    placed: Placed, far: float, bounds: Box, covered: Sequence[Box], crossed: Sequence[Segment]
) -> float:
    box = placed.box
    cost = far + _OUTSIDE * (box.area - box.overlap(bounds))
    cost += _COVERED * sum(box.overlap(other) for other in covered)
    cost += _CROSSED * sum(box.crossed(line) for line in crossed)
    if placed.leader is not None:
        cost += 4 * _CROSSED * sum(other.crossed(placed.leader) for other in covered)
    return cost


def _among(placed: Placed, others: Sequence[Placed]) -> float:
    cost = 0.0
    for other in others:
        cost += _COVERED * placed.box.overlap(other.box)
        if other.leader is not None:
            cost += 8 * _CROSSED * placed.box.crossed(other.leader)
        if placed.leader is not None:
            cost += 8 * _CROSSED * other.box.crossed(placed.leader)
    return cost
