"""What is finished, on disk, so that an interrupted comparison goes on where it stopped.

    OUT/choose.state.json               makes the folder one of choose's
    OUT/candidates/SLUG/state.json      {"stages": {NAME: {"key": ..., "result": {...}}}}

A stage counts as finished when its key is the one that is asked for now; the key is a
sha256 over all that decides the stage's result. Files are written beside and renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.choose.request import LEDGER, LOCK
from exporter.pipeline.request import RequestError

SCHEMA = 1
STATE, CANDIDATES = "state.json", "candidates"
Result = dict[str, Any]


@dataclass(frozen=True)
class Stages:
    """The finished stages of one candidate, or of the whole comparison.

    Attributes:
        file: the JSON file that lists them.
    """

    file: Path

    def result(self, name: str, key: str) -> Result | None:
        """What a stage gave, where it is finished under this very key."""
        entry = self._read().get(name)
        if not isinstance(entry, dict) or entry.get("key") != key:
            return None
        found = entry.get("result")
        return dict(found) if isinstance(found, dict) else None

    def keep(self, name: str, key: str, result: Result) -> None:
        """Note a stage as finished."""
        self._write({**self._read(), name: {"key": key, "result": result}})

    def forget(self, *names: str) -> None:
        """Note that stages are to be done again."""
        stages = self._read()
        if any(name in stages for name in names):
            self._write({name: held for name, held in stages.items() if name not in names})

    def _read(self) -> Result:
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there yet, or from a disk that was full
            return {}
        sound = isinstance(content, dict) and content.get("schema") == SCHEMA
        stages = content.get("stages") if sound else None
        return dict(stages) if isinstance(stages, dict) else {}

    def _write(self, stages: Result) -> None:
        write_json(self.file, {"schema": SCHEMA, "stages": stages})


def write_json(path: Path, content: Any) -> None:
    """Write a file beside and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def workplace(out: Path, force: bool) -> Iterator[Stages]:
    """The folder of a comparison, made, marked and locked; the stages of the whole.

    Args:
        force: empty it first.

    Raises:
        RequestError: another process is at work in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        if force:
            for path in out.iterdir():
                if path.name == LOCK:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        ledger = Stages(out / LEDGER)
        if not ledger.file.is_file():
            write_json(ledger.file, {"schema": SCHEMA, "stages": {}})
        yield ledger


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One comparison at a time in a folder; the lock falls with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = out / LOCK
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RequestError(
                f"Another exporter choose is at work in {out}.",
                "both would write the same files",
                "wait for it, or choose another --out",
            ) from error
        yield
