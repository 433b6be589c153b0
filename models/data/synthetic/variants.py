"""Two harder sets of drawn snakes: one with a long tail, one with several in a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.atomic import beside
from models.data.labelled import DataError
from models.data.synthetic.crowd import draw_crowd
from models.data.synthetic.dataset import (
    DRAWING_VERSION,
    JPEG,
    MARKER,
    refuse_bad_arguments,
    refuse_foreign,
)
from models.data.synthetic.scene import draw_snake
from models.data.synthetic.species import LABELS, SPECIES

TABLE = "labels.csv"
_WALK = 4  # pictures of one walk
_SNAKES = (0.05, 0.3, 0.4, 0.25)  # how often there are 0, 1, 2, 3 in a picture
OnImage = Callable[[], None]


def long_tail(most: int, ratio: float, classes: int) -> tuple[int, ...]:
    """How many images each class has, from the most to the fewest.

    `most * ratio ** (-i / (classes - 1))`, rounded, at least 1 (Cui et al. 2019,
    arXiv:1901.05555, section 5.1; Cao et al. 2019, arXiv:1906.07413, appendix).
    """
    return tuple(max(1, round(most * ratio ** (-i / (classes - 1)))) for i in range(classes))


def draw_imbalanced(
    folder: Path,
    most: int,
    ratio: float,
    seed: int,
    size: int,
    on_image: OnImage | None = None,
) -> tuple[int, ...]:
    """Draw a long tail into a folder per species; which species is rare is drawn too.

    A picture is the same one that `draw_dataset` draws with this seed. Nothing is drawn
    when the same set lies there complete; only a folder that was drawn is replaced.

    Args:
        most: pictures of the commonest species, at least 1.
        ratio: how many times as many those are as the rarest's, 1 to 1000.
        seed: not negative.
        size: side of the pictures in pixels, 32 to 1024.
        on_image: called after each picture.

    Returns:
        How many pictures each species has, in the order of `LABELS`.

    Raises:
        DataError: an argument is out of range, or the folder holds something else.
    """
    refuse_bad_arguments(most, seed, size)
    if not 1.0 <= ratio <= 1000.0:
        raise DataError(
            f"The imbalance is {ratio!r}.",
            "it says how many times as many pictures the commonest species has as the rarest",
            "give a number from 1 to 1000; 100 is usual",
        )
    counts = np.zeros(len(SPECIES), int)
    order = np.random.default_rng((seed, 0)).permutation(len(SPECIES))
    counts[order] = long_tail(most, ratio, len(SPECIES))
    names = {
        f"{species.label.name}/{index:05d}.jpg": (species, index)
        for species, count in zip(SPECIES, counts.tolist(), strict=True)
        for index in range(count)
    }
    recipe = {"variant": "imbalanced", "most": most, "ratio": ratio, "seed": seed, "size": size}

    def draw(name: str) -> Image.Image:
        species, index = names[name]
        return draw_snake(species, seed, index, size)

    _draw_all(Path(folder), recipe, list(names), draw, on_image)
    return tuple(counts.tolist())


def draw_multi_label(
    folder: Path, images: int, seed: int, size: int, on_image: OnImage | None = None
) -> Path:
    """Draw pictures of none to three snakes, each of another species.

    Every four pictures belong to a walk and lie on the same ground: its group. What a
    network learns of a ground must not help it, so that a walk must not be divided.

    Args:
        images: how many pictures, at least 1.
        seed: not negative.
        size: side of the pictures in pixels, 32 to 1024; 96 and more can be told apart.
        on_image: called after each picture.

    Returns:
        The table in `folder`, `labels.csv` with the columns file, labels and group.

    Raises:
        DataError: an argument is out of range, or the folder holds something else.
    """
    refuse_bad_arguments(images, seed, size)
    folder = Path(folder)
    names = [f"images/{index:05d}.jpg" for index in range(images)]
    recipe = {"variant": "multi-label", "images": images, "seed": seed, "size": size}

    def draw(name: str) -> Image.Image:
        index = int(Path(name).stem)
        return draw_crowd(present_in(seed, index), seed, index // _WALK, index, size)

    rows = [
        (name, "|".join(LABELS[k].name for k in present_in(seed, index)), f"walk {index // _WALK}")
        for index, name in enumerate(names)
    ]
    _draw_all(folder, recipe, names, draw, on_image, rows)
    return folder / TABLE


def present_in(seed: int, index: int) -> tuple[int, ...]:
    """The species in a picture of the multi-label set, ascending indices into `LABELS`."""
    rng = np.random.default_rng((seed, 3, index))
    count = int(rng.choice(len(_SNAKES), p=_SNAKES))
    return tuple(sorted(rng.choice(len(SPECIES), count, replace=False).tolist()))


def draw_variant_sheet(path: Path, kind: str, seed: int, size: int = 112, rows: int = 3) -> None:
    """Draw some pictures of a variant into one PNG, for people to look at.

    Args:
        kind: 'imbalanced' (a column a species, the commonest with `rows` pictures and as
            many times as many as the rarest) or 'multi-label' (`rows` rows of eight).
    """
    gap = 4
    step = size + gap
    if kind == "imbalanced":
        counts = long_tail(rows, rows, len(SPECIES))
        order = np.random.default_rng((seed, 0)).permutation(len(SPECIES))
        cells = {
            (column, index): draw_snake(SPECIES[column], seed, index, size)
            for column, count in zip(order.tolist(), counts, strict=True)
            for index in range(count)
        }
    else:
        cells = {
            (index % 8, index // 8): draw_crowd(
                present_in(seed, index), seed, index // _WALK, index, size
            )
            for index in range(8 * rows)
        }
    columns, lines = (1 + max(cell[axis] for cell in cells) for axis in (0, 1))
    sheet = Image.new("RGB", (gap + step * columns, gap + step * lines), "white")
    for (column, row), picture in cells.items():
        sheet.paste(picture, (gap + step * column, gap + step * row))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _draw_all(
    folder: Path,
    recipe: dict[str, Any],
    names: list[str],
    draw: Callable[[str], Image.Image],
    on_image: OnImage | None,
    rows: list[tuple[str, str, str]] | None = None,
) -> None:
    """Draw into a fresh folder that takes the place of `folder` when it is whole."""
    marker = {
        "drawing_version": DRAWING_VERSION, **recipe, "species": [label.name for label in LABELS]
    }  # fmt: skip
    if _is_complete(folder, marker, names):
        return
    refuse_foreign(folder)
    with beside(folder) as staging:
        for name in names:
            target = staging.folder / name
            target.parent.mkdir(exist_ok=True)
            draw(name).save(target, **JPEG)
            if on_image is not None:
                on_image()
        if rows is not None:
            with (staging.folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(("file", "labels", "group"))
                writer.writerows(rows)
        (staging.folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n")


def _is_complete(folder: Path, marker: dict[str, Any], names: list[str]) -> bool:
    try:
        found = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return False
    return found == marker and all((folder / name).is_file() for name in names)
