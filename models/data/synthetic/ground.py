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
    """Pebbles of one family of colours, the small ones on top."""
    picture = _soil(rng, side)
    draw = ImageDraw.Draw(picture)
    hue = rng.choice((0.07, 0.1, 0.6)) + rng.normal(0, 0.02)
    count, corners = int(rng.integers(170, 240)), 8
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = np.sort(rng.uniform(0.02, 0.052, count))[::-1, None]
    rim = radius * rng.uniform(0.75, 1.1, (count, corners))
    long = rng.uniform(0.8, 1.3, (count, 1))
    shape = np.stack([np.cos(angle) * rim * long, np.sin(angle) * rim], 2)
    centre = rng.uniform(-0.02, 1.02, (count, 1, 2))
    colors = _inks(rng, count, (hue, 0.06), (0.12, 0.1), (rng.uniform(0.42, 0.68), 0.2))
    layers = [
        ((centre + scale * shape + offset * radius[..., None]) * side).reshape(count, -1).tolist()
        for scale, offset in ((1.06, 0.25), (1.0, 0.0), (0.7, -0.16))
    ]
    shades = [np.minimum(colors * shade, 255).astype(int).tolist() for shade in (0.3, 0.85, 1.1)]
    for i in range(count):
        for layer, shade in zip(layers, shades, strict=True):
            draw.polygon(layer[i], fill=tuple(shade[i]))
    return picture


def grass(rng: Generator, side: int) -> Image.Image:
    """A meadow seen from above, the brighter blades on top."""
    hue, count = rng.uniform(0.15, 0.33), 260
    weight = 0.5 + 0.3 * field(rng, side, 12, 2)
    picture = _mixed(hsv(hue, 0.5, 0.12), hsv(hue, 0.5, 0.35), weight)
    draw = ImageDraw.Draw(picture)
    rise = np.linspace(0.25, 0.7, count)
    inks = _inks(rng, count, (hue, 0.04), (0.55, 0.2), (rise, 0.12)).astype(int).tolist()
    outlines = _blades(
        start=rng.uniform(-0.1, 1.1, (count, 2)),
        angle=rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.7, count),
        length=rng.uniform(0.1, 0.28, count),
        width=rng.uniform(0.006, 0.012, count),
        bend=rng.normal(0, 0.5, count),
        side=side,
    )
    for outline, ink in zip(outlines, inks, strict=True):
        draw.polygon(outline, fill=tuple(ink))
    return picture


def needles(rng: Generator, side: int) -> Image.Image:
    """Dry needles and twigs on the forest floor."""
    picture = _soil(rng, side)
    draw = ImageDraw.Draw(picture)
    hue, count = rng.uniform(0.05, 0.12), 200
    rise = np.linspace(0.25, 0.65, count)
    inks = _inks(rng, count, (hue, 0.03), (0.45, 0.2), (rise, 0.12)).astype(int).tolist()
    start = rng.uniform(-0.05, 1.05, (count, 2))
    angle, reach = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.05, 0.2, count)
    end = start + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    lines = (np.concatenate([start, end], 1) * side).tolist()
    for i, (line, ink) in enumerate(zip(lines, inks, strict=True)):
        draw.line(line, tuple(ink), max(1, round(side * (0.014 if i % 30 == 0 else 0.005))))
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
    """Lay a few leaves or blades over the snake, never on its head."""
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
        angle, reach = rng.uniform(0, 2 * np.pi, 1), rng.uniform(0.3, 0.6, 1)
        start = centre - 0.5 * reach * np.array([np.cos(angle[0]), np.sin(angle[0])])
        width, bend = rng.uniform(0.008, 0.016, 1), rng.normal(0, 0.5, 1)
        for shift, ink in ((0.012, (0, 0, 0, 80)), (0.0, _ink(color))):
            (outline,) = _blades((start + shift)[None], angle, reach, width, bend, side)
            draw.polygon(outline, fill=ink)


def _blades(
    start: Field, angle: Field, length: Field, width: Field, bend: Field, side: int
) -> list[list[float]]:
    """Outlines of blades of grass: broad at the foot, pointed, bent.

    Args:
        start: `[n, 2]`; the other fields `[n]`; all but the angles in units of the side.

    Returns:
        For each blade x, y, x, y ... in pixels.
    """
    directions = angle[:, None] + bend[:, None] * np.linspace(0.0, 1.0, 5)
    ahead = np.stack([np.cos(directions), np.sin(directions)], 2)
    line = start[:, None] + np.cumsum(ahead, 1) * (length[:, None, None] / 5)
    line = np.concatenate([start[:, None], line], 1)
    normal = np.stack([-ahead[..., 1], ahead[..., 0]], 2)
    half = width[:, None, None] * np.array([0.7, 1.0, 0.95, 0.8, 0.5])[:, None] * normal
    left, right = line[:, :5] + half, (line[:, :5] - half)[:, ::-1]
    outline = np.concatenate([left, line[:, 5:], right], 1) * side
    return outline.reshape(len(start), -1).tolist()


def _inks(
    rng: Generator,
    count: int,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float | Field, float],
) -> Field:
    """Colours drawn as by `around`, `[count, 3]`, RGB 0..255."""
    h, s, v = (
        np.broadcast_to(centre + half * rng.uniform(-1.0, 1.0, count), count)
        for centre, half in (hue, saturation, value)
    )
    s, v = np.clip(s, 0.0, 1.0)[:, None], np.clip(v, 0.0, 1.0)[:, None]
    # HSV to RGB (Smith 1978): v - v s max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6
    k = (np.array([5.0, 3.0, 1.0]) + 6.0 * h[:, None]) % 6.0
    return 255.0 * (v - v * s * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0))


GROUNDS: tuple[Ground, ...] = (sand, rock, water, wood, leaves, gravel, grass, needles)
