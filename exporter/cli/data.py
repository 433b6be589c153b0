"""Commands that look at a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.roof import app


@app.command()
def data_report(
    data: Annotated[
        list[Path],
        typer.Argument(help="A folder a class, a table (.csv), COCO (.json); several are one."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report; default: PATH-data-report.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images-root", help="Folder of a table's or COCO file's images."),
    ] = None,
    class_map: Annotated[
        Path | None, typer.Option("--class-map", help="CSV 'from,to' or JSON: rename, join, drop.")
    ] = None,
    most_broken: Annotated[
        float, typer.Option("--most-broken", help="Share of images that may be broken.")
    ] = 0.05,
    near_bits: Annotated[
        int, typer.Option("--near-bits", help="Near copies: bits of 64 that differ; -1: off.")
    ] = 6,
) -> None:
    """Say what is in DATA before training: counts, broken images, copies, wrong labels."""
    from exporter.data_report import command

    raise typer.Exit(command.data_report(data, out, images, class_map, most_broken, near_bits))
