"""The cards of the zoo for people and programs: a table, one card, JSON, docs/zoo.md.

Nothing here imports torch: what was counted is in the cards, and a test counts again.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models import zoo
from models.zoo import Architecture, Option
from models.zoo.card import Card, Published, load

COLUMNS = ("name", "parameters", "multiply-adds", "input", "top-1 %", "top-1 of", "weights")
LICENCES = (
    "torchvision's README says of all its weights: they may have terms of their own, or terms "
    "derived from the data they were trained on, and whoever uses them has to find out. "
    "ImageNet gives its pictures for non-commercial research."
)
_LEFT = {0, 5, 6}  # columns of words
_WIDTH = 100
_INTRODUCTION = """\
# The zoo

Written by `exporter zoo --markdown docs/zoo.md` from the cards in `models/zoo/cards/`: edit those.
`exporter zoo` prints the table, `exporter zoo NAME` one card with its options; `--json FILE` writes
either for a program.

Parameters and multiply-adds are counted here (`models/zoo/count.py`) for the default options and
1000 classes (LeNet: 10), without the auxiliary heads that exist in training only. Multiply-adds are
those of convolutions and dense layers for one picture. Published figures stand beside them; where
they are more than 1 % apart, the card says why, or it cannot be loaded. Top-1 is as published, of
the public weights where there are any, else of the paper or of others who trained the network; it
was not measured here.

{licences}

## Adding an architecture

1. One function in a file of `models/zoo/`, with `@register`: the module paths of its head and first
   convolution, its options with their ranges, the name of torchvision's weights if it has any. A
   network that torchvision lacks is written in `models/architectures/`.
2. One card, `models/zoo/cards/<name>.toml`: copy a neighbour's, the keys are explained in
   `models/zoo/card.py`. `models.zoo.count.counted(name, 1000)` counts.
3. `exporter zoo --markdown docs/zoo.md`, and the tests.
"""


def cards() -> list[Card]:
    """The cards of all architectures, family by family, the smallest first."""
    found = [load(name) for name in zoo.names()]
    return sorted(found, key=lambda card: (card.family, card.parameters, card.name))


def table(shown: Sequence[Card]) -> Table:
    """One line a card."""
    grid = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for place, title in enumerate(COLUMNS):
        grid.add_column(title, justify="left" if place in _LEFT else "right", no_wrap=True)
    for card in shown:
        grid.add_row(*(Text(cell) for cell in _cells(card)))
    return grid


def page(card: Card) -> RenderableType:
    """A card whole, with the options of its architecture."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _fields(card):
        grid.add_row(Text(name), Text(text))
    return Group(Text(f"{card.name}: {card.title}", "bold"), grid, Text(LICENCES, "dim"))


def as_json(card: Card) -> dict[str, Any]:
    """A card as plain data, with the options of its architecture; None is left away."""
    entry = zoo.get(card.name)
    options = {name: _without_none(dataclasses.asdict(o)) for name, o in entry.options.items()}
    data = _without_none(dataclasses.asdict(card))
    return data | {"options": options, "grayscale": entry.grayscale}


def markdown(shown: Sequence[Card]) -> str:
    """The text of docs/zoo.md."""
    lines = [_INTRODUCTION.format(licences=textwrap.fill(LICENCES, _WIDTH)), "## All", ""]
    rows = [COLUMNS, *(_cells(card) for card in shown)]
    rule = ["---" if place in _LEFT else "---:" for place in range(len(COLUMNS))]
    lines += ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
    for family, members in groupby(shown, key=lambda card: card.family):
        lines += ["", f"## {family}"]
        for card in members:
            lines += ["", f"### {card.name}: {card.title}", ""]
            lines += [_bullet(name, text) for name, text in _fields(card)]
    return "\n".join(lines) + "\n"


def rounded(value: float) -> str:
    """'3.50 M': a large number in three digits."""
    scaled, unit = _scaled(value)
    return f"{scaled:#.3g}".rstrip(".") + unit


def _cells(card: Card) -> tuple[str, ...]:
    dataset = "" if card.dataset.startswith("ImageNet") else f" {card.dataset}"
    top1 = of = "-"
    if card.top1 is not None:
        top1 = f"{card.top1.top1:.2f}{dataset}"
        of = _top1_of(card.top1, card.weights)
    return (
        card.name,
        rounded(card.parameters),
        rounded(card.multiply_adds),
        str(card.input_size),
        top1,
        of,
        "public" if zoo.get(card.name).published else "none",
    )


def _top1_of(entry: Published, weights: str) -> str:
    """Whose accuracy it is: that of the public weights, of a paper or of others."""
    if entry.where == weights:
        return "weights"
    return "paper" if entry.source == "paper" or "arXiv" in entry.where else "others"


def _fields(card: Card) -> list[tuple[str, str]]:
    entry = zoo.get(card.name)
    paper = card.paper
    fields = [
        ("paper", f"{paper.authors} {paper.year}, {paper.title}, {paper.venue}"),
        ("counted", _counted(card, entry)),
    ]
    fields += [("published", _published(published)) for published in card.published]
    if not card.published:
        fields.append(("published", "no figures"))
    fields += [("option", _option(name, option)) for name, option in entry.options.items()]
    return [
        *fields,
        ("weights", card.weights),
        ("licence", card.licence),
        ("int8", card.int8),
        ("notes", card.notes),
    ]


def _counted(card: Card, entry: Architecture) -> str:
    figures = f"{card.parameters:,} parameters, {card.multiply_adds:,} multiply-adds"
    grey = ", one grey channel" if entry.grayscale else ""
    return f"{figures} ({card.classes} classes, {card.input_size} pixels{grey})"


def _published(entry: Published) -> str:
    figures = []
    for value, name in ((entry.parameters, "parameters"), (entry.multiply_adds, "multiply-adds")):
        if value is not None:
            scaled, unit = _scaled(value)
            figures.append(f"{scaled:.7g}{unit} {name}")
    if entry.top1 is not None:
        figures.append(f"top-1 {entry.top1:g} %")
    text = f"{', '.join(figures)} ({entry.source}: {entry.where})"
    return text + (f". {entry.difference}" if entry.difference else "")


def _scaled(value: float) -> tuple[float, str]:
    for unit, size in ((" G", 1e9), (" M", 1e6), (" K", 1e3)):
        if value >= 0.9995 * size:  # 999,600 is 1.00 M in three digits, not 1000 K
            return value / size, unit
    return value, ""


def _option(name: str, option: Option) -> str:
    allowed = f"from {option.smallest} to {option.largest}"
    if option.choices:
        allowed = f"one of {', '.join(map(str, option.choices))}"
    return f"{name}: {option.meaning}; {option.default} unless given, {allowed}"


def _bullet(name: str, text: str) -> str:
    return textwrap.fill(
        f"- **{name}** {text}",
        _WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None}
    if isinstance(data, list | tuple):
        return [_without_none(value) for value in data]
    return data
