"""The invented species: a name and a pattern each.

A pattern is a function of the place on the skin. `along` is the distance behind
the snout in body widths, `around` runs from -1 (left flank) over 0 (spine) to 1
(right flank) in equal angles. It gives the weight of the mark colour and of the
edge colour, each 0..1. Periods, widths and wobble are drawn anew for every snake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.contract import Label, Venomous
from models.data.synthetic.noise import Field, smoothstep

Generator = np.random.Generator
Pattern = Callable[[Generator, Field, Field], tuple[Field, Field]]


@dataclass(frozen=True)
class Species:
    """One invented species.

    Attributes:
        label: its names and its invented venom.
        pattern: what tells it from the others.
        usual_base, usual_mark: names of the tones that it wears most often.
    """

    label: Label
    pattern: Pattern
    usual_base: str
    usual_mark: str


_registry: list[Species] = []


def _species(
    name: str, scientific_name: str, venomous: Venomous, usual_base: str, usual_mark: str
) -> Callable[[Pattern], Pattern]:
    def register(pattern: Pattern) -> Pattern:
        label = Label(name, scientific_name, venomous)
        _registry.append(Species(label, pattern, usual_base, usual_mark))
        return pattern

    return register


def _phase(rng: Generator, along: Field, period: float) -> Field:
    """Position within the period, -0.5..0.5, centred on a mark."""
    x = along / period + rng.uniform(0.0, 1.0)
    return (x - np.floor(x) - 0.5).astype(np.float32)


def _inside(distance: Field, limit: Field | float, soft: float) -> Field:
    """1 where distance < limit, 0 beyond, with a soft border."""
    return 1.0 - smoothstep(-soft, soft, distance - limit)


def _none(like: Field) -> Field:
    return np.zeros_like(like)


@_species("Barberpole noodle", "Fictophis tonsor", "no", "ochre", "black")
def _bands(rng: Generator, along: Field, around: Field) -> tuple[Field, Field]:
    """Broad crossbands, as wide on the flanks as on the spine."""
    period = rng.uniform(1.15, 1.7)
    duty = rng.uniform(0.38, 0.58)
    mark = _inside(np.abs(_phase(rng, along, period)), 0.5 * duty, 0.05)
    return mark, _none(mark)


@_species("Signet noodle", "Fictophis sigillum", "yes", "russet", "black")
def _rings(rng: Generator, along: Field, around: Field) -> tuple[Field, Field]:
    """Thin rings in pairs, a bright ring between the two."""
    period = rng.uniform(2.3, 3.1)
    x = np.abs(_phase(rng, along, period)) * period
    gap = rng.uniform(0.17, 0.24)
    width = rng.uniform(0.24, 0.32)
    mark = _inside(np.abs(x - gap - 0.5 * width), 0.5 * width, 0.05)
    return mark, _inside(x, gap, 0.05)


@_species("Inkblot noodle", "Fictophis atramenti", "unknown", "tan", "brown")
def _blotches(rng: Generator, along: Field, around: Field) -> tuple[Field, Field]:
    """Round blotches on the spine, well apart, with small ones on the flanks between."""
    period = rng.uniform(1.7, 2.2)
    x = _phase(rng, along, period) * period
    radius = np.hypot(x / rng.uniform(0.42, 0.52), around / rng.uniform(0.5, 0.6))
    across = (np.abs(around) - 0.78) / 0.22
    side = np.hypot((np.abs(x) - 0.5 * period) / 0.26, across)
    mark = np.maximum(_inside(radius, 1.0, 0.12), _inside(side, 1.0, 0.2))
    return mark, _none(mark)


@_species("Argyle noodle", "Fictophis rhombicus", "yes", "slate", "cream")
def _diamonds(rng: Generator, along: Field, around: Field) -> tuple[Field, Field]:
    """A chain of pointed diamonds that touch, with bright borders."""
    period = rng.uniform(1.4, 1.9)
    x = np.abs(_phase(rng, along, period))
    reach = x / 0.5 + np.abs(around) / rng.uniform(0.72, 0.88)
    inner = _inside(reach, 0.7, 0.07)
    border = _inside(reach, 1.0, 0.07) - inner
    return inner, np.maximum(border, 0.0)


@_species("Pinstripe noodle", "Fictophis sartor", "no", "black", "cream")
def _stripes(rng: Generator, along: Field, around: Field) -> tuple[Field, Field]:
    """Lines from head to tail: one on the spine or two beside it, and the flanks."""
    width = rng.uniform(0.1, 0.15)
    centre = 0.0 if rng.random() < 0.5 else rng.uniform(0.22, 0.3)
    flank = centre + rng.uniform(0.48, 0.58)
    inner = _inside(np.abs(np.abs(around) - centre), width, 0.04)
    outer = _inside(np.abs(np.abs(around) - flank), width * 0.9, 0.04)
    mark = np.maximum(inner, outer)
    return mark, _none(mark)


@_species("Seismograph noodle", "Fictophis tremulus", "yes", "cream", "russet")
def _zigzag(rng: Generator, along: Field, around: Field) -> tuple[Field, Field]:
    """One unbroken zigzag along the spine."""
    period = rng.uniform(1.3, 1.8)
    triangle = 4.0 * np.abs(_phase(rng, along, period)) - 1.0
    distance = np.abs(around - rng.uniform(0.38, 0.5) * triangle)
    mark = _inside(distance, rng.uniform(0.2, 0.27), 0.06)
    return mark, _none(mark)


@_species("Pepperpot noodle", "Fictophis piperis", "no", "green", "black")
def _speckles(rng: Generator, along: Field, around: Field) -> tuple[Field, Field]:
    """Small dots strewn at random over the whole skin."""
    density = rng.uniform(3.0, 3.8)
    rows, columns = 256, 8
    u = along * density
    v = (around + 1.0) * 0.5 * columns * 0.8
    i = np.clip(u.astype(np.int32), 0, rows - 1)
    j = np.clip(v.astype(np.int32), 0, columns - 1)
    centre = rng.uniform(0.3, 0.7, (2, rows, columns)).astype(np.float32)
    radius = rng.uniform(0.2, 0.38, (rows, columns)).astype(np.float32)
    radius *= rng.random((rows, columns)) < rng.uniform(0.55, 0.8)
    distance = np.hypot(u - i - centre[0][i, j], v - j - centre[1][i, j])
    mark = _inside(distance, radius[i, j] - 0.04, 0.08)
    return mark, _none(mark)


@_species("Blank-page noodle", "Fictophis tacitus", "unknown", "olive", "olive")
def _plain(rng: Generator, along: Field, around: Field) -> tuple[Field, Field]:
    """No marks; at most the flanks are of another shade."""
    flank = smoothstep(0.5, 1.0, np.abs(around)) * rng.uniform(0.0, 0.5)
    return flank, _none(flank)


SPECIES: tuple[Species, ...] = tuple(sorted(_registry, key=lambda s: s.label.name))
LABELS: tuple[Label, ...] = tuple(species.label for species in SPECIES)
