"""One virtual environment a peer, built once, in the user's cache and outside the project."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter import fetched

READY = "bench-ready.json"
CACHE = "bench-int8"


class NotRunError(Exception):
    """A peer that could not be installed or run; the text is the reason in its row."""


@dataclass(frozen=True)
class Environment:
    """A finished environment.

    Attributes:
        python: its interpreter.
        megabytes: what lies in its site-packages beyond pip, in units of 10^6 bytes.
        versions: of every distribution in it, by name.
    """

    python: Path
    megabytes: float
    versions: Mapping[str, str]


def environment(
    name: str, requirements: Sequence[str], constraints: Sequence[str] = ()
) -> Environment:
    """The environment with these requirements; built where it is not there yet.

    Args:
        name: a folder's name, e.g. 'nncf'.
        requirements: pinned, as pip takes them.
        constraints: versions of what they depend on.

    Raises:
        NotRunError: pip failed; with the last line that it said.
    """
    wanted = json.dumps([list(requirements), list(constraints), sys.version_info[:2]])
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    root = fetched.folder(CACHE) / "environments" / f"{name}-{digest}"
    if not (root / READY).is_file():
        _build(root, requirements, constraints)
    found = json.loads((root / READY).read_text(encoding="utf-8"))
    return Environment(_python(root), found["megabytes"], found["versions"])


def _build(root: Path, requirements: Sequence[str], constraints: Sequence[str]) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    log = root.parent / f"{root.name}.log"
    limits = root.parent / f"{root.name}.constraints.txt"
    limits.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    with log.open("wb") as stream:
        for command in (
            [sys.executable, "-m", "venv", str(root)],
            [str(_python(root)), "-m", "pip", "install", "--quiet", "--no-compile",
             "--disable-pip-version-check", "--constraint", str(limits), *requirements],
        ):  # fmt: skip
            done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
            if done.returncode:
                raise NotRunError(f"pip failed: {last_words(log)}")
    ready = {"megabytes": _megabytes(root), "versions": _versions(root)}
    partial = root / (READY + ".partial")
    partial.write_text(json.dumps(ready, indent=1), encoding="utf-8")
    partial.replace(root / READY)


def last_words(log: Path) -> str:
    """The last line of a log that says something, with 200 characters at most."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    spoken = [line.strip() for line in lines if line.strip()]
    errors = [line for line in spoken if "error" in line.lower()]
    return (errors or spoken or ["nothing was said"])[-1][:200]


def _python(root: Path) -> Path:
    return root / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _versions(root: Path) -> dict[str, str]:
    said = subprocess.run(
        [str(_python(root)), "-m", "pip", "list", "--format", "json",
         "--disable-pip-version-check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {entry["name"]: entry["version"] for entry in json.loads(said.stdout)}


def _megabytes(root: Path) -> float:
    """All files below site-packages but those of pip, setuptools and compiled caches."""
    total = 0
    for packages in root.glob("[Ll]ib*/**/site-packages"):
        if packages.is_symlink() or "lib64" in packages.parts:
            continue
        for path in packages.rglob("*"):
            first = path.relative_to(packages).parts[0]
            if first.startswith("pip") or path.suffix == ".pyc" or not path.is_file():
                continue
            total += path.lstat().st_size
    return round(total / 1e6, 1)
