"""Commands of the exporter, run as a person runs them, and timed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from models.errors import UserError

WEIGHTS = Path("weights/mobilenet_v2_imagenet.pth")
FLOWERS = Path("images/flowers17")
_SECONDS = "bench-seconds.json"


@dataclass(frozen=True)
class Ran:
    """A finished command.

    Attributes:
        out: the folder it wrote.
        seconds: wall time of the whole command, imports included.
        command: as a reader would type it.
    """

    out: Path
    seconds: float
    command: str

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder."""
        found: dict[str, Any] = json.loads((self.out / name).read_text(encoding="utf-8"))
        return found


@dataclass(frozen=True)
class Bench:
    """Where the bench works, and on what."""

    work: Path
    data: Path | None
    anew: bool
    console: Console

    def file(self, part: Path) -> Path:
        """A file or folder of the data.

        Raises:
            UserError: it is not there.
        """
        if self.data is None or not (self.data / part).exists():
            raise UserError(f"not run: there is no {part} to measure on.", "", "give --data DIR")
        return self.data / part

    def run(self, words: Sequence[object], out: str, after: Ran | None = None) -> Ran:
        """`exporter WORDS --out OUT`, unless it ran here before.

        Args:
            after: the command whose result this one reads; run anew, this one is too.

        Raises:
            UserError: the command failed; its last lines are told.
        """
        reads = [after.command, after.seconds] if after is not None else []
        folder, kept = self.work / out, self.work / f"{out}.{_SECONDS}"
        typed = [str(word) for word in words]
        command = self._shown(["exporter", *typed, "--out", f"runs/{out}"])
        if kept.is_file() and not self.anew:
            known = json.loads(kept.read_text(encoding="utf-8"))
            if known["words"] == typed and known["reads"] == reads:
                return Ran(folder, known["seconds"], command)
        for old in (kept, folder):
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        self.console.print(f"  {escape(command)}", soft_wrap=True)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "exporter.cli", *typed, "--out", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        if done.returncode:
            told = "\n".join((done.stdout + done.stderr).strip().splitlines()[-6:])
            raise UserError(f"{typed[0]} ended with {done.returncode}: {told}")
        content = json.dumps({"words": typed, "reads": reads, "seconds": seconds})
        kept.write_text(content, encoding="utf-8")
        return Ran(folder, seconds, command)

    def _shown(self, words: Sequence[str]) -> str:
        """Paths as a reader has them: beside the project, not on this machine."""
        text = shlex.join(words)
        if self.data is not None:
            text = text.replace(f"{self.data / FLOWERS}", "flowers17")
            text = text.replace(f"{self.data / WEIGHTS}", "mobilenet_v2.pth")
        return text.replace(str(self.work), "runs")
