"""Commands that look at a bundle: prove it, time it, show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.options import BundleDir, Delegate, GateFlag, Images, Report, Threads, words
from exporter.cli.roof import app
from models.errors import UserError


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
def quantize_report(
    bundle: BundleDir,
    images: Images = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most so many images.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the page and the JSON; default: beside BUNDLE."),
    ] = None,
    key: Annotated[
        str, typer.Option("--format", help="tflite-int8 or tflite-mixed.")
    ] = "tflite-int8",
) -> None:
    """Say where BUNDLE's int8 file loses: layer by layer, range by range, image by image."""
    from exporter.diagnose import command

    raise typer.Exit(command.quantize_report(bundle, images, limit, out, key))


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
            formats=list(words(formats)) if formats else None,
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
def doctor() -> None:
    """List the versions and runtimes that are here, and what is missing."""
    from exporter.pipeline import reports

    reports.doctor()
