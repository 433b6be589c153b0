"""`exporter bench --adb`: a bundle's .tflite files on an attached Android device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter import bundle
from exporter.bundle import Bundle
from exporter.pipeline.reports import require_writable, write_result
from exporter.prove import devices, outputs
from exporter.prove.adb import answers, client, states, tool
from exporter.prove.adb.answers import Replayed
from exporter.prove.adb.bench import DeviceBench, DeviceSettings, Workplace, measure, workplace
from exporter.prove.outputs import wording
from exporter.prove.results import ArtifactResult
from models.errors import UserError

UNTESTED = (
    "this path was tested against a fake adb only, never yet on a device: "
    "hold the first figures against the tool's own output"
)
_JSON_SCHEMA = 1


def bench_adb(
    folder: Path,
    benchmark_tool: Path | None,
    *,
    serial: str | None = None,
    formats: Sequence[str] | None = None,
    settings: DeviceSettings | None = None,
    file: Path | None = None,
    console: Console | None = None,
) -> DeviceBench:
    """Measure a bundle's .tflite files on a device, and replay the golden images there.

    The answers and times are kept beside the bundle (`<bundle>.devices/`), where
    `exporter parity` finds them.

    Args:
        folder: the bundle.
        benchmark_tool: LiteRT's `benchmark_model`, built for the device.
        serial: which device, where several are attached.
        formats: keys of .tflite formats; all that the bundle holds by default.
        settings: threads, delegate, runs, pauses.
        file: JSON goes there too.

    Raises:
        UserError: no bundle, no tool, no usable device, a tool that fails on every
            file or prints what is not understood.
    """
    opened, settings = bundle.open_bundle(folder), settings or DeviceSettings()
    keys = _chosen(opened, formats)
    require_writable(file)
    if benchmark_tool is None:
        raise UserError(
            "No benchmark tool was named.",
            "--adb runs LiteRT's public benchmark_model on the device",
            f"download it for Android from {tool.WHERE} and give --benchmark-tool PATH",
        )
    console = console or Console()
    adb = client.find_adb()
    device = client.Device(adb, client.choose(client.attached(adb), serial))
    about = states.about(device)
    tool.check_tool(benchmark_tool, about.abis)
    console.print(f"{about.title}: {states.state(device)}", markup=False, highlight=False)
    place, measured, replayed = _on_device(
        device, about, benchmark_tool, opened, keys, settings, console
    )
    result = answers.result(opened, about, measured, replayed)
    _show(console, opened, measured, replayed, result)
    if place.left is not None:
        console.print(f"left on the device: {place.folder} ({place.left})", markup=False)
    if file is not None:
        write_result(file, json.dumps(to_json(measured, replayed), indent=1) + "\n", console)
    if result is not None:
        console.print(f"Kept {devices.store(opened, result)}", markup=False, highlight=False)
    return measured


def _on_device(
    device: client.Device,
    about: states.About,
    program: Path,
    opened: Bundle,
    keys: Sequence[str],
    settings: DeviceSettings,
    console: Console,
) -> tuple[Workplace, DeviceBench, dict[str, Replayed]]:
    """Files over, golden images, rounds; nothing stays on the device."""
    with (
        workplace(device, program) as place,
        console.status("on the device", spinner="line") as status,
    ):
        graphs = {key: place.path(f"{key}.tflite") for key in keys}
        for key, graph in graphs.items():
            device.push(opened.path(key), graph)
        status.update("golden images")
        replayed = answers.replay(place, opened, graphs, settings)
        status.update(f"{settings.rounds} rounds of {len(keys)} files")
        measured = measure(place, about, graphs, settings)
    return place, measured, replayed


def to_json(measured: DeviceBench, replayed: Mapping[str, Replayed]) -> dict[str, Any]:
    """Everything that was measured, turn by turn."""
    return {
        "schema": _JSON_SCHEMA,
        "tested": UNTESTED,
        "device": {**asdict(measured.about), "title": measured.about.title},
        "settings": asdict(measured.settings),
        "latency": asdict(measured.latency()),
        "turns": [asdict(turn) for turn in measured.turns],
        "paused_s": measured.paused_s,
        "notes": list(measured.notes),
        "answers": {
            key: {
                "images": {name: list(map(float, p)) for name, p in one.answers.items()},
                "failure": one.failure,
                "not_run": one.not_run,
            }
            for key, one in replayed.items()
        },
    }


def _chosen(opened: Bundle, formats: Sequence[str] | None) -> list[str]:
    held = [row.key for row in opened.formats() if row.path.endswith(".tflite")]
    wrong = [key for key in formats or () if key not in held]
    if wrong or not held:
        raise UserError(
            f"{opened.root} has no .tflite file {', '.join(wrong)}".rstrip() + ".",
            f"it has: {', '.join(held) or 'none at all'}",
            "name some of these with --formats" if held else "export with --formats tflite-int8",
        )
    return [key for key in held if not formats or key in formats]


def _show(
    console: Console,
    opened: Bundle,
    measured: DeviceBench,
    replayed: Mapping[str, Replayed],
    result: devices.DeviceResult | None,
) -> None:
    console.print(outputs.latency_table(measured.latency(), note=False))
    console.print(_turns(measured))
    rows = devices.rows(opened, result) if result is not None else ()
    if result is not None:
        console.print(Text("\ngolden images, against the model's recorded answers"))
        console.print(_answers(opened, rows, result))
    for key, one in replayed.items():
        if one.not_run:
            console.print(Text(f"golden images not run: {key}: {one.not_run}", "yellow"))
    for row in rows:
        if row.status != "passed":
            why = row.reason or "; ".join(wording.gate(c) for c in row.gates if not c.passed)
            console.print(Text(f"{row.key}: {row.status}: {why}", "red"))
    paused = f"paused {measured.paused_s:g} s for heat" if measured.paused_s else "no pause"
    console.print(Text(f"note: {paused}", "dim"))
    for note in (*measured.notes, UNTESTED):
        console.print(Text(f"note: {note}", "dim"))


def _turns(measured: DeviceBench) -> Table:
    """What the tool says beyond the times, and the device's state, a row a file."""
    grid = _grid("file", "start-up", "medians of turns", "memory", "heat before", "heat after")
    for key in measured.keys:
        turns = [turn for turn in measured.turns if turn.key == key]
        medians = sorted(turn.run.median_us / 1e3 for turn in turns)
        memory = [t.run.memory_mb for t in turns if t.run.memory_mb is not None]
        grid.add_row(
            key,
            f"{min(turn.run.init_us for turn in turns) / 1e3:.1f} ms",
            f"{medians[0]:.2f}..{medians[-1]:.2f} ms",
            f"{max(memory):.1f} MB" if memory else wording.NONE,
            _heat([turn.before for turn in turns]),
            _heat([turn.after for turn in turns]),
        )
    return grid


def _heat(found: Sequence[states.State]) -> str:
    degrees = [state.battery_c for state in found if state.battery_c is not None]
    words = ", ".join(dict.fromkeys(state.heat for state in found))
    return f"{words}, {max(degrees):.1f} °C" if degrees else words


def _answers(opened: Bundle, rows: Sequence[ArtifactResult], result: devices.DeviceResult) -> Table:
    grid = _grid("file", "status", "images", "max Δp", "same", "as on this export's machine")
    sent = {artifact.key: artifact for artifact in result.artifacts}
    for row in rows:
        exact = devices.exact(opened, sent[row.key])
        grid.add_row(
            row.key,
            row.status,
            str(row.images),
            wording.difference(row.max_probability_difference),
            wording.percent(row.top1_agreement),
            f"{exact} of {len(sent[row.key].answers)} to the bit",
        )
    return grid


def _grid(*columns: str) -> Table:
    grid = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in columns:
        grid.add_column(name, overflow="fold")
    return grid
