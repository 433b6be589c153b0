"""One picture of several snakes, or of none: what the multi-label variant is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from models.data.synthetic.body import Spine, cover, draw_eyes, draw_spine, draw_tongue
from models.data.synthetic.colors import draw_skin
from models.data.synthetic.ground import draw_ground
from models.data.synthetic.scene import SUPERSAMPLE, expose, in_shadow, light_from, out_of_focus
from models.data.synthetic.species import SPECIES

_USUAL = 0.9  # how often a snake wears its species' usual dress: they are small here
_REACH = (0.5, 0.58)  # a snake's size, in that of one that fills a picture alone


def draw_crowd(present: Sequence[int], seed: int, walk: int, index: int, size: int) -> Image.Image:
    """Draw a snake of each species that is present, at different places.

    It depends on the arguments alone. Pictures of one walk lie on the same ground.

    Args:
        present: indices into `SPECIES`, none twice, at most four.
        seed: of the data set, not negative.
        walk: which ground.
        index: of the picture in the data set, not negative.
        size: side of the picture in pixels.

    Returns:
        RGB, `size` x `size`.
    """
    ground_rng = np.random.default_rng((seed, 1, walk))
    rng = np.random.default_rng((seed, 2, index))
    side = size * SUPERSAMPLE
    picture = out_of_focus(ground_rng, draw_ground(ground_rng, size), side)
    light = light_from(rng)
    corners = rng.permutation(4)[: len(present)]
    for number, corner in zip(present, corners, strict=True):
        species = SPECIES[number]
        centre = 0.5 + 0.235 * np.array([corner % 2 * 2 - 1, corner // 2 * 2 - 1])
        if len(present) == 1:
            centre = rng.uniform(0.32, 0.68, 2)
        spine = _placed(draw_spine(rng), rng.uniform(*_REACH), centre)
        skin = draw_skin(rng, species.usual_base, species.usual_mark, _USUAL)
        snake = cover(rng, spine, species.pattern, skin, light, side)
        pixels = np.array(in_shadow(rng, picture, snake.mask, light))
        pixels[snake.rows, snake.columns] = snake.color
        picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        draw_tongue(rng, draw, spine, side)
        draw_eyes(rng, draw, spine, skin, side)
    return expose(rng, picture.reduce(SUPERSAMPLE), size)


def _placed(spine: Spine, scale: float, centre: np.ndarray) -> Spine:
    """The snake made smaller, its middle put at `centre`."""
    middle = 0.5 * (spine.points.min(0) + spine.points.max(0))
    points = ((spine.points - middle) * scale + centre).astype(np.float32)
    return replace(
        spine,
        points=points,
        arc=(spine.arc * scale).astype(np.float32),
        half_width=(spine.half_width * scale).astype(np.float32),
        width=spine.width * scale,
        head_length=spine.head_length * scale,
    )
