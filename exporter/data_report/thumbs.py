"""Small pictures for the page: single ones, and the contact sheet."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from models.data.labelled import Item, LabelledSet
from models.data.stratify import drawn
from models.errors import UserError
from models.images import open_rgb

_CELL, _GAP, _NAME, _BAND = 92, 4, 168, 4
_INK, _SOFT, _RARE = "#1d2320", "#5d6862", "#b3261e"


def inline(item: Item, side: int = 200) -> str:
    """A data URI of the image within a square of `side`; '' if it cannot be decoded."""
    picture = _opened(item)
    if picture is None:
        return ""
    picture.thumbnail((side, side))
    return data_uri(picture)


def data_uri(picture: Image.Image, quality: int = 80) -> str:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def sheet_rows(data: LabelledSet, rows: int) -> list[int]:
    """Classes for the sheet, commonest first; of too many the commonest and the rarest half."""
    counts = data.counts()
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    if len(order) <= rows:
        return order
    return order[: rows // 2] + order[len(order) - (rows - rows // 2) :]


def contact_sheet(
    data: LabelledSet,
    chosen: Sequence[int],
    rare: frozenset[int],
    per_class: int = 8,
    on_row: Callable[[], None] | None = None,
) -> Image.Image:
    """A row of images of each chosen class; rare ones are marked in red.

    Which images are shown is decided by their content, not by their names.
    """
    counts = data.counts()
    shape = (_NAME + per_class * (_CELL + _GAP) + _GAP, len(chosen) * (_CELL + _GAP) + _GAP)
    sheet = Image.new("RGB", shape, "white")
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(chosen):
        top = _GAP + row * (_CELL + _GAP)
        name = data.classes[label]
        if label in rare:
            draw.rectangle((0, top, _BAND - 1, top + _CELL - 1), fill=_RARE)
        for line, text in enumerate(_wrapped(name)):
            draw.text((_BAND + 8, top + 8 + 18 * line), text, _INK, _font(14))
        said = f"{counts[label]}" + ("  rare" if label in rare else "")
        draw.text((_BAND + 8, top + _CELL - 24), said,
                  _RARE if label in rare else _SOFT, _font(14))  # fmt: skip
        own = sorted((item for item in data.items if label in item.labels),
                     key=lambda item: drawn(item.digest, 0))  # fmt: skip
        for place, item in enumerate(own[:per_class]):
            picture = _opened(item)
            if picture is not None:
                square = ImageOps.fit(picture, (_CELL, _CELL), Image.Resampling.BILINEAR)
                sheet.paste(square, (_NAME + _GAP + place * (_CELL + _GAP), top))
        if on_row is not None:
            on_row()
    return sheet


def _wrapped(name: str, most: int = 20, lines: int = 3) -> list[str]:
    """A name on up to three lines, the end left out where it is longer."""
    import textwrap

    return textwrap.wrap(name, most, max_lines=lines, placeholder=" …") or [name[:most]]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _opened(item: Item) -> Image.Image | None:
    try:
        return open_rgb(item.path)
    except UserError:
        return None
