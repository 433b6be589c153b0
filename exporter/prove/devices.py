"""What other devices found: posted to `exporter serve`, kept beside the bundle.

A device sends its own probabilities for the golden images, never a verdict: the
comparison is made here. A result names the files it ran by their sha256, so one that
belongs to an earlier export is told from one that belongs to this.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from exporter.bundle import BY_KEY, GOLDEN, Bundle, Precision
from exporter.prove import device_fields as fields
from exporter.prove import golden
from exporter.prove.compare import FLOAT32, Comparison
from exporter.prove.device_fields import DeviceError
from exporter.prove.gates import GATES, Limits, check, judged
from exporter.prove.results import ArtifactResult, Latency, LatencyResult
from exporter.prove.runtimes.base import Probabilities
from exporter.prove.tally import Tally

SCHEMA = 1
MAX_NAME = 80
MAX_TEXT = 400
MAX_RESULTS = 200  # a folder, not a data base
_ABOUT = ("user_agent", "platform", "cores", "memory_gb", "cross_origin_isolated")
_GOLDEN = f"{GOLDEN}/{golden.FILE}"


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
        about: the rest of what it said of itself, by field: texts, numbers, truth values.
        golden: sha256 (hex) of the golden.json it replayed; '' where it did not say.
        received: when it came in, ISO 8601 in UTC; '' until it is stored.
    """

    name: str
    about: Mapping[str, str | float | bool]
    threads: int
    runtime: str
    accelerator: str
    golden: str
    received: str
    artifacts: tuple[DeviceArtifact, ...]


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
    root = fields.object_(data, "the result")
    if root.get("schema") != SCHEMA:
        raise fields.bad("schema", root.get("schema"), f"this exporter reads {SCHEMA}")
    device = fields.object_(root.get("device"), "device")
    name = fields.text(device, "name", MAX_NAME)
    entries = root.get("artifacts")
    if not isinstance(entries, list) or not 1 <= len(entries) <= len(BY_KEY):
        raise fields.bad("artifacts", type(entries).__name__, "it is a list of the files that ran")
    replayed = root.get("golden_sha256")
    if replayed is not None:
        replayed = fields.text(root, "golden_sha256", 64)
    recorded = golden.load(bundle)
    known = recorded.expected if recorded is not None else {}
    fits = replayed in (None, bundle.sha256(_GOLDEN))
    artifacts = tuple(
        _artifact(fields.object_(entry, "artifacts[]"), bundle, known if fits else None)
        for entry in entries
    )
    if len({artifact.key for artifact in artifacts}) < len(artifacts):
        raise fields.bad("artifacts", "one key twice", "each file has one entry")
    received = root.get("received")
    return DeviceResult(
        name=name,
        about=_about(device),
        threads=fields.integer(device, "threads", 1, 1024),
        runtime=fields.text(root, "runtime", MAX_NAME),
        accelerator=fields.text(root, "accelerator", MAX_NAME),
        golden=replayed or "",
        received=fields.plain(received)[:40] if isinstance(received, str) else "",
        artifacts=artifacts,
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
    kept = _document(replace(result, received=now.isoformat(timespec="seconds")))
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if sum(1 for _ in folder.glob("*.json")) >= MAX_RESULTS:
            raise DeviceError(
                f"{folder} holds {MAX_RESULTS} results already.", "", "remove some of them"
            )
        try:
            partial.write_text(json.dumps(kept) + "\n", encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DeviceError(
            f"{path} cannot be written.", error.strerror or str(error), "make room, or the folder"
        ) from error
    return path


def _document(result: DeviceResult) -> dict[str, Any]:
    """A result as JSON: what was understood of it, nothing else that was sent."""
    return {
        "schema": SCHEMA,
        "received": result.received,
        "device": {"name": result.name, **result.about, "threads": result.threads},
        "runtime": result.runtime,
        "accelerator": result.accelerator,
        **({"golden_sha256": result.golden} if result.golden else {}),
        "artifacts": [
            {
                "key": entry.key,
                "sha256": entry.sha256,
                "status": entry.status,
                "reason": entry.reason,
                "images": [
                    {
                        "file": name,
                        "pixels_sha256": entry.pixels[name],
                        "probabilities": [float(value) for value in found],
                    }
                    for name, found in entry.answers.items()
                ],
                "latency": None if entry.timing is None else asdict(entry.timing),
            }
            for entry in result.artifacts
        ],
    }


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
        why = f"{error.what.removeprefix(fields.UNUSABLE)} {error.why}"
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
    if entry.sha256 != bundle.sha256(row.path):
        return replace(base, reason="the result is of another export")
    if result.golden not in ("", bundle.sha256(_GOLDEN)):
        return replace(base, reason="the result is of other golden images")
    if entry.status == "failed":
        return replace(base, status="failed", reason=entry.reason or "it did not run there")
    if len(entry.answers) < len(recorded.expected):
        asked = f"{len(entry.answers)} of {len(recorded.expected)}"
        return replace(base, status="failed", reason=f"it answered {asked} golden images")
    comparison = Comparison.of(bundle.contract, FLOAT32)
    tally = Tally(row.runtime)  # against what this runtime answered at the export
    for name, found in entry.answers.items():
        wanted = recorded.expected[name].get(golden.REFERENCE_KEY)
        if wanted is None:
            return replace(base, reason="the reference's answers were not recorded")
        if recorded.pixels.get(name) not in (None, entry.pixels[name]):
            why = f"the device decoded other pixels from {name}"
            return replace(base, status="failed", reason=why)
        comparison.add(f"golden/{name}", wanted, found)
        before = recorded.expected[name].get(row.key)
        if before is not None:
            tally.add("probability", found, before)
    metrics = comparison.metrics()
    checks = check(metrics, limits[row.precision], bundle.contract.activation)
    return judged(replace(metrics.put_into(base), versus=tally.result()), checks)


def _about(device: Mapping[str, Any]) -> dict[str, str | float | bool]:
    found: dict[str, str | float | bool] = {}
    for key in _ABOUT:
        value = device.get(key)
        if isinstance(value, str):
            found[key] = fields.plain(value)[:MAX_TEXT]
        elif value is not None and (isinstance(value, bool) or fields.is_number(value)):
            found[key] = value
    return found


def _artifact(
    entry: Mapping[str, Any], bundle: Bundle, known: Container[str] | None
) -> DeviceArtifact:
    """One entry; answers of another export's file, or to other images, are left unread.

    Args:
        known: the golden images; None where it answered others.
    """
    key = entry.get("key")
    if not isinstance(key, str) or key not in BY_KEY:
        raise fields.bad("artifacts[].key", key, "it is no file of a bundle")
    status = entry.get("status")
    if status not in ("run", "failed"):
        raise fields.bad("artifacts[].status", status, "it is 'run' or 'failed'")
    sha256 = fields.text(entry, "sha256", 64)
    answers: dict[str, Probabilities] = {}
    pixels: dict[str, str] = {}
    if known is not None and sha256 == bundle.sha256(BY_KEY[key].path):
        images = entry.get("images")
        if not isinstance(images, list) or not (images or status == "failed"):
            why = "it is a list of golden images"
            raise fields.bad("artifacts[].images", type(images).__name__, why)
        answers, pixels = _answers(images, known, len(bundle.contract.labels))
    given = entry.get("latency")
    reason = entry.get("reason")
    return DeviceArtifact(
        key=key,
        sha256=sha256,
        status=status,
        reason=fields.plain(reason)[:MAX_TEXT] if isinstance(reason, str) else "",
        answers=answers,
        pixels=pixels,
        timing=None if given is None else _timing(fields.object_(given, "artifacts[].latency")),
    )


def _answers(
    images: list[Any], known: Container[str], classes: int
) -> tuple[dict[str, Probabilities], dict[str, str]]:
    answers: dict[str, Probabilities] = {}
    pixels: dict[str, str] = {}
    for image in images:
        picture = fields.object_(image, "artifacts[].images[]")
        name = picture.get("file")
        if not isinstance(name, str) or name not in known or name in answers:
            raise fields.bad(
                "artifacts[].images[].file", name, "it is no golden image, or there twice"
            )
        answers[name] = _probabilities(picture.get("probabilities"), classes)
        pixels[name] = fields.text(picture, "pixels_sha256", 64)
    return answers, pixels


def _probabilities(values: Any, classes: int) -> Probabilities:
    if not isinstance(values, list) or len(values) != classes:
        count = len(values) if isinstance(values, list) else type(values).__name__
        raise fields.bad("probabilities", count, f"it is a list of {classes} numbers")
    return np.array([fields.number(value, "probabilities[]") for value in values], np.float32)


def _timing(given: Mapping[str, Any]) -> Timing:
    times = {
        key: fields.number(given.get(key), f"latency.{key}")
        for key in ("median_ms", "p90_ms", "min_ms")
    }
    if not 0 < times["min_ms"] <= times["median_ms"] <= times["p90_ms"] < 1e7:
        raise fields.bad("latency", times, "min, median and p90 are positive and in that order")
    return Timing(
        fields.integer(given, "runs", 1, 10**6), fields.integer(given, "warmup", 0, 10**6), **times
    )
