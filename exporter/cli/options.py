"""Flags that several commands take, and the words that a flag may be."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
Seed = Annotated[int, typer.Option("--seed", help="Reproduces the run on the same machine.")]
GateFlag = Annotated[
    list[str] | None,
    typer.Option("--gate", help="Move a gate, e.g. int8.min_agreement=0.9 or =off."),
]
Report = Annotated[Path | None, typer.Option(help="Write the result to this file too.")]


def words(text: str) -> tuple[str, ...]:
    """'a, b' to ('a', 'b')."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
