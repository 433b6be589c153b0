"""What the user asked for, and the checks that need no long work."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from exporter import bundle
from models.errors import MissingExtraError, UserError

Quantizer = Literal["default", "fast", "distill"]
USUAL, ALL = "default", "all"  # words that stand for several formats
CALIBRATION_LIMIT = 100
_LARGEST_BUDGET = 100.0
_IMPORT_OF_EXTRA = {"coreml": "coremltools", "tensorflow": "tensorflow", "torch": "torch"}


class RequestError(UserError):
    """Flags or folders that do not go together."""


class Progress(Protocol):
    """How a stage tells the person how far it is."""

    def start(self, stage: str, total: int | None = None) -> None:
        """A stage begins; `total` steps where their number is known."""

    def advance(self) -> None:
        """One step of the current stage is done."""

    def done(self, note: str = "") -> None:
        """The current stage is finished."""


@dataclass(frozen=True)
class ExportRequest:
    """Everything that `exporter export` was asked.

    Attributes:
        model: a checkpoint, a bare state_dict (with `architecture` and `labels`) or
            an ONNX file (with `contract` unless it carries one).
        out: the bundle's folder.
        formats: keys of `bundle.FORMATS`; None for all that can be made here.
        labels: a file, or 'imagenet'.
        calibration: images for the int8 ranges, flat or in class folders.
        images: images for the proof; the calibration images where it is None.
        options: parameters of the architecture, e.g. its width multiplier.
        resize_shorter_side: overrides the contract's resize rule.
        threshold: overrides the contract's 'not sure' threshold.
        class_thresholds: overrides the thresholds of classes: a JSON file of names and
            numbers, whose other classes keep theirs, or 'off' for `threshold` alone.
        force: replace an output folder that no export wrote.
        cache: folder of finished stages; None keeps none.
        quantizer: 'fast' measures ranges only and saves some seconds; 'distill' learns
            the int8 network from the float one, which takes minutes.
        allow_few_images: calibrate on fewer images than int8 needs all the same.
        int8_budget: make tflite-mixed, at most so many times as slow as tflite-int8.
        float_layers: which layers of tflite-mixed stay in float, instead of a search.
        gates: limits to move, see `exporter.prove.gates.with_overrides`.
    """

    model: Path
    out: Path
    formats: tuple[str, ...] | None = None
    architecture: str | None = None
    labels: str | None = None
    contract: Path | None = None
    calibration: Path | None = None
    calibration_limit: int = CALIBRATION_LIMIT
    images: Path | None = None
    images_limit: int | None = None
    options: Mapping[str, int | float] = field(default_factory=dict)
    resize_shorter_side: int | None = None
    threshold: float | None = None
    class_thresholds: str | None = None
    name: str | None = None
    force: bool = False
    cache: Path | None = None
    threads: int = 1
    latency_runs: int = 50
    evaluated_limit: int | None = 8
    gates: tuple[str, ...] = ()
    quantizer: Quantizer = "default"
    allow_few_images: bool = False
    int8_budget: float | None = None
    float_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """The formats that will be made, and why the others will not."""

    formats: tuple[bundle.Format, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def choose_formats(
    asked: tuple[str, ...] | None,
    has_calibration: bool,
    installed: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
) -> Chosen:
    """Decide what is made here.

    A format asked for by name that cannot be made is an error; without names,
    everything that can be made is, and the rest is listed with its reason.

    Raises:
        RequestError: an unknown format, or int8 without calibration images.
        MissingExtraError: a format asked for by name needs an extra.
    """
    wanted = None if asked is None else _keys(asked)
    made, left_out = [], []
    for row in bundle.FORMATS:
        if row.key != "onnx" and not (row.usual if wanted is None else row.key in wanted):
            continue
        by_name = asked is not None and row.key in asked
        needs = _IMPORT_OF_EXTRA[row.extra] if row.extra else None
        if needs and not installed(needs):
            if by_name:
                raise MissingExtraError(needs, str(row.extra), f"Writing {row.path}")
            left_out.append((row.key, f"needs: pip install 'exporter[{row.extra}]'"))
        elif row.calibrated and not has_calibration:
            if by_name:
                raise RequestError(
                    f"{row.key} was asked for without calibration images.",
                    "the ranges of int8 activations are measured on real images",
                    "add --calibration DIR with about 100 photographs like those in use",
                )
            left_out.append((row.key, "needs: --calibration DIR (about 100 photographs)"))
        else:
            made.append(row)
    return Chosen(tuple(made), tuple(left_out))


def parse_budget(text: str) -> float:
    """'1.25x' or '1.25' to 1.25: the most time by that of the int8 file.

    Raises:
        UserError: anything else, or a number that is not above 1.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*[xX]?\s*", text)
    value = float(found[1]) if found else 0.0
    if not 1.0 < value <= _LARGEST_BUDGET:
        raise UserError(
            f"The int8 budget {text!r} cannot be used.",
            "it is how many times the int8 file's latency the mixed file may take, above 1",
            "give it like --int8-budget 1.25x",
        )
    return value


def formats_with_mixed(asked: tuple[str, ...] | None, mixed: bool) -> tuple[str, ...] | None:
    """The formats asked for, and tflite-mixed where a flag of its own was given."""
    return (*(asked or (USUAL,)), "tflite-mixed") if mixed else asked


def check_mixed(request: ExportRequest) -> None:
    """Refuse two answers to the question which layers stay in float.

    Raises:
        RequestError: a budget to search within, and the layers by name.
    """
    if request.int8_budget is not None and request.float_layers:
        raise RequestError(
            "--int8-budget and --float-layers exclude each other.",
            "one searches for the layers that stay in float, the other one names them",
            "give one of them",
        )


def _keys(asked: tuple[str, ...]) -> set[str]:
    """The formats that names and the words 'default' and 'all' stand for."""
    unknown = [key for key in asked if key not in (*bundle.BY_KEY, USUAL, ALL)]
    if unknown or not asked:
        raise RequestError(
            f"Unknown format: {', '.join(unknown) or '(none)'}.",
            f"the formats are {', '.join(bundle.BY_KEY)}; '{USUAL}' stands for those that are "
            f"made without --formats, '{ALL}' for all",
            "name one or more of them, separated by commas",
        )
    return {
        row.key
        for row in bundle.FORMATS
        if row.key in asked or ALL in asked or (USUAL in asked and row.usual)
    }


def check_out(out: Path, force: bool) -> None:
    """Refuse to replace anything that no export wrote.

    Raises:
        RequestError: `out` is a file, or a folder that is neither empty nor a bundle.
    """
    if not out.exists():
        if out.is_symlink():
            raise RequestError(f"{out} is a dangling link.", "", "remove it")
        return
    if not out.is_dir():
        raise RequestError(
            f"{out} is in the way.", "it is a file", "choose another --out or move it"
        )
    if out.resolve() in (Path.cwd().resolve(), Path.home().resolve(), Path("/")):
        raise RequestError(
            f"{out} would be replaced as a whole.",
            "it is the current folder, your home or the root",
            "choose a folder of its own, --out dist for instance",
        )
    ours = (out / bundle.MANIFEST).is_file() and (out / bundle.CONTRACT).is_file()
    if any(out.iterdir()) and not ours and not force:
        raise RequestError(
            f"{out} is in the way.",
            "it is not empty and no export wrote it (it has no manifest)",
            "choose another --out, or replace it with --force",
        )
