"""One picture: ground, shadow, snake, what lies over it, light, lens."""

from __future__ import annotations

import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from models.data.synthetic.body import cover, draw_eyes, draw_spine, draw_tongue
from models.data.synthetic.colors import draw_skin
from models.data.synthetic.ground import cover_partly, draw_ground
from models.data.synthetic.noise import Field, field, smoothstep
from models.data.synthetic.species import Species

Generator = np.random.Generator
SUPERSAMPLE = 2


def draw_snake(species: Species, seed: int, index: int, size: int) -> Image.Image:
    """Draw one picture.

    It depends on the arguments alone, not on what was drawn before, and the same
    arguments give the same pixels.

    Args:
        species: which pattern the snake wears; colour, pose, ground and light are
            drawn anew for each picture.
        seed: of the data set, not negative.
        index: of the picture within its species, not negative.
        size: side of the picture in pixels.

    Returns:
        RGB, `size` x `size`.
    """
    name = zlib.crc32(species.label.name.encode("utf-8"))
    rng = np.random.default_rng((seed, name, index))
    side = size * SUPERSAMPLE
    picture = out_of_focus(rng, draw_ground(rng, size), side)
    light = light_from(rng)
    spine = draw_spine(rng)
    skin = draw_skin(rng, species.usual_base, species.usual_mark)
    snake = cover(rng, spine, species.pattern, skin, light, side)
    pixels = np.array(in_shadow(rng, picture, snake.mask, light))
    pixels[snake.rows, snake.columns] = snake.color
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    draw_tongue(rng, draw, spine, side)
    draw_eyes(rng, draw, spine, skin, side)
    cover_partly(rng, picture, spine.points[-1], side)
    return expose(rng, picture.reduce(SUPERSAMPLE), size)


def light_from(rng: Generator) -> Field:
    """A unit vector towards the light, 25 to 60 degrees off the vertical."""
    direction, slant = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.05)
    return np.array(
        [np.sin(slant) * np.cos(direction), np.sin(slant) * np.sin(direction), np.cos(slant)],
        np.float32,
    )


def out_of_focus(rng: Generator, ground: Image.Image, side: int) -> Image.Image:
    """The ground a little blurred and pale, as behind a subject in focus.

    It is drawn without supersampling and enlarged here, since it is soft anyway.
    """
    soft = ground.filter(ImageFilter.GaussianBlur(rng.uniform(0.003, 0.008) * ground.width))
    tone = soft.resize((1, 1), Image.Resampling.BOX).resize(soft.size)
    pale = Image.blend(soft, tone, rng.uniform(0.5, 0.75))
    return pale.resize((side, side), Image.Resampling.BICUBIC)


def in_shadow(rng: Generator, picture: Image.Image, mask: Image.Image, light: Field) -> Image.Image:
    """The ground with the snake's shadow on it: one cast, one where it touches."""
    small = mask.reduce(4)
    reach = 0.045 * small.width
    shifted = Image.new("L", small.size, 0)
    shifted.paste(small, (round(-float(light[0]) * reach), round(-float(light[1]) * reach)))
    cast = shifted.filter(ImageFilter.GaussianBlur(0.012 * small.width))
    touch = small.filter(ImageFilter.GaussianBlur(0.02 * small.width))
    dark = rng.uniform(0.3, 0.6) * np.asarray(cast, np.float32) + 0.3 * np.asarray(touch)
    darkness = Image.fromarray(dark.astype(np.uint8)).resize(
        picture.size, Image.Resampling.BILINEAR
    )
    return Image.composite(Image.new("RGB", picture.size), picture, darkness)


def expose(rng: Generator, picture: Image.Image, size: int) -> Image.Image:
    """The light of the day and the faults of the lens."""
    blur = rng.uniform(-0.6, 0.6) * size / 160
    if blur > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    curve = (np.linspace(0.0, 1.0, 256) ** rng.uniform(0.9, 1.1)).astype(np.float32)
    pixels = curve[np.asarray(picture)]
    warmth = rng.uniform(-0.06, 0.06)
    gain = rng.uniform(0.95, 1.2) * np.array([1 + warmth, 1, 1 - warmth], np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    fall = 1.0 + rng.uniform(0, 0.3) * (np.cos(angle) * x + np.sin(angle) * y)
    if rng.random() < 0.1:  # sun through a canopy
        spots = smoothstep(-0.3, 0.3, field(rng, size, int(rng.integers(4, 8)), 2))
        fall = fall * (rng.uniform(0.65, 0.85) + 0.35 * spots)
    pixels = pixels * gain * fall[..., None]
    grain = rng.standard_normal((size, size, 1), dtype=np.float32)
    pixels += rng.uniform(0.0, 0.015) * grain
    return Image.fromarray((np.clip(pixels, 0, 1) * 255.0 + 0.5).astype(np.uint8))
