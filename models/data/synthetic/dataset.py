"""The drawn data set on disk: a folder per species."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from models.atomic import beside
from models.data.labelled import DataError
from models.data.synthetic.scene import draw_snake
from models.data.synthetic.species import LABELS, SPECIES

DRAWING_VERSION = 1  # raised whenever the same seed would give another picture
MARKER = ".drawn.json"
JPEG: dict[str, Any] = {"quality": 92, "subsampling": 0}


def draw_dataset(
    folder: Path,
    per_class: int,
    seed: int,
    size: int,
    on_image: Callable[[], None] | None = None,
) -> None:
    """Draw `per_class` pictures of each species into a folder per species (JPEG).

    Nothing is drawn when the same set already lies there complete. Otherwise the
    set is drawn beside `folder` and put in its place when it is whole; only a
    folder that an earlier call has drawn, or an empty one, is ever replaced.

    Args:
        folder: the data set; its class folders are named after `LABELS`.
        per_class: pictures of each species, at least 1.
        seed: not negative; another seed draws other pictures.
        size: side of the pictures in pixels, 32 to 1024.
        on_image: called after each picture, for a progress bar.

    Raises:
        DataError: an argument is out of range, or the folder holds something else.
    """
    folder = Path(folder)
    refuse_bad_arguments(per_class, seed, size)
    recipe = {
        "drawing_version": DRAWING_VERSION,
        "per_class": per_class,
        "seed": seed,
        "size": size,
        "species": [label.name for label in LABELS],
    }
    if _is_complete(folder, recipe):
        return
    refuse_foreign(folder)
    with beside(folder) as staging:
        for species in SPECIES:
            target = staging.folder / species.label.name
            target.mkdir()
            for index in range(per_class):
                picture = draw_snake(species, seed, index, size)
                picture.save(target / f"{index:05d}.jpg", **JPEG)
                if on_image is not None:
                    on_image()
        (staging.folder / MARKER).write_text(json.dumps(recipe, indent=2) + "\n")


def draw_contact_sheet(path: Path, per_species: int, seed: int, size: int = 96) -> None:
    """Draw a column of pictures of each species into one PNG, for people to look at.

    The PNG has 256 colours, a third of the bytes of a full one.
    """
    gap, header = 4, 20
    step = size + gap
    shape = (gap + step * len(SPECIES), header + gap + step * per_species)
    sheet = Image.new("RGB", shape, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(max(8, size // 8))
    for column, species in enumerate(SPECIES):
        left = gap + step * column
        name = species.label.name.removesuffix(" noodle")
        draw.text((left + size // 2, header // 2 + 2), name, "#333333", font, anchor="mm")
        for index in range(per_species):
            picture = draw_snake(species, seed, index, size)
            sheet.paste(picture, (left, header + gap + step * index))
    path.parent.mkdir(parents=True, exist_ok=True)
    palette = sheet.quantize(256, method=Image.Quantize.MEDIANCUT)
    sheet.quantize(palette=palette).save(path, optimize=True)  # with the palette given: dithered


def _is_complete(folder: Path, recipe: dict[str, Any]) -> bool:
    marker = folder / MARKER
    try:
        found = json.loads(marker.read_text())
    except (OSError, ValueError):
        return False
    return found == recipe and all(
        (folder / label.name / f"{index:05d}.jpg").is_file()
        for label in LABELS
        for index in range(recipe["per_class"])
    )


def refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder that was not drawn.

    Raises:
        DataError: it holds something else.
    """
    if not folder.exists() or (folder / MARKER).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise DataError(
            f"{folder} is in the way.",
            "it was not drawn by this program, so it is not replaced",
            "name another folder for the drawn data set, or move this one away",
        )


def refuse_bad_arguments(per_class: int, seed: int, size: int) -> None:
    """Refuse what cannot be drawn.

    Raises:
        DataError: a number is out of range.
    """
    for what, value, low, high in (
        ("pictures of each species", per_class, 1, 100_000),
        ("seed", seed, 0, 2**63 - 1),
        ("picture size", size, 32, 1024),
    ):
        if not low <= value <= high:
            raise DataError(
                f"The {what} is {value}.",
                f"it lies between {low} and {high}",
                "choose a number in that range",
            )
