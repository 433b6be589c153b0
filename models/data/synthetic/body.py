"""The shape of a snake: a smooth curve, a width along it, and light on a tube."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from models.data.synthetic.colors import Skin
from models.data.synthetic.noise import Field, field, smoothstep
from models.data.synthetic.species import Pattern

Generator = np.random.Generator
_POINTS = 220
_CANDIDATES = 12


@dataclass(frozen=True)
class Spine:
    """A snake seen from above, in units of the picture's side.

    Attributes:
        points: `[n, 2]` x, y from the tail to the snout.
        tangent: `[n, 2]` unit vectors towards the snout.
        arc: `[n]` distance from the tail.
        half_width: `[n]`.
        width: the width of the thickest part.
        head_length: from the snout to the neck.
    """

    points: Field
    tangent: Field
    arc: Field
    half_width: Field
    width: float
    head_length: float

    @property
    def length(self) -> float:
        return float(self.arc[-1])

    @property
    def normal(self) -> Field:
        return np.stack([-self.tangent[:, 1], self.tangent[:, 0]], 1)

    def at(self, from_snout: float, across: float) -> npt.NDArray[np.float64]:
        """The point at a distance behind the snout and -1..1 across."""
        i = int(np.searchsorted(self.arc, self.length - from_snout))
        i = min(max(i, 0), len(self.arc) - 1)
        return self.points[i] + across * self.half_width[i] * self.normal[i]


def draw_spine(rng: Generator) -> Spine:
    """A curve that lies well in the frame: the best of some random ones."""
    heading = _headings(rng)
    step = np.stack([np.cos(heading), np.sin(heading)], 2) / _POINTS
    points = np.cumsum(step, 1)
    low, high = points.min(1), points.max(1)
    extent = (high - low).max(1)
    reach = rng.uniform(0.85, 1.1, len(points)) / extent
    jitter = rng.uniform(-0.06, 0.06, (len(points), 2))
    middle = 0.5 * (low + high)
    points = (points - middle[:, None]) * reach[:, None, None] + 0.5 + jitter[:, None]
    width = rng.uniform(0.2, 0.27, len(points))
    best = int(np.argmin(_faults(points, reach, width)))
    return _with_width(
        rng, points[best].astype(np.float32), heading[best], float(reach[best]), float(width[best])
    )


def _headings(rng: Generator) -> npt.NDArray[np.float64]:
    """Directions along the body, `[candidates, points]` radians: winding or coiled."""
    s = np.linspace(0.0, 1.0, _POINTS)[None]
    draw = lambda low, high: rng.uniform(low, high, (_CANDIDATES, 1))  # noqa: E731
    winding = (
        draw(-2.2, 2.2) * s
        + draw(0.7, 1.9) * np.sin(2 * np.pi * (draw(0.7, 2.0) * s + draw(0, 1)))
        + draw(0.0, 0.5) * np.sin(2 * np.pi * (draw(2.0, 3.5) * s + draw(0, 1)))
    )
    turns = draw(1.2, 1.9) * np.where(draw(-1, 1) > 0, 1, -1)
    coiled = 2 * np.pi * turns * np.sqrt(s + 0.05) + draw(0, 0.35) * np.sin(
        2 * np.pi * (draw(1, 3) * s + draw(0, 1))
    )
    heading = np.where(draw(0, 1) < 0.3, coiled, winding)
    # the head is straight: it keeps the direction of the neck
    blend = smoothstep(0.0, 1.0, ((s - 0.88) / 0.06).astype(np.float32))
    neck = heading[:, int(0.9 * _POINTS)][:, None]
    return heading * (1 - blend) + neck * blend + draw(0, 2 * np.pi)


def _faults(points: Field, length: Field, width: Field) -> npt.NDArray[np.float64]:
    """How badly each candidate lies: too short, too long, over itself, head outside."""
    ratio = length / width
    fault = 2.0 * np.clip(6.0 - ratio, 0, None) + 0.4 * np.clip(ratio - 10.0, 0, None)
    few = points[:, ::5]
    distance = np.linalg.norm(few[:, :, None] - few[:, None], axis=3)
    apart = np.abs(np.arange(few.shape[1])[:, None] - np.arange(few.shape[1])[None])
    along = apart[None] * (5.0 / _POINTS) * length[:, None, None]
    near = (distance < 1.15 * width[:, None, None]) & (along > 2.4 * width[:, None, None])
    fault += 0.08 * near.sum((1, 2))
    head = points[:, -8:]
    fault += 60.0 * np.clip(np.abs(head - 0.5) - 0.36, 0, None).max((1, 2))
    return fault


def _with_width(
    rng: Generator, points: Field, heading: npt.NDArray[np.float64], length: float, width: float
) -> Spine:
    arc = (np.arange(_POINTS) * length / (_POINTS - 1)).astype(np.float32)
    behind = length - arc
    half = 0.5 * width
    tail = np.clip(arc / (rng.uniform(0.3, 0.5) * length), 0, 1)
    body = half * (0.06 + 0.94 * (1.0 - (1.0 - tail) ** 2))
    neck = rng.uniform(0.6, 0.8)
    head_length = width * rng.uniform(1.05, 1.5)
    jaw = half * rng.uniform(0.9, 1.2)
    body *= 1.0 - (1.0 - neck) * (1.0 - smoothstep(head_length, head_length + 2.2 * width, behind))
    u = np.clip(behind / head_length, 0.0, 1.0)
    widest = rng.uniform(0.58, 0.75)
    front = jaw * np.clip(u / widest, 0, 1) ** rng.uniform(0.36, 0.55)
    back = smoothstep(widest, 1.0, u)
    half_width = np.where(behind < head_length, front * (1 - back) + body * back, body)
    tangent = np.stack([np.cos(heading), np.sin(heading)], 1).astype(np.float32)
    return Spine(
        points, tangent, arc, np.maximum(half_width, 0.004).astype(np.float32), width, head_length
    )


@dataclass(frozen=True)
class Skinned:
    """The pixels that the snake covers.

    Attributes:
        rows, columns: where they are.
        color: `[n, 3]` uint8, shaded.
        mask: the same as a picture, mode L, 0 or 255.
    """

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    color: npt.NDArray[np.uint8]
    mask: Image.Image


def cover(
    rng: Generator, spine: Spine, pattern: Pattern, skin: Skin, light: Field, side: int
) -> Skinned:
    """Colour and shade the snake, pixel by pixel.

    Args:
        light: unit vector towards the light, x right, y down, z towards the viewer.
        side: of the square picture, in pixels.
    """
    index = _segments(spine, side)
    rows, columns = np.nonzero(index)
    i = index[rows, columns] - 1
    x = (columns + np.float32(0.5)) / np.float32(side) - spine.points[i, 0]
    y = (rows + np.float32(0.5)) / np.float32(side) - spine.points[i, 1]
    ahead_x, ahead_y = spine.tangent[i, 0], spine.tangent[i, 1]
    forward = x * ahead_x + y * ahead_y
    across = np.clip((y * ahead_x - x * ahead_y) / spine.half_width[i], -0.995, 0.995)
    behind = spine.length - (spine.arc[i] + forward)
    color = _paint(rng, spine, pattern, skin, behind, across, (rows, columns), side)
    height = np.sqrt(1.0 - across * across)
    facing = across * (spine.normal[i] @ light[:2]) + height * light[2]
    shade = 0.42 + 0.66 * np.clip(facing, 0, None) - 0.22 * np.abs(across) ** 6
    gloss = rng.uniform(0.0, 0.4) * np.clip(facing, 0, None) ** 18
    color = color * shade[:, None] + gloss[:, None]
    mask = Image.fromarray(np.where(index > 0, np.uint8(255), np.uint8(0)))
    shaded = (np.clip(color, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Skinned(rows, columns, shaded, mask)


def _segments(spine: Spine, side: int) -> npt.NDArray[np.int32]:
    """Which piece of the body covers a pixel, from 1 at the tail; 0 where there is none."""
    picture = Image.new("I", (side, side), 0)
    draw = ImageDraw.Draw(picture)
    left = (spine.points - spine.half_width[:, None] * spine.normal) * side
    right = (spine.points + spine.half_width[:, None] * spine.normal) * side
    quads = np.concatenate([left[:-1], left[1:], right[1:], right[:-1]], 1).tolist()
    for number, quad in enumerate(quads):
        draw.polygon(quad, fill=number + 1)
    return np.asarray(picture, np.int32)


def _paint(
    rng: Generator,
    spine: Spine,
    pattern: Pattern,
    skin: Skin,
    behind: Field,
    across: Field,
    where: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    side: int,
) -> Field:
    """The skin's own colours, `[n, 3]`, without light."""
    along = behind / spine.width
    around = np.arcsin(across) * (2.0 / np.pi)
    wobble = field(rng, side, 22)[where]
    strength = rng.uniform(0.02, 0.06)
    mark, edge = pattern(
        rng, along + strength * wobble, around + strength * field(rng, side, 22)[where]
    )
    head = 1.0 - smoothstep(0.75 * spine.head_length, 1.15 * spine.head_length, behind)
    fade = (1.0 - head) * rng.uniform(0.82, 1.0)
    color = skin.base + (mark * fade)[:, None] * (skin.mark - skin.base)
    color += (edge * fade)[:, None] * (skin.edge - color)
    color += head[:, None] * (skin.crown - color)
    flank = rng.uniform(0.0, 0.35) * smoothstep(0.72, 1.0, np.abs(around))
    color += flank[:, None] * (0.9 - color)
    # scales: a net of diamonds, drawn fainter on the head
    k, m = rng.uniform(4.5, 6.5), rng.uniform(4.0, 6.0)
    net = np.abs(
        np.sin(np.pi * (along * k + around * m)) * np.sin(np.pi * (along * k - around * m))
    )
    depth = rng.uniform(0.08, 0.28) * (1.0 - 0.7 * head)
    color *= (1.0 - depth * (1.0 - np.sqrt(net)))[:, None]
    return color * (1.0 + rng.uniform(0.0, 0.09) * wobble)[:, None]


