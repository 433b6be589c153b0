"""A content-addressed store of finished stages.

A stage is named by a hash over everything that its result depends on: its input
files, its settings, the versions of the libraries it calls and this program's own
source. What is found under that name is therefore what the stage would make again.
Entries are written beside and renamed, so an interrupted run leaves none half made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

KEEP_BYTES = 2_000_000_000
KEEP_SECONDS = 60.0  # never prune what another run may just have written


def digest(*parts: Any) -> str:
    """sha256 (hex) over JSON-able parts and the bytes of `Path`s, in order."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            item = b"file:" + _hash_path(part).encode()
        else:
            item = b"json:" + json.dumps(part, sort_keys=True, default=str).encode()
        total.update(len(item).to_bytes(8, "big") + item)
    return total.hexdigest()


def _hash_path(path: Path) -> str:
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(file.relative_to(path).as_posix().encode() + b"\0")
        total.update(_hash_path(file).encode())
    return total.hexdigest()


@cache
def source_hash() -> str:
    """A hash over this program's own source, so that a change of it empties the cache."""
    import exporter
    import models

    total = hashlib.sha256()
    for package in (exporter, models):
        root = Path(str(package.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            total.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions by distribution name; 'absent' where there is none."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


class Cache:
    """A folder of stages by key.

    Args:
        root: where it lies; None keeps nothing and builds everything in a
            temporary folder that the caller removes with `close`.
    """

    def __init__(self, root: Path | None) -> None:
        self._temporary = root is None
        self.root = Path(tempfile.mkdtemp(prefix="exporter-")) if root is None else Path(root)

    def has(self, key: str) -> bool:
        """Whether the stage's result is here."""
        return (self.root / key).is_dir()

    def stage(self, key: str, build: Callable[[Path], None]) -> Path:
        """The folder of a stage's results, made by `build(folder)` where it is not here yet."""
        final = self.root / key
        if final.is_dir():
            with contextlib.suppress(OSError):  # a read-only cache is still a cache
                os.utime(final)
            return final
        partial = self.scratch()
        try:
            build(partial)
            try:
                partial.rename(final)
            except OSError:
                if not final.is_dir():  # not another run that was faster
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return final

    def scratch(self) -> Path:
        """An empty folder on the cache's own disk, for a stage made by another process."""
        self.root.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".partial-", dir=self.root))

    def prune(self) -> None:
        """Drop what was used longest ago until `KEEP_BYTES` are left; half-made entries too."""
        now = time.time()
        entries = []
        for path in self.root.iterdir() if self.root.is_dir() else ():
            with contextlib.suppress(OSError):
                age = now - path.stat().st_mtime
                size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
                limit = 86_400.0 if path.name.startswith(".partial-") else None
                if limit is not None and age > limit:
                    shutil.rmtree(path, ignore_errors=True)
                elif limit is None:
                    entries.append((age, size, path))
        kept = 0
        for age, size, path in sorted(entries, key=lambda entry: entry[0]):
            kept += size
            if kept > KEEP_BYTES and age > KEEP_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def move_into(scratch: Path, folder: Path) -> None:
        """Move what another process wrote into a stage's folder."""
        for path in scratch.iterdir():
            path.rename(folder / path.name)
        scratch.rmdir()

    def close(self) -> None:
        """Remove a temporary cache."""
        if self._temporary:
            shutil.rmtree(self.root, ignore_errors=True)
