"""The golden images on the device: the same tool runs them and saves what came out."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exporter.bundle import BY_KEY, GOLDEN, Bundle
from exporter.prove import devices, golden
from exporter.prove.adb import tool
from exporter.prove.adb.bench import DeviceBench, DeviceSettings, Workplace
from exporter.prove.adb.states import About
from exporter.prove.imageset import square_pixels
from exporter.prove.results import LatencyResult
from exporter.prove.runtimes.base import Probabilities

_OUTPUT = "output.bin"
_NO_OUTPUT = "this benchmark tool cannot save outputs (--output_filepath); newer ones can"


@dataclass
class Replayed:
    """One file's answers.

    Attributes:
        answers: golden image name to probabilities, float32 `[classes]`.
        failure: why there are none or not all; the file itself is at fault.
        not_run: why nothing could be asked; the tool or the bundle is.
    """

    answers: dict[str, Probabilities] = field(default_factory=dict)
    failure: str = ""
    not_run: str = ""


def replay(
    place: Workplace, bundle: Bundle, graphs: Mapping[str, str], settings: DeviceSettings
) -> dict[str, Replayed]:
    """Run every golden image through every file on the device.

    Args:
        graphs: format key to the file's path on the device.

    Raises:
        AdbError: the device went away.
    """
    recorded = golden.load(bundle)
    if recorded is None or not recorded.expected:
        return {key: Replayed(not_run="the bundle has no golden images") for key in graphs}
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "pixels"
        images = {}
        for number, name in enumerate(recorded.expected):
            raw.write_bytes(square_pixels(bundle.root / GOLDEN / name, bundle.contract).tobytes())
            images[name] = place.path(f"{number}.rgb")
            place.device.push(raw, images[name])
        return {
            key: _file(place, bundle, graph, images, settings, Path(scratch) / "output")
            for key, graph in graphs.items()
        }


def _file(
    place: Workplace,
    bundle: Bundle,
    graph: str,
    images: Mapping[str, str],
    settings: DeviceSettings,
    local: Path,
) -> Replayed:
    rule, output, found = bundle.contract.preprocessing, place.path(_OUTPUT), Replayed()
    for name, pixels in images.items():
        place.device.shell("rm", "-f", output)
        flags = tool.answer_flags(
            graph, settings.threads, settings.delegate, (rule.height, rule.width), pixels, output
        )
        answer = place.run(flags, settings.timeout_s)
        if answer.code != 0:
            found.failure = tool.failure(answer.text, answer.code)
            return found
        ignored = {"--output_filepath", "--input_layer_value_files"} & set(
            tool.unknown_flags(answer.text)
        )
        if ignored or place.device.shell("test", "-f", output).code != 0:
            found.not_run = _NO_OUTPUT
            return found
        place.device.pull(output, local)
        values = local.read_bytes()
        if len(values) != 4 * len(bundle.contract.labels):
            found.failure = (
                f"{len(values)} bytes came out for {name}, "
                f"{len(bundle.contract.labels)} float32 probabilities were expected"
            )
            return found
        probabilities = np.frombuffer(values, "<f4").astype(np.float32)
        if not np.isfinite(probabilities).all():
            found.failure = f"NaN or infinity came out for {name}"
            return found
        found.answers[name] = probabilities
    return found


def result(
    bundle: Bundle, about: About, bench: DeviceBench, replayed: Mapping[str, Replayed]
) -> devices.DeviceResult | None:
    """The answers and times as a device's result, which parity tables show.

    Returns:
        None where no file could be asked.
    """
    pixels = {name: "" for one in replayed.values() for name in one.answers}
    for name in pixels:
        image = square_pixels(bundle.root / GOLDEN / name, bundle.contract)
        pixels[name] = hashlib.sha256(image.tobytes()).hexdigest()
    times = {row.key: row for row in bench.latency().results}
    artifacts = [
        _artifact(bundle, key, one, pixels, _times(bench, times[key]) if key in times else None)
        for key, one in replayed.items()
        if not one.not_run
    ]
    if not artifacts:
        return None
    golden = bundle.sha256(f"{GOLDEN}/golden.json")
    ending = f", {bench.settings.delegate} over adb"
    name = f"{about.manufacturer} {about.model}".strip()[: devices.MAX_NAME - len(ending)] + ending
    return devices.parse(
        {
            "schema": devices.SCHEMA,
            "device": {
                "name": name,
                "user_agent": "adb",
                "platform": f"Android {about.android}, {about.soc}, {about.abis[0]}",
                "threads": bench.settings.threads,
            },
            "runtime": "LiteRT benchmark_model",
            "accelerator": bench.settings.delegate,
            **({"golden_sha256": golden} if golden else {}),
            "artifacts": artifacts,
        },
        bundle,
    )


def _artifact(
    bundle: Bundle,
    key: str,
    one: Replayed,
    pixels: Mapping[str, str],
    latency: Mapping[str, float] | None,
) -> dict[str, Any]:
    return {
        "key": key,
        "sha256": bundle.sha256(BY_KEY[key].path) or "unknown",
        "status": "failed" if one.failure else "run",
        "reason": one.failure,
        "images": [
            {
                "file": name,
                "pixels_sha256": pixels[name],
                "probabilities": [float(value) for value in values],
            }
            for name, values in one.answers.items()
        ],
        "latency": latency,
    }


def _times(bench: DeviceBench, row: LatencyResult) -> dict[str, float]:
    return {
        "runs": row.runs,
        "warmup": bench.settings.warmup,
        "median_ms": row.median_ms,
        "p90_ms": row.p90_ms,
        "min_ms": min(run.min_us for run in bench.of(row.key)) / 1e3,
    }
