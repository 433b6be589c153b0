"""What other devices found: posted to `exporter serve`, kept beside the bundle.

A device sends its own probabilities for the golden images, never a verdict: the
comparison is made here. A result names the files it ran by their sha256, so one that
belongs to an earlier export is told from one that belongs to this.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from exporter.bundle import BY_KEY, Bundle, Precision
from exporter.prove import golden
from exporter.prove.compare import FLOAT32, Comparison
from exporter.prove.gates import GATES, Limits, check, judged
from exporter.prove.results import ArtifactResult, Latency, LatencyResult
from exporter.prove.runtimes.base import Probabilities
from models.errors import UserError

SCHEMA = 1
MAX_NAME = 80
MAX_TEXT = 400
MAX_RESULTS = 200  # a folder, not a data base
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_UNUSABLE = "The device's result cannot be used: "
_KNOWN = (
    "name",
    "user_agent",
    "platform",
    "cores",
    "memory_gb",
    "threads",
    "cross_origin_isolated",
)


class DeviceError(UserError):
    """A device's result that cannot be used."""


@dataclass(frozen=True)
class Timing:
    """What a device measured of one file: milliseconds, batch 1."""

    runs: int
    warmup: int
    median_ms: float
    p90_ms: float
    min_ms: float


@dataclass(frozen=True, eq=False)
class DeviceArtifact:
    """One file as a device ran it.

    Attributes:
        sha256: of the file that ran there.
        answers: golden image name to probabilities, float32 `[classes]`.
        pixels: golden image name to the sha256 of the pixels the device decoded.
    """

    key: str
    sha256: str
    status: Literal["run", "failed"]
    reason: str
    answers: Mapping[str, Probabilities]
    pixels: Mapping[str, str]
    timing: Timing | None


@dataclass(frozen=True, eq=False)
class DeviceResult:
    """Everything one device sent.

    Attributes:
        name: what the person called the device.
        about: the rest of what it said of itself, as text by field.
        received: when it came in, ISO 8601 in UTC.
    """

    name: str
    about: Mapping[str, str]
    threads: int
    runtime: str
    accelerator: str
    received: str
    artifacts: tuple[DeviceArtifact, ...]
    raw: Mapping[str, Any]


def folder_of(root: Path) -> Path:
    """Where results for the bundle `root` lie: beside it, so that an export keeps them."""
    resolved = Path(root).resolve()
    return resolved.with_name(resolved.name + ".devices")


def parse(data: Any, bundle: Bundle) -> DeviceResult:
    """Check what a device sent.

    Args:
        data: parsed JSON, of any shape.

    Raises:
        DeviceError: it is not a result for this bundle's contract and golden images.
    """
    root = _object(data, "the result")
    if root.get("schema") != SCHEMA:
        raise _bad("schema", root.get("schema"), f"this exporter reads {SCHEMA}")
    device = _object(root.get("device"), "device")
    name = _text(device, "name", MAX_NAME)
    entries = root.get("artifacts")
    if not isinstance(entries, list) or not 1 <= len(entries) <= len(BY_KEY):
        raise _bad("artifacts", type(entries).__name__, "it is a list of the files that ran")
    recorded = golden.load(bundle)
    known = recorded.expected if recorded is not None else {}
    artifacts = tuple(_artifact(_object(entry, "artifacts[]"), bundle, known) for entry in entries)
    if len({artifact.key for artifact in artifacts}) < len(artifacts):
        raise _bad("artifacts", "one key twice", "each file has one entry")
    received = root.get("received")
    return DeviceResult(
        name=name,
        about={key: _plain(str(device[key]))[:MAX_TEXT] for key in _KNOWN[1:] if key in device},
        threads=_integer(device, "threads", 1, 1024),
        runtime=_text(root, "runtime", MAX_NAME),
        accelerator=_text(root, "accelerator", MAX_NAME),
        received=_plain(received)[:40] if isinstance(received, str) else "",
        artifacts=artifacts,
        raw=root,
    )


