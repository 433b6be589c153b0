"""A card for every member of the zoo: one data file, `cards/<name>.toml`, read strictly.

A card says what a person wants to know before training: where the network comes from,
what was published about it, what it counts here (`models.zoo.count`, the default
options), under which terms its public weights are given away and what int8 does to it.

    title = "MobileNetV2"
    family = "MobileNet"
    dataset = "ImageNet-1k"      # what the published top-1 was measured on
    classes = 1000               # of the counted network
    input_size = 224
    weights = "MobileNet_V2_Weights.IMAGENET1K_V2"    # or "none published"
    licence = "..."
    int8 = "..."
    notes = "..."                # how this network differs from the paper's

    [paper]
    authors, year, title, venue

    [counted]
    parameters, multiply_adds

    [[published]]                # none or several, each from one place
    source = "paper"             # or "torchvision", or who else published it
    where = "Table 4"
    parameters, multiply_adds, top1     # at least one of them
    difference = "..."           # exactly where a figure is off by more than 1 %
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "cards"
NO_WEIGHTS = "none published"
TOLERANCE = 0.01  # of the published figure


class CardError(ValueError):
    """A card that is missing, incomplete or at odds with itself: a mistake of ours."""


@dataclass(frozen=True)
class Paper:
    """Where the network was first described.

    Attributes:
        authors: as one cites them.
        year: of the first publication.
        title: of the paper.
        venue: arXiv number, journal or conference.
    """

    authors: str
    year: int
    title: str
    venue: str


@dataclass(frozen=True)
class Published:
    """Figures from one place; None where that place gives none.

    Attributes:
        source: 'paper', 'torchvision', or who else published them.
        where: the table, section or weights entry.
        parameters: as given there.
        multiply_adds: of one picture; what papers call FLOPs where they mean these.
        top1: percent of the validation pictures, one model.
        difference: why a figure is more than 1 % off what is counted here.
    """

    source: str
    where: str
    parameters: float | None
    multiply_adds: float | None
    top1: float | None
    difference: str | None


@dataclass(frozen=True)
class Card:
    """One member of the zoo; see the module's text for the fields.

    Attributes:
        name: as in the registry.
        parameters: counted here, without auxiliary heads.
        multiply_adds: counted here, for one picture of `input_size`.
        published: none where nobody published a figure.
    """

    name: str
    title: str
    family: str
    dataset: str
    classes: int
    input_size: int
    parameters: int
    multiply_adds: int
    paper: Paper
    published: tuple[Published, ...]
    weights: str
    licence: str
    int8: str
    notes: str

    @property
    def top1(self) -> Published | None:
        """The published accuracy to show: of the public weights if any, else the paper's."""
        given = [entry for entry in self.published if entry.top1 is not None]
        ours = [entry for entry in given if entry.where == self.weights]
        return next(iter(ours or given), None)


def differing(entry: Published, parameters: int, multiply_adds: int) -> tuple[str, ...]:
    """The published figures that are more than 1 % off the counted ones, by name."""
    pairs = {
        "parameters": (entry.parameters, parameters),
        "multiply_adds": (entry.multiply_adds, multiply_adds),
    }
    return tuple(
        name
        for name, (published, counted) in pairs.items()
        if published is not None and abs(published - counted) > TOLERANCE * published
    )


def load(name: str, folder: Path = FOLDER) -> Card:
    """The card of an architecture.

    Raises:
        CardError: there is none, a key is unknown, missing or of another type, or a
            difference is unexplained, or explained where there is none.
    """
    path = folder / f"{name}.toml"
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except FileNotFoundError as error:
        raise CardError(f"the architecture {name!r} has no card {path.name}") from error
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{path.name}: {error}") from error
    fields = _Fields(data, path.name)
    counted = fields.section("counted")
    paper = fields.section("paper")
    card = Card(
        name=name,
        title=fields.text("title"),
        family=fields.text("family"),
        dataset=fields.text("dataset"),
        classes=fields.whole("classes"),
        input_size=fields.whole("input_size"),
        parameters=counted.whole("parameters"),
        multiply_adds=counted.whole("multiply_adds"),
        paper=Paper(
            paper.text("authors"), paper.whole("year"), paper.text("title"), paper.text("venue")
        ),
        published=tuple(_published(entry) for entry in fields.sections("published")),
        weights=fields.text("weights"),
        licence=fields.text("licence"),
        int8=fields.text("int8"),
        notes=fields.text("notes"),
    )
    for part in (fields, counted, paper):
        part.done()
    _check(card, path.name)
    return card


def names(folder: Path = FOLDER) -> tuple[str, ...]:
    """The architectures that have a card, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def _published(fields: _Fields) -> Published:
    entry = Published(
        source=fields.text("source"),
        where=fields.text("where"),
        parameters=fields.number("parameters"),
        multiply_adds=fields.number("multiply_adds"),
        top1=fields.number("top1"),
        difference=fields.text("difference") if fields.has("difference") else None,
    )
    fields.done()
    return entry


def _check(card: Card, where: str) -> None:
    for entry in card.published:
        place = f"{where}, {entry.source} ({entry.where})"
        if (entry.parameters, entry.multiply_adds, entry.top1) == (None, None, None):
            raise CardError(f"{place} has no figure")
        off = differing(entry, card.parameters, card.multiply_adds)
        if off and entry.difference is None:
            raise CardError(
                f"{place}: {' and '.join(off)} differ by more than 1 %, nothing says why"
            )
        if not off and entry.difference is not None:
            raise CardError(f"{place}: a difference is explained and there is none")


class _Fields:
    """A table of the file whose keys are taken one by one, so that none is overlooked."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self._left = dict(data)
        self._where = where

    def has(self, key: str) -> bool:
        return key in self._left

    def text(self, key: str) -> str:
        value = " ".join(self._take(key, str).split())
        if not value:
            raise CardError(f"{self._where}: {key} is empty")
        return value

    def whole(self, key: str) -> int:
        value: int = self._take(key, int)
        if value <= 0:
            raise CardError(f"{self._where}: {key} is {value}")
        return value

    def number(self, key: str) -> float | None:
        """A positive number, or None where the key is away."""
        if not self.has(key):
            return None
        value = self._take(key, (int, float))
        if not value > 0:
            raise CardError(f"{self._where}: {key} is {value}")
        return float(value)

    def section(self, key: str) -> _Fields:
        return _Fields(self._take(key, dict), f"{self._where}: {key}")

    def sections(self, key: str) -> list[_Fields]:
        """An array of tables; empty where the key is away."""
        if not self.has(key):
            return []
        entries = self._take(key, list)
        if not all(isinstance(entry, dict) for entry in entries):
            raise CardError(f"{self._where}: {key} is not an array of tables")
        return [_Fields(entry, f"{self._where}: {key}") for entry in entries]

    def done(self) -> None:
        if self._left:
            raise CardError(f"{self._where}: unknown {', '.join(sorted(self._left))}")

    def _take(self, key: str, kind: Any) -> Any:
        if key not in self._left:
            raise CardError(f"{self._where}: no {key}")
        value = self._left.pop(key)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise CardError(f"{self._where}: {key} is {value!r}")
        return value
