"""The roof: every command, its flags and how its errors look.

Only typer and rich are imported here; each command imports what it needs itself,
so that `exporter --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models.errors import UserError

app = typer.Typer(
    name="exporter",
    help="From a trained image classifier to files for a phone, each proven against the model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_errors = Console(stderr=True, highlight=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        from exporter import __version__

        typer.echo(f"exporter {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show it and stop."),
    ] = False,
) -> None:
    """From a trained image classifier to files for a phone, each proven against the model."""


class Quantizer(StrEnum):
    """How much work goes into the int8 file."""

    default = "default"
    fast = "fast"


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


def main() -> None:
    """Entry point: user errors become two or three plain lines and exit code 2."""
    try:
        app()
    except UserError as error:
        _errors.print(f"[bold red]Error:[/] {_plain(error.what)}", soft_wrap=True)
        if error.why:
            _errors.print(f"  [bold]Why:[/] {_plain(error.why)}", soft_wrap=True)
        if error.mend:
            _errors.print(f"  [bold]To mend it:[/] {_plain(error.mend)}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _errors.print("Interrupted; nothing was left half written.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


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
            "--formats", help="E.g. onnx,tflite-int8,coreml,mlmodel; default: all possible."
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
    resize: Annotated[
        int | None,
        typer.Option("--resize", help="Resize the shorter side to this before the crop."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Below this probability: 'not sure'.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's name in the files.")
    ] = None,
    quantizer: Annotated[
        Quantizer,
        typer.Option("--quantizer", help="int8: 'fast' takes ranges only, seconds less."),
    ] = Quantizer.default,
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
    from exporter.pipeline.request import ExportRequest

    store = None if no_cache else cache or out.resolve().parent / ".exporter-cache"
    options = {"width_mult": width, "input_size": input_size}
    request = ExportRequest(
        model=model,
        out=out,
        formats=tuple(f.strip() for f in formats.split(",") if f.strip()) if formats else None,
        architecture=arch,
        labels=labels,
        contract=contract,
        calibration=calibration,
        calibration_limit=calibration_limit,
        images=images,
        images_limit=images_limit,
        options={key: value for key, value in options.items() if value is not None},
        resize_shorter_side=resize,
        threshold=threshold,
        name=name,
        force=force,
        cache=store,
        threads=threads,
        latency_runs=(50 if images or calibration else 0) if runs is None else runs,
        evaluated_limit=evaluated,
        gates=tuple(gate or ()),
        quantizer="fast" if quantizer is Quantizer.fast else "default",
    )
    if dry_run:
        summary.show_plan(request)
        return
    raise typer.Exit(summary.run_and_show(request))


@app.command()
def parity(
    bundle: BundleDir,
    images: Images = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most so many images.")] = None,
    evaluated: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many for evaluated (Core ML) and emulated files."),
    ] = None,
    runtime: Annotated[
        list[str] | None, typer.Option("--runtime", help="Only these runtimes; 'all' for all.")
    ] = None,
    gate: GateFlag = None,
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=0, help="Timed runs per artifact; 0: none.")] = 50,
    junit: Report = None,
    markdown: Report = None,
    json: Report = None,
) -> None:
    """Prove every file of BUNDLE against its model; exit code 1 when a gate fails."""
    from exporter.pipeline import reports

    report = reports.parity(
        bundle, images, limit=limit, evaluated_limit=evaluated, runtimes=tuple(runtime or ()),
        gates=tuple(gate or ()), threads=threads, runs=runs,
        files={"junit": junit, "markdown": markdown, "json": json},
    )  # fmt: skip
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def verify(bundle: BundleDir) -> None:
    """Check BUNDLE: checksums, labels, types and operators of every file."""
    from exporter.pipeline import reports

    raise typer.Exit(reports.verify(bundle))


@app.command()
def bench(
    bundle: BundleDir,
    images: Images = None,
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=50, help="Timed runs per artifact.")] = 100,
    json: Report = None,
    adb: Annotated[
        bool, typer.Option("--adb", help="On an attached Android device, .tflite files only.")
    ] = False,
    benchmark_tool: Annotated[
        Path | None, typer.Option("--benchmark-tool", help="--adb: LiteRT's benchmark_model.")
    ] = None,
    serial: Annotated[
        str | None, typer.Option("--serial", help="--adb: which device, where there are several.")
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--formats", help="--adb: e.g. tflite-int8; default: all.")
    ] = None,
    delegate: Annotated[
        Delegate | None,
        typer.Option("--delegate", help="--adb: who runs the graph; default: xnnpack."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", min=1, help="--adb: turns of each file's runs; default: 5."),
    ] = None,
    pause_limit: Annotated[
        float | None,
        typer.Option("--pause-limit", min=0, help="--adb: seconds to cool down; default: 300."),
    ] = None,
) -> None:
    """Measure the latency of every file of BUNDLE, interleaved, against the model's."""
    if adb:
        from exporter.pipeline.device_bench import bench_adb
        from exporter.prove.adb.bench import DeviceSettings

        if images is not None:
            raise UserError("--images was given with --adb.", "golden images run there", "omit it")
        bench_adb(
            bundle, benchmark_tool, serial=serial,
            formats=[f.strip() for f in formats.split(",") if f.strip()] if formats else None,
            settings=DeviceSettings(
                threads=threads, delegate=(delegate or Delegate.xnnpack).value, runs=runs,
                rounds=5 if rounds is None else rounds,
                pause_limit_s=300 if pause_limit is None else pause_limit,
            ),
            file=json,
        )  # fmt: skip
        return
    only = {
        "--benchmark-tool": benchmark_tool, "--serial": serial, "--formats": formats,
        "--delegate": delegate, "--rounds": rounds, "--pause-limit": pause_limit,
    }  # fmt: skip
    given = [flag for flag, value in only.items() if value is not None]
    if given:
        raise UserError(f"{', '.join(given)} was given without --adb.", "", "add --adb")
    from exporter.pipeline import reports

    reports.bench(bundle, images, threads=threads, runs=runs, file=json)