def store(bundle: Bundle, result: DeviceResult) -> Path:
    """Keep a result beside the bundle.

    Returns:
        The file written, `<bundle>.devices/<time>-<device>-<random>.json`.

    Raises:
        DeviceError: it cannot be written, or there are `MAX_RESULTS` already.
    """
    folder = folder_of(bundle.root)
    now = datetime.now(UTC)
    slug = re.sub(r"[^a-z0-9]+", "-", result.name.lower()).strip("-")[:40] or "device"
    path = folder / f"{now:%Y%m%dT%H%M%SZ}-{slug}-{secrets.token_hex(4)}.json"
    device = {key: result.raw["device"][key] for key in _KNOWN if key in result.raw["device"]}
    kept = {
        "schema": SCHEMA,
        "received": now.isoformat(timespec="seconds"),
        "device": {**device, "name": result.name},
        **{key: result.raw[key] for key in ("runtime", "accelerator", "artifacts")},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if sum(1 for _ in folder.glob("*.json")) >= MAX_RESULTS:
            raise DeviceError(
                f"{folder} holds {MAX_RESULTS} results already.", "", "remove some of them"
            )
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(kept) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise DeviceError(
            f"{path} cannot be written.", error.strerror or str(error), "make room, or the folder"
        ) from error
    return path


def load(
    bundle: Bundle, complain: Callable[[DeviceError], None] | None = None
) -> tuple[DeviceResult, ...]:
    """The newest result of each device name, oldest first.

    Args:
        complain: told about every file beside the bundle that is left out, because it is
            damaged or was sent for an export with other labels, files or golden images.

    Raises:
        DeviceError: there is such a file and `complain` is None; it is named.
    """
    newest: dict[str, DeviceResult] = {}
    for path in sorted(folder_of(bundle.root).glob("*.json")):
        try:
            result = _read(path, bundle)
        except DeviceError as error:
            if complain is None:
                raise
            complain(error)
            continue
        newest.pop(result.name, None)
        newest[result.name] = result
    return tuple(newest.values())


def _read(path: Path, bundle: Bundle) -> DeviceResult:
    """A stored result.

    Raises:
        DeviceError: it cannot be read, or is no result for this bundle.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")), bundle)
    except (OSError, ValueError, RecursionError) as error:
        raise DeviceError(f"{path} cannot be read.", str(error), "remove it") from error
    except DeviceError as error:
        why = f"{error.what.removeprefix(_UNUSABLE)} {error.why}"
        raise DeviceError(f"{path} does not fit this bundle.", why, "remove it") from error


def rows(
    bundle: Bundle, result: DeviceResult, gates: Mapping[Precision, Limits] | None = None
) -> tuple[ArtifactResult, ...]:
    """What a result comes to: each file against the reference's recorded answers.

    Args:
        result: parsed for this very bundle.

    Raises:
        UserError: golden.json is damaged.
    """
    recorded = golden.load(bundle) or golden.Recorded({})
    limits = gates or GATES
    return tuple(_row(bundle, result, entry, recorded, limits) for entry in result.artifacts)


def exact(bundle: Bundle, artifact: DeviceArtifact) -> int:
    """How many golden images a device answered as the export's machine did, to the last bit."""
    recorded = golden.load(bundle)
    if recorded is None:
        return 0
    return sum(
        recorded.replay(name, artifact.key, found).exact for name, found in artifact.answers.items()
    )


def latency(result: DeviceResult, keys: Container[str] | None = None) -> Latency | None:
    """A result's timings as a table; ratios to its float32 file, else to its first.

    Args:
        keys: of these files only; None for all.
    """
    timed = [
        (entry.key, entry.timing)
        for entry in result.artifacts
        if entry.timing is not None and (keys is None or entry.key in keys)
    ]
    if not timed:
        return None
    base = next((pair for pair in timed if BY_KEY[pair[0]].precision == "float32"), timed[0])
    return Latency(
        device=f"{result.name} (reported by the device)",
        threads=result.threads,
        warmup=max(timing.warmup for _, timing in timed),
        results=tuple(
            LatencyResult(
                key, result.runtime, timing.runs, timing.median_ms, timing.p90_ms,
                timing.median_ms / base[1].median_ms,
            )
            for key, timing in timed
        ),
        relative_to=base[0],
    )  # fmt: skip


def _row(
    bundle: Bundle,
    result: DeviceResult,
    entry: DeviceArtifact,
    recorded: golden.Recorded,
    limits: Mapping[Precision, Limits],
) -> ArtifactResult:
    row = BY_KEY[entry.key]
    base = ArtifactResult(
        key=row.key,
        path=row.path,
        precision=row.precision,
        runtime="adb" if result.about.get("user_agent") == "adb" else "browser",
        version=f"{result.runtime}, {result.accelerator}",
        evidence="reported",
        status="not run",
        device=result.name,
    )
    if entry.sha256 != _sha256(bundle, row.path):
        return replace(base, reason="the result is of another export")
    if entry.status == "failed":
        return replace(base, status="failed", reason=entry.reason or "it did not run there")
    comparison = Comparison(bundle.contract.activation, FLOAT32)
    for name, found in entry.answers.items():
        wanted = recorded.expected[name].get(golden.REFERENCE_KEY)
        if wanted is None:
            return replace(base, reason="the reference's answers were not recorded")
        if recorded.pixels.get(name) not in (None, entry.pixels[name]):
            why = f"the device decoded other pixels from {name}"
            return replace(base, status="failed", reason=why)
        comparison.add(f"golden/{name}", wanted, found)
    metrics = comparison.metrics()
    checks = check(metrics, limits[row.precision], bundle.contract.activation)
    return judged(metrics.put_into(base), checks)


def _sha256(bundle: Bundle, path: str) -> str | None:
    files: Sequence[Mapping[str, Any]] = bundle.manifest.get("files", [])
    return next((str(entry["sha256"]) for entry in files if entry.get("path") == path), None)


def _artifact(entry: Mapping[str, Any], bundle: Bundle, known: Container[str]) -> DeviceArtifact:
    key = entry.get("key")
    if not isinstance(key, str) or key not in {row.key for row in bundle.formats()}:
        raise _bad("artifacts[].key", key, "it is none of this bundle's files")
    status = entry.get("status")
    if status not in ("run", "failed"):
        raise _bad("artifacts[].status", status, "it is 'run' or 'failed'")
    images = entry.get("images")
    if (
        not isinstance(images, list)
        or len(images) > golden.COUNT
        or not (images or status == "failed")
    ):
        raise _bad("artifacts[].images", type(images).__name__, "it is a list of golden images")
    answers, pixels = _answers(images, known, len(bundle.contract.labels))
    given = entry.get("latency")
    reason = entry.get("reason")
    return DeviceArtifact(
        key=key,
        sha256=_text(entry, "sha256", 64),
        status=status,
        reason=_plain(reason)[:MAX_TEXT] if isinstance(reason, str) else "",
        answers=answers,
        pixels=pixels,
        timing=None if given is None else _timing(_object(given, "artifacts[].latency")),
    )


def _answers(
    images: list[Any], known: Container[str], classes: int
) -> tuple[dict[str, Probabilities], dict[str, str]]:
    answers: dict[str, Probabilities] = {}
    pixels: dict[str, str] = {}
    for image in images:
        picture = _object(image, "artifacts[].images[]")
        name = picture.get("file")
        if not isinstance(name, str) or name not in known or name in answers:
            raise _bad("artifacts[].images[].file", name, "it is no golden image, or there twice")
        answers[name] = _probabilities(picture.get("probabilities"), classes)
        pixels[name] = _text(picture, "pixels_sha256", 64)
    return answers, pixels


def _probabilities(values: Any, classes: int) -> Probabilities:
    if not isinstance(values, list) or len(values) != classes:
        count = len(values) if isinstance(values, list) else type(values).__name__
        raise _bad("probabilities", count, f"it is a list of {classes} numbers")
    return np.array([_number(value, "probabilities[]") for value in values], np.float32)


def _timing(given: Mapping[str, Any]) -> Timing:
    times = {
        key: _number(given.get(key), f"latency.{key}") for key in ("median_ms", "p90_ms", "min_ms")
    }
    if not 0 < times["min_ms"] <= times["median_ms"] <= times["p90_ms"] < 1e7:
        raise _bad("latency", times, "min, median and p90 are positive and in that order")
    return Timing(_integer(given, "runs", 1, 10**6), _integer(given, "warmup", 0, 10**6), **times)


def _object(data: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise _bad(where, type(data).__name__, "it is a JSON object")
    return data


def _text(section: Mapping[str, Any], key: str, limit: int) -> str:
    value = section.get(key)
    if not isinstance(value, str) or not _plain(value) or len(value) > limit:
        raise _bad(key, value, f"it is a text of 1 to {limit} characters")
    return _plain(value)


def _integer(section: Mapping[str, Any], key: str, least: int, most: int) -> int:
    value = section.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _bad(key, value, f"it is a whole number from {least} to {most}")
    return value


def _number(value: Any, where: str) -> float:
    try:
        usable = not isinstance(value, bool) and isinstance(value, int | float)
        if usable and math.isfinite(value) and abs(value) <= 1e30:
            return float(value)
    except OverflowError:
        pass
    raise _bad(where, value, "it is a finite number")


def _plain(text: str) -> str:
    """One line without control characters or marks that turn the direction of writing."""
    return " ".join(_CONTROL.sub(" ", text).split())


def _bad(where: str, found: Any, why: str) -> DeviceError:
    shown = repr(found)
    return DeviceError(
        f"{_UNUSABLE}{where} is {shown[:80]}.",
        why,
        "load the page again, so that page and bundle belong together",
    )
