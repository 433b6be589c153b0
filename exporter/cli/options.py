"""Flags that several commands take, and the words that a flag may be."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from models.errors import UserError


class Quantizer(StrEnum):
    """How much work goes into the int8 file."""

    default = "default"
    fast = "fast"
    distill = "distill"


class Fetchable(StrEnum):
    """Runtimes that are no Python packages."""

    arm64 = "arm64"
    browser = "browser"


class Delegate(StrEnum):
    """Who runs the graph on an Android device."""

    xnnpack = "xnnpack"
    gpu = "gpu"
    none = "none"


BundleDir = Annotated[Path, typer.Argument(help="The folder that 'exporter export' wrote.")]
Images = Annotated[
    Path | None,
    typer.Option("--images", help="Images for the proof: flat, or one folder a class."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads of every runtime.")]
Arch = Annotated[
    str | None, typer.Option("--arch", help="Architecture of a bare state_dict: mobilenet_v2.")
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="An option of the architecture; 'exporter zoo NAME' lists them.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Reproduces the run on the same machine.")]
GateFlag = Annotated[
    list[str] | None,
    typer.Option("--gate", help="Move a gate, e.g. int8.min_agreement=0.9 or =off."),
]
Report = Annotated[Path | None, typer.Option(help="Write the result to this file too.")]


def network_options(
    given: list[str] | None, width: float | None, input_size: int | None
) -> dict[str, int | float]:
    """The options of an architecture that --option, --width and --input-size name.

    Raises:
        UserError: not NAME=NUMBER, or one of them twice.
    """
    named = [("width_mult", width), ("input_size", input_size)]
    found: dict[str, int | float] = {name: value for name, value in named if value is not None}
    for text in given or ():
        name, _, value = (part.strip() for part in text.partition("="))
        if name in found:
            raise UserError(f"The option {name} is given twice.", "", "give it once")
        found[name] = _number(text, name, value)
    return found


def _number(text: str, name: str, value: str) -> int | float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not name or not math.isfinite(number):
        raise UserError(
            f"--option {text} cannot be read.",
            "it is a name and a number: NAME=VALUE",
            "write for example --option output_stride=16",
        )
    return int(number) if number == int(number) and "." not in value else number


def words(text: str) -> tuple[str, ...]:
    """'a, b' to ('a', 'b')."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
