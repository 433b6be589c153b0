"""Put a finished folder in place of another in one step, losing nothing on the way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # renameat2(2)
_RENAME_SWAP = 2  # renamex_np(2) on macOS


def exchange(first: Path, second: Path) -> bool:
    """Swap two folders atomically; False where the system cannot."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            done = libc.renamex_np(os.fsencode(first), os.fsencode(second), _RENAME_SWAP)
        else:
            done = libc.renameat2(
                _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
            )
    except (OSError, AttributeError, TypeError):
        return False
    return bool(done == 0)


def put_in_place(finished: Path, target: Path) -> None:
    """Make `finished` appear as `target`, removing what was there before.

    A reader sees the old folder or the new one, never a mixture. Where the system
    has no atomic exchange, the old folder is moved aside first and moved back when
    the second rename fails.
    """
    if not target.exists():
        finished.rename(target)
        return
    if exchange(finished, target):
        shutil.rmtree(finished, ignore_errors=True)
        return
    aside = finished.with_name(finished.name + ".old")
    target.rename(aside)
    try:
        finished.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@dataclass
class Staging:
    """A folder in the making.

    Attributes:
        folder: where to write.
        target: where it will appear; may be changed until the block ends.
    """

    folder: Path
    target: Path


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Staging]:
    """A fresh folder next to `target`, renamed to it when the block ends well.

    Leftovers of runs that were killed are removed first; when the block raises,
    the new folder is removed and `target` stays as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.partial-"
    for stale in target.parent.glob(prefix + "*"):
        if not _alive(stale.name.removeprefix(prefix).split("-")[0]):
            shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=target.parent))
    try:
        folder.chmod(0o755)
        staging = Staging(folder, target)
        yield staging
        put_in_place(folder, staging.target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
