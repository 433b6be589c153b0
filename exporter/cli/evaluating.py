"""The command that measures a model or a finished file on labelled photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.roof import app
from models.errors import UserError


@app.command()
def evaluate(
    model: Annotated[
        Path, typer.Argument(help="A checkpoint, a run's folder, a bundle, or one exported file.")
    ],
    data: Annotated[
        Path,
        typer.Option("--data", help="Labelled images: one folder a class, a CSV, or COCO's JSON."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write; default: MODEL-evaluation beside it."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Where the files of a CSV or of COCO lie.")
    ] = None,
    class_map: Annotated[
        Path | None,
        typer.Option("--class-map", help="CSV or JSON: the data's class to the model's."),
    ] = None,
    contract: Annotated[
        Path | None, typer.Option("--contract", help="contract.json of a file without one.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most so many images.")] = None,
    evaluated: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many for evaluated (Core ML) and emulated files."),
    ] = None,
    most_missed: Annotated[
        float | None,
        typer.Option(
            "--most-missed",
            help="Find the threshold at which at most this share of venomous is called harmless.",
        ),
    ] = None,
    fit_temperature: Annotated[
        bool,
        typer.Option("--fit-temperature", help="Fit the checkpoint's temperature and store it."),
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="--fit-temperature: write a new checkpoint, keep the old one."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads of every runtime.")
    ] = None,
) -> None:
    """How good MODEL is: accuracy, F1, calibration, and what venomous species are called."""
    from exporter.evaluate.command import EvaluateRequest
    from exporter.evaluate.command import evaluate as run
    from exporter.evaluate.command import fit_temperature as fit

    request = EvaluateRequest(
        model, data, images=images, class_map=class_map, contract=contract, out=out,
        limit=limit, evaluated=evaluated, most_missed=most_missed, threads=threads,
    )  # fmt: skip
    if not fit_temperature:
        if to is not None:
            raise UserError("--to was given without --fit-temperature.", "", "add it")
        run(request)
        return
    other = {"--out": out, "--most-missed": most_missed, "--evaluated": evaluated}
    given = [flag for flag, value in other.items() if value is not None]
    if given:
        raise UserError(
            f"{', '.join(given)} was given with --fit-temperature.",
            "it writes a checkpoint and measures nothing else",
            "evaluate the new checkpoint in a second command",
        )
    fit(request, to)