@app.command()
def serve(
    bundle: BundleDir,
    host: Annotated[
        str, typer.Option("--host", help="0.0.0.0 lets phones on the same network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8765,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="PEM file, for https.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its private key, PEM.")] = None,
) -> None:
    """A page that runs BUNDLE's .tflite files in a browser or a phone's, and proves them there."""
    from exporter.serve import command

    command.serve(bundle, host, port, open_browser, certificate, key)


@app.command()
def android(
    bundle: BundleDir,
    to: Annotated[Path, typer.Option("--app", help="The app's project, or its module.")] = Path(
        "android_demo"
    ),
    key: Annotated[
        str, typer.Option("--format", help="tflite-int8, tflite-float16 or tflite-float32.")
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


@app.command()
def doctor() -> None:
    """List the versions and runtimes that are here, and what is missing."""
    from exporter.pipeline import reports

    reports.doctor()


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", help="The folder of the run: runs/NAME.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Photographs, one folder a class.")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Train on the built-in drawn snakes.")
    ] = False,
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Validation images; else a split of --data.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Images to measure the result on.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="JSON with attributes; names as the folders.")
    ] = None,
    arch: Annotated[str, typer.Option("--arch")] = "mobilenet_v2",
    weights: Annotated[
        str, typer.Option("--weights", help="FILE, 'imagenet' (downloads) or 'none'.")
    ] = "none",
    width: Annotated[float | None, typer.Option("--width", help="Width multiplier.")] = None,
    input_size: Annotated[int | None, typer.Option("--input-size", help="In pixels.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=2)] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Peak of the one-cycle schedule.")
    ] = None,
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run at --out stopped.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run at --out.")] = False,
) -> None:
    """Fine-tune a classifier on a folder of photographs, one folder a class."""
    from exporter.pipeline import training

    training.train(
        out=out, data=data, synthetic=synthetic, validation=validation, test=test, labels=labels,
        arch=arch, weights=weights, width=width, input_size=input_size, epochs=epochs,
        batch_size=batch_size, learning_rate=learning_rate, seed=seed, resume=resume, force=force,
    )  # fmt: skip


if __name__ == "__main__":
    main()
