"""What `exporter choose` was asked, and the checks that need no data and no weights."""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from exporter import bundle
from exporter.choose.candidates import Candidate
from exporter.choose.results import Budget
from exporter.pipeline.request import RequestError, choose_formats
from models.errors import MissingExtraError

EPOCHS = 8
FORMATS = ("onnx", "tflite-float32", "tflite-float16", "tflite-int8")
LEDGER = "choose.state.json"  # what makes a folder one of choose's
LOCK = ".choose.lock"
_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "safetensors")


@dataclass(frozen=True)
class ChooseRequest:
    """Everything that `exporter choose` was asked.

    Attributes:
        data: photographs, one folder a class, or divided already; None to draw some.
        validation: images that say which epoch is kept; else a share of `data`.
        test: images that every candidate is judged on; else a share of `data`.
        epochs: passes over the training images, the same for all candidates.
        weights_dir: torchvision's weight files by their published names.
        formats: keys of `bundle.FORMATS`; 'onnx' is always among what is made.
        threads: of every runtime that is timed or proven.
        force: begin anew, whatever lies at `out`.
        drawn: pictures of each class that are drawn to train, to validate and to test.
    """

    out: Path
    candidates: tuple[Candidate, ...]
    data: Path | None = None
    validation: Path | None = None
    test: Path | None = None
    epochs: int = EPOCHS
    weights_dir: Path | None = None
    formats: tuple[str, ...] = FORMATS
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    threads: int = 1
    force: bool = False
    drawn: tuple[int, int, int] = (80, 16, 32)


def check(request: ChooseRequest) -> tuple[str, ...]:
    """Refuse what cannot work; the keys of the formats that will be made.

    Raises:
        RequestError: flags that do not go together, a figure out of range, an --out that is
            something else's.
        MissingExtraError: a package that is not installed.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train", "Choosing a model")
    for flag, value in (("--budget-ms", request.budget.ms), ("--budget-mb", request.budget.mb)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise RequestError(
                f"{flag} is {value:g}.", "a budget is above zero", "give one, or leave it away"
            )
    for flag, count, low, high in (
        ("--epochs", request.epochs, 1, 100_000),
        ("--seed", request.seed, 0, 2**32 - 1),
        ("--threads", request.threads, 1, 1024),
    ):
        if not low <= count <= high:
            raise RequestError(
                f"{flag} is {count}.", f"it lies between {low} and {high}", "give another one"
            )
    _check_sources(request)
    if request.weights_dir is not None and not request.weights_dir.is_dir():
        raise RequestError(
            f"--weights-dir {request.weights_dir} is no folder.",
            "it holds torchvision's weight files by their published names",
            "check the path",
        )
    if request.weights_dir is not None and _within(request.weights_dir, request.out):
        raise RequestError(
            f"--weights-dir {request.weights_dir} lies in --out {request.out}.",
            "--force empties that folder",
            "choose another --out",
        )
    chosen = choose_formats(request.formats, has_calibration=True)
    check_out(request.out, request.force)
    return tuple(row.key for row in chosen.formats)


def _check_sources(request: ChooseRequest) -> None:
    given = [
        flag
        for flag, value in (("--validation", request.validation), ("--test", request.test))
        if value is not None
    ]
    if request.data is None and given:
        raise RequestError(
            f"--synthetic and {' and '.join(given)} exclude each other.",
            "the drawn pictures come with images of their own to judge by",
            "leave it away, or give photographs with --data DIR",
        )
    for flag, folder in (
        ("--data", request.data),
        ("--validation", request.validation),
        ("--test", request.test),
    ):
        if folder is not None and not folder.is_dir():
            raise RequestError(
                f"{flag} {folder} is no folder.", "it holds one folder a class", "check the path"
            )
        if folder is not None and _within(folder, request.out):
            raise RequestError(
                f"{flag} {folder} lies in --out {request.out}.",
                "what is written there would mix with the photographs",
                "choose another --out",
            )
        if folder is not None and _within(request.out, folder):
            raise RequestError(
                f"--out {request.out} lies in {flag} {folder}.",
                "it would be taken for a class of photographs the next time",
                "choose another --out",
            )


def _within(inner: Path, outer: Path) -> bool:
    return outer.resolve() in (inner.resolve(), *inner.resolve().parents)


def check_out(out: Path, force: bool) -> None:
    """Refuse to write into anything that no `exporter choose` wrote.

    Raises:
        RequestError: `out` is a file, or a folder that is neither empty nor choose's own.
    """
    above = next((parent for parent in (out, *out.parents) if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise RequestError(f"{out} cannot be a folder.", f"{above} is a file", "give another --out")
    if out.is_symlink() and not out.exists():
        raise RequestError(f"{out} is a dangling link.", "", "remove it")
    if not out.is_dir():
        return
    if out.resolve() in (Path.cwd().resolve(), Path.home().resolve(), Path("/")):
        raise RequestError(
            f"{out} cannot be the folder of a comparison.",
            "it is the current folder, your home or the root",
            "choose a folder of its own, --out choose for instance",
        )
    held = any(path.name != LOCK for path in out.iterdir())
    if held and not (out / LEDGER).is_file() and not force:
        bundled = (out / bundle.MANIFEST).is_file()
        raise RequestError(
            f"{out} is in the way.",
            "it is an exported bundle" if bundled else "it is not empty and no choose wrote it",
            "choose another --out, or replace it with --force",
        )


def parse_budget(flag: str, text: str | None, unit: str) -> float | None:
    """'20', '20ms' or '20 ms' to 20.0; None of None.

    Raises:
        RequestError: anything else.
    """
    if text is None:
        return None
    found = re.fullmatch(rf"\s*([+-]?\d*\.?\d+)\s*(?:{unit})?\s*", text, re.IGNORECASE)
    if found is None:
        raise RequestError(
            f"{flag} is {text!r}.", f"it is a number of {unit}", f"give it like {flag} 20"
        )
    return float(found[1])