def draw_tongue(rng: Generator, draw: ImageDraw.ImageDraw, spine: Spine, side: int) -> None:
    """A forked tongue in front of the snout; most snakes show it."""
    if rng.random() < 0.3:
        return
    snout, ahead = spine.points[-1], spine.tangent[-1]
    across = np.array([-ahead[1], ahead[0]])
    reach = spine.head_length * rng.uniform(0.35, 0.6)
    fork = snout + reach * 0.6 * ahead
    ink = tuple(rng.integers((110, 5, 10), (200, 50, 60)).tolist())
    width = max(1, round(0.075 * spine.width * side))
    draw.line(_flat(side, snout - 0.1 * reach * ahead, fork), fill=ink, width=width)
    for direction in (-0.28, 0.28):
        tip = fork + reach * (0.5 * ahead + direction * across)
        draw.line(_flat(side, fork, tip), fill=ink, width=width)


def draw_eyes(
    rng: Generator, draw: ImageDraw.ImageDraw, spine: Spine, skin: Skin, side: int
) -> None:
    """Two eyes with a pupil, round or slit, and a highlight."""
    radius = spine.width * side * rng.uniform(0.085, 0.115)
    slit = rng.random() < 0.5
    iris = tuple((skin.iris * 255).astype(int).tolist())
    for across in (-0.66, 0.66):
        centre = spine.at(0.42 * spine.head_length, across) * side
        _disc(draw, centre, radius * 1.25, (20, 16, 12))
        _disc(draw, centre, radius, iris)
        _disc(draw, centre, radius * (0.45 if slit else 0.65), (8, 6, 5))
        _disc(draw, centre - 0.35 * radius, radius * 0.28, (245, 245, 240))


def _disc(
    draw: ImageDraw.ImageDraw,
    centre: npt.NDArray[np.float64],
    radius: float,
    fill: tuple[int, ...],
) -> None:
    x, y = centre.tolist()
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _flat(side: int, *points: npt.NDArray[np.float64]) -> list[float]:
    return [float(value) * side for point in points for value in point]
