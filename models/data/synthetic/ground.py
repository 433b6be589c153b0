"""What the snakes lie on, and what lies on the snakes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from models.data.synthetic.colors import Color, around, hsv
from models.data.synthetic.noise import Field, field, smoothstep

Generator = np.random.Generator
Ground = Callable[[Generator, int], Image.Image]


def draw_ground(rng: Generator, side: int) -> Image.Image:
    """One of the grounds, RGB, `side` x `side`; it does not depend on the species."""
    return GROUNDS[rng.integers(len(GROUNDS))](rng, side)


def _mixed(dark: Color | Image.Image, light: Color | Image.Image, weight: Field) -> Image.Image:
    """`dark` where the weight is 0 or less, `light` where it is 1 or more."""
    side = weight.shape[0]
    over, under = (
        colour if isinstance(colour, Image.Image) else Image.new("RGB", (side, side), _ink(colour))
        for colour in (light, dark)
    )
    mask = Image.fromarray((np.clip(weight, 0.0, 1.0) * 255.0).astype(np.uint8))
    return Image.composite(over, under, mask)


def _ink(color: Color) -> tuple[int, int, int]:
    red, green, blue = (np.clip(color, 0, 1) * 255).astype(int).tolist()
    return red, green, blue


def _soil(rng: Generator, side: int) -> Image.Image:
    dark = around(rng, (0.07, 0.03), (0.45, 0.15), (0.24, 0.09))
    weight = 0.4 + 0.22 * field(rng, side, 9, octaves=4, persistence=0.7)
    return _mixed(dark, dark * 2.2, weight)


def sand(rng: Generator, side: int) -> Image.Image:
    """Fine grains, wind ripples."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle = rng.uniform(0, np.pi)
    warp = 0.05 * field(rng, side, 4, octaves=2)
    run = np.cos(angle) * x + np.sin(angle) * y + warp
    ripple = np.sin(2 * np.pi * rng.uniform(6, 14) * run) * rng.uniform(0.0, 0.16)
    grain = field(rng, side, 150) * 0.1
    light = around(rng, (0.1, 0.025), (0.32, 0.14), (0.85, 0.1))
    weight = 0.6 + ripple + grain + 0.1 * field(rng, side, 3)
    return _mixed(light * 0.6, light, weight)


def rock(rng: Generator, side: int) -> Image.Image:
    """Stone with veins and lichen."""
    base = around(rng, (rng.choice((0.07, 0.58)), 0.04), (0.1, 0.08), (0.6, 0.16))
    stone = _mixed(base * 0.55, base * 1.15, 0.5 + 0.25 * field(rng, side, 5, 4, 0.65))
    crack = 1.0 - smoothstep(0.0, 0.06, np.abs(field(rng, side, 5, 2)))
    stone = _mixed(stone, base * 0.2, 0.6 * crack)
    lichen = smoothstep(0.9, 1.2, field(rng, side, 9, 3, 0.6))
    growth = around(rng, (0.17, 0.08), (0.35, 0.2), (0.65, 0.15))
    return _mixed(stone, growth, 0.8 * lichen)


def water(rng: Generator, side: int) -> Image.Image:
    """Shallow water with a net of light."""
    deep = around(rng, (0.5, 0.08), (0.5, 0.2), (0.3, 0.1))
    first = np.abs(field(rng, side, 7, 2, 0.4))
    second = np.abs(field(rng, side, (14, 9)))
    net = np.exp(-6.0 * first) + 0.5 * np.exp(-5.0 * second)
    weight = 0.25 + 0.12 * field(rng, side, 3) + rng.uniform(0.2, 0.55) * net
    return _mixed(deep, hsv(0.45, 0.18, 0.9), weight)


def wood(rng: Generator, side: int) -> Image.Image:
    """Weathered planks."""
    light = around(rng, (0.075, 0.03), (0.45, 0.2), (0.65, 0.15))
    planks = rng.uniform(3.0, 5.5)
    x = np.arange(side, dtype=np.float32) / side * planks + rng.uniform(0, 1)
    number = x.astype(int)
    shift = rng.uniform(0, 9, 8).astype(np.float32)[number]
    tone = rng.uniform(0.75, 1.1, 8).astype(np.float32)[number]
    warp = field(rng, side, (3, 12), 2)
    grain = np.sin(2 * np.pi * (x * 3 + shift + 0.25 * warp))
    fibre = field(rng, side, (8, 120))
    gap = smoothstep(0.0, 0.03, np.minimum(x - number, 1 - x + number))
    weight = (0.55 + 0.16 * grain + 0.12 * fibre) * tone * (0.25 + 0.75 * gap)
    picture = _mixed(light * 0.35, light, weight)
    return picture.transpose(Image.Transpose.ROTATE_90) if rng.random() < 0.5 else picture


def leaves(rng: Generator, side: int) -> Image.Image:
    """Leaf litter, brown, red or green."""
    picture = _soil(rng, side)
    draw = ImageDraw.Draw(picture, "RGBA")
    hue = rng.uniform(0.03, 0.26)
    for _ in range(int(rng.integers(45, 75))):
        color = around(rng, (hue, 0.05), (0.5, 0.25), (0.5, 0.25))
        draw_leaf(rng, draw, rng.uniform(-0.05, 1.05, 2), rng.uniform(0.1, 0.24), color, side)
    return picture


