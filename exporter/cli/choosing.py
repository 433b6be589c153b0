"""The command that compares architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.options import Seed, Threads, words
from exporter.cli.roof import app
from models.errors import UserError


@app.command()
def choose(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Photographs, one folder a class; or with train/ and test/."),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Compare on drawn snakes instead.")
    ] = False,
    archs: Annotated[
        str | None,
        typer.Option(
            "--archs",
            help="Candidates, e.g. resnet18,mobilenet_v2:width_mult=0.35:input_size=96.",
        ),
    ] = None,
    budget_ms: Annotated[
        str | None, typer.Option("--budget-ms", help="The most an image may take here, e.g. 20.")
    ] = None,
    budget_mb: Annotated[
        str | None, typer.Option("--budget-mb", help="The largest file, in 10^6 bytes, e.g. 5.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Passes over the images; default 8.")
    ] = None,
    weights_dir: Annotated[
        Path | None,
        typer.Option("--weights-dir", help="torchvision's weight files by their names."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Images that say which epoch is kept.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Images that judge; else a fifth of --data.")
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option("--formats", help="Default: onnx and tflite-float32, -float16, -int8."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("choose"),
    seed: Seed = 0,
    threads: Threads = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew, whatever lies at --out.")
    ] = False,
) -> None:
    """Say which architecture to take: train, export, prove and measure several alike.

    Interrupted, the same command goes on where it stopped.
    """
    if (data is None) is not synthetic:
        raise UserError(
            "Say what to compare on."
            if data is None
            else "--data and --synthetic exclude each other.",
            "give either --data DIR or --synthetic",
            "--synthetic draws a small set of imaginary snakes",
        )
    from exporter.choose import request as asked
    from exporter.choose.candidates import parse
    from exporter.choose.results import Budget

    budget = Budget(
        asked.parse_budget("--budget-ms", budget_ms, "ms"),
        asked.parse_budget("--budget-mb", budget_mb, "MB"),
    )
    request = asked.ChooseRequest(
        out=out, candidates=parse(archs, drawn=synthetic), data=data, validation=validation,
        test=test, epochs=asked.EPOCHS if epochs is None else epochs, weights_dir=weights_dir,
        formats=words(formats) if formats else asked.FORMATS, budget=budget, seed=seed,
        threads=threads, force=force,
    )  # fmt: skip
    asked.check(request)
    from exporter.choose.run import run_and_show

    raise typer.Exit(run_and_show(request))
