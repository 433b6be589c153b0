"""Commands that make something: a model, a bundle, an app's assets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.options import (
    Arch,
    BundleDir,
    Fetchable,
    GateFlag,
    Images,
    Options,
    Quantizer,
    Threads,
    network_options,
    words,
)
from exporter.cli.roof import app


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A checkpoint, a state_dict (.pth) or an .onnx.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("dist"),
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="Photographs for the int8 ranges; about 100 are used."),
    ] = None,
    calibration_limit: Annotated[int, typer.Option(min=1, help="How many of them.")] = 100,
    images: Images = None,
    images_limit: Annotated[int | None, typer.Option(min=1, help="How many of them.")] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats", help="E.g. tflite-int8,coreml or default,tflite-mixed; 'all' for all."
        ),
    ] = None,
    arch: Arch = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="Labels of a state_dict: a file, or 'imagenet'.")
    ] = None,
    contract: Annotated[
        Path | None, typer.Option("--contract", help="contract.json of an ONNX file.")
    ] = None,
    width: Annotated[
        float | None, typer.Option("--width", help="Width multiplier of a state_dict.")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", help="Input size of a state_dict, in pixels.")
    ] = None,
    option: Options = None,
    resize: Annotated[
        int | None,
        typer.Option("--resize", help="Resize the shorter side to this before the crop."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Below this probability: 'not sure'. For several answers: of every class, "
            "where none has its own.",
        ),
    ] = None,
    class_thresholds: Annotated[
        str | None,
        typer.Option(
            "--class-thresholds",
            help="For several answers: a JSON file of names and probabilities, before the "
            "model's own; 'off' leaves --threshold for all.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's name in the files.")
    ] = None,
    quantizer: Annotated[
        Quantizer,
        typer.Option("--quantizer", help="int8: 'fast': ranges only; 'distill': learns, minutes."),
    ] = Quantizer.default,
    int8_budget: Annotated[
        str | None,
        typer.Option(
            "--int8-budget",
            help="Make tflite-mixed too: at most so many times int8's latency, e.g. 1.25x.",
        ),
    ] = None,
    float_layers: Annotated[
        str | None,
        typer.Option(
            "--float-layers",
            help="tflite-mixed's layers in float by name (NAME or NAME:dynamic), not by search.",
        ),
    ] = None,
    allow_few_images: Annotated[
        bool,
        typer.Option("--allow-few-images", help="Calibrate on fewer than 8 all the same."),
    ] = False,
    gate: GateFlag = None,
    threads: Threads = 1,
    runs: Annotated[
        int | None,
        typer.Option(min=0, help="Timed runs per artifact; default 50, none without images."),
    ] = None,
    evaluated: Annotated[
        int, typer.Option(min=1, help="Images for files that are evaluated, not run (Core ML).")
    ] = 8,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder of finished stages.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Make everything anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list, do nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace any folder at --out.")] = False,
) -> None:
    """Make a folder for a phone from MODEL and prove every file in it."""
    from exporter.pipeline import summary
    from exporter.pipeline.request import ExportRequest, formats_with_mixed, parse_budget

    store = None if no_cache else cache or out.resolve().parent / ".exporter-cache"
    request = ExportRequest(
        model=model,
        out=out,
        formats=formats_with_mixed(
            words(formats) if formats else None, bool(int8_budget or float_layers)
        ),
        architecture=arch,
        labels=labels,
        contract=contract,
        calibration=calibration,
        calibration_limit=calibration_limit,
        images=images,
        images_limit=images_limit,
        options=network_options(option, width, input_size),
        resize_shorter_side=resize,
        threshold=threshold,
        class_thresholds=class_thresholds,
        name=name,
        force=force,
        cache=store,
        threads=threads,
        latency_runs=(50 if images or calibration else 0) if runs is None else runs,
        evaluated_limit=evaluated,
        gates=tuple(gate or ()),
        quantizer=quantizer.value,
        int8_budget=parse_budget(int8_budget) if int8_budget else None,
        float_layers=words(float_layers or ""),
        allow_few_images=allow_few_images,
    )
    if dry_run:
        summary.show_plan(request)
        return
    raise typer.Exit(summary.run_and_show(request))


@app.command()
def android(
    bundle: BundleDir,
    to: Annotated[Path, typer.Option("--app", help="The app's project, or its module.")] = Path(
        "android_demo"
    ),
    key: Annotated[
        str, typer.Option("--format", help="Any .tflite format that BUNDLE holds.")
    ] = "tflite-int8",
) -> None:
    """Copy BUNDLE's model, contract and golden images into an Android app's assets."""
    from exporter.pipeline import android as assets

    assets.copy_and_show(bundle, to, key)


@app.command()
def fetch(
    what: Annotated[
        list[Fetchable], typer.Argument(help="'arm64': an emulated phone processor; 'browser'.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Also what is there already.")] = False,
) -> None:
    """Fetch a runtime that is no Python package, once, into your cache."""
    from exporter.pipeline import fetching

    fetching.fetch([item.value for item in what], anew=force)