def gravel(rng: Generator, side: int) -> Image.Image:
    """Pebbles of one family of colours."""
    picture = _soil(rng, side)
    draw = ImageDraw.Draw(picture)
    hue, gray = rng.choice((0.07, 0.1, 0.6)) + rng.normal(0, 0.02), rng.uniform(0.42, 0.68)
    count = int(rng.integers(220, 320))
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    size = rng.uniform(0.018, 0.05, count)
    for radius in np.sort(size)[::-1]:
        centre = rng.uniform(-0.02, 1.02, 2)
        rim = radius * rng.uniform(0.75, 1.1, 9)
        shape = np.stack([np.cos(angle) * rim * rng.uniform(0.8, 1.3), np.sin(angle) * rim], 1)
        color = around(rng, (hue, 0.06), (0.12, 0.1), (gray, 0.2))
        for scale, offset, shade in ((1.06, 0.25, 0.3), (1.0, 0.0, 0.85), (0.7, -0.16, 1.1)):
            outline = (centre + scale * shape + offset * radius) * side
            draw.polygon(outline.ravel().tolist(), fill=_ink(color * shade))
    return picture


def grass(rng: Generator, side: int) -> Image.Image:
    """A meadow seen from above."""
    hue = rng.uniform(0.15, 0.33)
    weight = 0.5 + 0.3 * field(rng, side, 12, 2)
    picture = _mixed(hsv(hue, 0.5, 0.12), hsv(hue, 0.5, 0.35), weight)
    draw = ImageDraw.Draw(picture)
    lean = rng.uniform(0, 2 * np.pi)
    for i in range(330):
        color = around(rng, (hue, 0.04), (0.55, 0.2), (0.25 + 0.45 * i / 330, 0.12))
        _blade(
            draw, rng.uniform(-0.1, 1.1, 2), lean + rng.normal(0, 0.7),
            rng.uniform(0.1, 0.28), rng.uniform(0.005, 0.01), rng.normal(0, 0.5), _ink(color), side,
        )  # fmt: skip
    return picture


def needles(rng: Generator, side: int) -> Image.Image:
    """Dry needles and twigs on the forest floor."""
    picture = _soil(rng, side)
    draw = ImageDraw.Draw(picture)
    hue = rng.uniform(0.05, 0.12)
    for i in range(240):
        color = around(rng, (hue, 0.03), (0.45, 0.2), (0.25 + 0.4 * i / 240, 0.12))
        start = rng.uniform(-0.05, 1.05, 2)
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.2)
        end = start + reach * np.array([np.cos(angle), np.sin(angle)])
        thick = max(1, round(side * (0.014 if i % 30 == 0 else 0.005)))
        draw.line([*(start * side).tolist(), *(end * side).tolist()], _ink(color), thick)
    return picture


def draw_leaf(
    rng: Generator, draw: ImageDraw.ImageDraw, centre: Field, length: float, color: Color, side: int
) -> None:
    """A leaf with a midrib, one half in shade, and its shadow.

    Args:
        draw: in mode RGBA, since the shadow is translucent.
        centre: x, y in units of the side.
        length: in units of the side.
    """
    angle = rng.uniform(0, 2 * np.pi)
    u = np.linspace(0, 1, 7)
    bow = rng.uniform(-0.12, 0.12) * np.sin(np.pi * u)
    half = rng.uniform(0.17, 0.3) * np.sin(np.pi * u**0.8) ** 0.8
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def placed(across: Field) -> Field:
        return (centre + length * np.stack([u - 0.5, across], 1) @ turn) * side

    upper, rib, lower = placed(bow + half), placed(bow), placed(bow - half)
    whole = np.concatenate([upper, lower[::-1]])
    draw.polygon((whole + 0.014 * side).ravel().tolist(), fill=(0, 0, 0, 90))
    draw.polygon(whole.ravel().tolist(), fill=_ink(color))
    shaded = np.concatenate([rib, lower[::-1]])
    draw.polygon(shaded.ravel().tolist(), fill=_ink(color * 0.8))
    draw.line(rib.ravel().tolist(), fill=_ink(color * 1.3), width=max(1, side // 200))


def cover_partly(rng: Generator, picture: Image.Image, head: Field, side: int) -> None:
    """Lay a few leaves or blades over the snake, seldom over its head."""
    draw = ImageDraw.Draw(picture, "RGBA")
    hue = rng.uniform(0.05, 0.33)
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.5 else 0):
        centre = rng.uniform(0.05, 0.95, 2)
        color = around(rng, (hue, 0.05), (0.5, 0.2), (0.5, 0.2))
        if np.hypot(*(centre - head)) < 0.2:
            continue
        if rng.random() < 0.4:
            draw_leaf(rng, draw, centre, rng.uniform(0.12, 0.22), color, side)
            continue
        angle, reach, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.6), rng.normal(0, 0.5)
        width = rng.uniform(0.008, 0.016)
        start = centre - 0.5 * reach * np.array([np.cos(angle), np.sin(angle)])
        _blade(draw, start + 0.012, angle, reach, width, bend, (0, 0, 0, 80), side)
        _blade(draw, start, angle, reach, width, bend, _ink(color), side)


def _blade(
    draw: ImageDraw.ImageDraw,
    start: Field,
    angle: float,
    length: float,
    width: float,
    bend: float,
    ink: tuple[int, ...],
    side: int,
) -> None:
    """A blade of grass: broad at its foot, pointed, bent."""
    directions = angle + bend * np.linspace(0.0, 1.0, 5)
    steps = np.stack([np.cos(directions), np.sin(directions)], 1) * (length / 5)
    line = np.concatenate([[start], start + np.cumsum(steps, 0)])
    normal = np.stack([-np.sin(directions), np.cos(directions)], 1)
    half = width * np.array([0.7, 1.0, 0.95, 0.8, 0.5])[:, None] * normal
    outline = np.concatenate([line[:5] + half, line[5:], (line[:5] - half)[::-1]]) * side
    draw.polygon(outline.ravel().tolist(), fill=ink)


GROUNDS: tuple[Ground, ...] = (sand, rock, water, wood, leaves, gravel, grass, needles)
