"""Other people's programs, called for the set-up, with an error that a person can act on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from models.atomic import beside
from models.errors import UserError

_TIMEOUT = 900.0
_SHOWN = 400  # characters of a program's last words in an error
_FULL = ("No space left on device", "Disk quota exceeded", "Errno 28")


def call(
    command: Sequence[str | Path],
    what: str,
    mend: str,
    variables: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end.

    Args:
        what, mend: what did not work if it fails, and what to do then.
        variables: added to the environment.

    Returns:
        What it wrote to stdout.

    Raises:
        UserError: it is missing, fails, or does not end.
    """
    try:
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            cwd=cwd,
            env=os.environ | {"LC_ALL": "C"} | (variables or {}),
        )
    except FileNotFoundError:
        raise UserError(what, f"{command[0]} is not installed", mend) from None
    except subprocess.TimeoutExpired:
        raise UserError(what, f"{command[0]} did not end in {_TIMEOUT:g} seconds", mend) from None
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        if any(words in said for words in _FULL):
            raise full(what)
        raise UserError(what, said[-_SHOWN:] or f"exit code {done.returncode}", mend)
    return done.stdout


@contextmanager
def built(home: Path, what: str, room: int = 0) -> Iterator[Path]:
    """A folder of the cache in the making: it becomes `home` in one step at the end.

    Args:
        what: what did not work if it fails.
        room: bytes that must be free.

    Raises:
        UserError: the disk is full, or the cache cannot be written.
    """
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(home.parent).free < room:
            raise full(what)
        with beside(home) as staging:
            yield staging.folder
    except OSError as error:
        if is_full(error):
            raise full(what) from error
        why = error.strerror or str(error)
        mend = f"see that {home.parent} can be written, or point EXPORTER_CACHE elsewhere"
        raise UserError(what, why, mend) from error


def full(what: str) -> UserError:
    """The error for a disk without room."""
    return UserError(what, "the disk is full", "free some space, or point EXPORTER_CACHE elsewhere")


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
