"""Our own quantizers, as the command line makes their files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.int8 import tflite_files
from bench.int8.environments import NotRunError
from bench.int8.prepared import Logits, Prepared, Taken, run_exporter
from exporter import bundle
from exporter.bundle import BY_KEY
from models.errors import UserError

BUDGET = "1.25x"


@dataclass(frozen=True)
class Method:
    """One of our quantizers.

    Attributes:
        key, label: as in `peers.Peer`.
        words: what it adds to `exporter export`.
        format: the file that is measured.
        needs: what the command's help has to name for it to exist.
    """

    key: str
    label: str
    words: tuple[str, ...]
    format: str
    needs: str


METHODS: tuple[Method, ...] = (
    Method("default", "exporter, default", (), "tflite-int8", "--calibration"),
    Method("fast", "exporter, fast", ("--quantizer", "fast"), "tflite-int8", r"[<|]fast[|>]"),
    Method("distill", "exporter, distill", ("--quantizer", "distill"), "tflite-int8",
           r"[<|]distill[|>]"),
    Method("mixed", f"exporter, mixed at {BUDGET}", ("--int8-budget", BUDGET), "tflite-mixed",
           "--int8-budget"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Made:
    """A file of ours and its answers; seconds are those beyond a float32 file's."""

    logits: Logits
    seconds: float
    cpu_seconds: float
    tflite: Path


def help_text() -> str:
    """What `exporter export --help` says, unbroken."""
    said = subprocess.run(
        [str(Path(sys.executable).parent / "exporter"), "export", "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip
    return said.stdout


def missing(method: Method, text: str) -> str | None:
    """Why a method cannot be measured with this exporter; None where it can."""
    wanted = " ".join(method.words) or "--calibration"
    if method.format not in BY_KEY:
        return f"this exporter has no format {method.format}"
    if not re.search(method.needs, text):
        return f"this exporter has no {wanted}"
    return None


class Ours:
    """Makes files of one task; what a float export takes is measured once.

    Args:
        prepared: the task.
        help_says: `help_text()`.
    """

    def __init__(self, prepared: Prepared, help_says: str) -> None:
        self._prepared = prepared
        self._help = help_says
        self._float: Taken | None = None

    def run(self, method: Method) -> Made:
        """Export with one method and run the file on the evaluated images.

        Raises:
            NotRunError: this exporter does not have it, or the export failed.
        """
        reason = missing(method, self._help)
        if reason is not None:
            raise NotRunError(reason)
        if self._float is None:
            self._float = self._export("float32", ("--formats", "tflite-float32"))
        formats = dict.fromkeys(("tflite-int8", method.format))
        words = ("--formats", ",".join(formats), *method.words)
        taken = self._export(method.key, words).beyond(self._float)
        folder = self._folder(method.key)
        path = folder / BY_KEY[method.format].path
        if not path.is_file():
            raise NotRunError(f"the export made no {path.name}")
        logits = tflite_files.logits(path, self._prepared, pixels_in=True)
        return Made(logits, taken.wall, taken.cpu, path)

    def _export(self, name: str, words: Sequence[str]) -> Taken:
        """A whole process that starts from model.onnx."""
        out = self._prepared.work / "ours" / name
        out.parent.mkdir(exist_ok=True)
        model = self._prepared.bundle.path("onnx")
        try:
            return run_exporter(
                ["export", str(model), *words, "--out", str(out), "--no-cache",
                 "--calibration", str(self._prepared.calibration),
                 "--images-limit", "1", "--runs", "0"],
                out.with_suffix(".log"),
            )  # fmt: skip
        except UserError as error:
            raise NotRunError(f"{error} {error.why}".strip()[-300:]) from error

    def _folder(self, name: str) -> Path:
        """Where an export lies; beside, where a gate failed."""
        out = self._prepared.work / "ours" / name
        failed = out.with_name(out.name + ".failed")
        return failed if not (out / bundle.MANIFEST).is_file() and failed.is_dir() else out
