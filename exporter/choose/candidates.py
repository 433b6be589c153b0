"""Which networks are compared, as a person writes them down.

    mobilenet_v2,squeezenet1_1,mobilenet_v2:width_mult=0.35:input_size=96

A comma stands between candidates, a colon before each option of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.pipeline.request import RequestError
from models import zoo

# Small enough for a phone, and of different families; the ends of the scale included.
DEFAULT = (
    "mobilenet_v3_small",
    "mobilenet_v2:width_mult=0.5",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "squeezenet1_1",
    "efficientnet_b0",
    "resnet18",
)
# For the drawn pictures, which are small: minutes from nothing, not hours.
DRAWN = (
    "lenet5",
    "mobilenet_v1:width_mult=0.25:input_size=96",
    "mobilenet_v2:width_mult=0.35:input_size=96",
    "mobilenet_v3_small:input_size=96",
    "squeezenet1_1:input_size=96",
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORM = "write NAME or NAME:OPTION=VALUE:OPTION=VALUE, with commas between candidates"


@dataclass(frozen=True)
class Candidate:
    """One network to try.

    Attributes:
        name: the architecture with the options that are not its defaults, in the order in
            which the zoo lists them; two candidates never share one.
        architecture: as in the zoo.
        options: all of its options, with their values.
    """

    name: str
    architecture: str
    options: Mapping[str, int | float]

    @property
    def slug(self) -> str:
        """Its folder's name, for any file system."""
        return self.name.replace(":", "-").replace("=", "-")

    @property
    def given(self) -> dict[str, int | float]:
        """The options that are not the defaults."""
        listed = zoo.get(self.architecture).options
        return {key: value for key, value in self.options.items() if value != listed[key].default}


def parse(text: str | None, drawn: bool = False) -> tuple[Candidate, ...]:
    """The candidates that a text names; the usual ones of None.

    Args:
        drawn: the usual ones are those for the drawn pictures.

    Raises:
        RequestError: it names none, one twice, or is not of the form above.
        ZooError: an architecture or an option that there is not, or a value out of range.
    """
    usual = DRAWN if drawn else DEFAULT
    parts = usual if text is None else tuple(part.strip() for part in text.split(","))
    if not any(parts):
        raise RequestError("--archs names no architecture.", "", _FORM)
    found: dict[str, Candidate] = {}
    for part in parts:
        candidate = _candidate(part)
        if candidate.name in found:
            raise RequestError(
                f"--archs names {candidate.name} twice.",
                "the same network would be trained and measured twice",
                "leave one of them away, or give it another option",
            )
        found[candidate.name] = candidate
    return tuple(found.values())


def _candidate(part: str) -> Candidate:
    architecture, *settings = (word.strip() for word in part.split(":"))
    if "=" in architecture:
        raise RequestError(
            f"--archs: '{part}' names no architecture.",
            "a comma ends a candidate",
            f"put a colon before each option: NAME:{part}",
        )
    if not architecture:
        raise RequestError("--archs has an empty place.", "two commas follow each other", _FORM)
    entry = zoo.get(architecture)
    given: dict[str, int | float] = {}
    for setting in settings:
        key, equals, value = (word.strip() for word in setting.partition("="))
        if not equals or not key or _NUMBER.fullmatch(value) is None:
            raise RequestError(
                f"--archs: '{setting}' of {architecture} is not OPTION=VALUE.",
                f"its options are {', '.join(entry.options)}; each is a number",
                _FORM,
            )
        if key in given:
            raise RequestError(f"--archs: {architecture} has {key} twice.", "", "give it once")
        given[key] = int(value) if re.fullmatch(r"[+-]?\d+", value) else float(value)
    return named(architecture, given)


def named(architecture: str, given: Mapping[str, int | float] | None = None) -> Candidate:
    """A candidate of an architecture and some of its options.

    Raises:
        ZooError: an architecture or an option that there is not, or a value out of range.
    """
    entry = zoo.get(architecture)
    options = entry.settle(given)
    changed = [
        f"{key}={value:g}" for key, value in options.items() if value != entry.options[key].default
    ]
    return Candidate(":".join([architecture, *changed]), architecture, options)


def sizes(candidates: Iterable[Candidate]) -> tuple[int, ...]:
    """The input sizes among them, in pixels, each once."""
    return tuple(sorted({int(each.options["input_size"]) for each in candidates}))
