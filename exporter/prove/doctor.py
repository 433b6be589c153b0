"""What is installed here, what can be proven here, and what is missing.

Versions are read from the packages' metadata; nothing heavy is imported.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporter.prove.latency import device_name
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Evidence

DISTRIBUTION = "exporter"
_HOW: dict[Evidence, str] = {"run": "runs", "evaluated": "evaluates", "emulated": "emulates"}
_USER_EXTRAS = ("torch", "coreml", "tensorflow", "train")


@dataclass(frozen=True)
class Library:
    """One required package.

    Attributes:
        extra: the extra that brings it, or None for the core.
        wanted: the versions that the distribution asks for, e.g. '>=2.6,<3'.
        version: the installed one, or None.
    """

    name: str
    extra: str | None
    wanted: str
    version: str | None


@dataclass(frozen=True)
class RuntimeState:
    """One runtime; `reason` says why it is not here."""

    name: str
    version: str | None
    evidence: Evidence
    reason: str | None


@dataclass(frozen=True)
class Diagnosis:
    """What `examine` found.

    Attributes:
        missing_extras: extras of which a package is missing, in the order of pyproject.
    """

    python: str
    system: str
    device: str
    cores: int
    libraries: tuple[Library, ...]
    runtimes: tuple[RuntimeState, ...]
    missing_extras: tuple[str, ...]


def examine() -> Diagnosis:
    """Look at this environment."""
    libraries = tuple(_libraries())
    missing = {found.extra for found in libraries if found.version is None and found.extra}
    runtimes = []
    for runtime in registry.all_runtimes():
        reason = runtime.unavailable()
        version = None if reason else runtime.version()
        runtimes.append(RuntimeState(runtime.name, version, runtime.evidence, reason))
    return Diagnosis(
        python=f"{platform.python_version()} ({sys.executable})",
        system=platform.platform(),
        device=device_name(),
        cores=os.cpu_count() or 1,
        libraries=libraries,
        runtimes=tuple(runtimes),
        missing_extras=tuple(extra for extra in _USER_EXTRAS if extra in missing),
    )


def _libraries() -> list[Library]:
    """The distribution's own requirements, those of its users' extras included."""
    found = []
    for requirement in importlib.metadata.requires(DISTRIBUTION) or ():
        library = _parse(requirement)
        if library is not None:
            found.append(library)
    return found


_REQUIREMENT = re.compile(
    r"^(?P<name>[A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*(?P<wanted>[^;]*?)\s*(?:;(?P<marker>.*))?$"
)


def _parse(requirement: str) -> Library | None:
    """One line of the metadata; None where it does not concern this machine's user."""
    match = _REQUIREMENT.match(requirement)
    if match is None or match["name"] == DISTRIBUTION:
        return None
    marker = match["marker"] or ""
    extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", marker)
    if extra is not None and extra[1] not in _USER_EXTRAS:
        return None
    if not _for_this_machine(marker):
        return None
    name = match["name"]
    try:
        version: str | None = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    return Library(name, extra[1] if extra else None, match["wanted"].strip("()"), version)


def _for_this_machine(marker: str) -> bool:
    """Whether the platform part of a marker holds; only TensorFlow's two builds have one."""
    if "sys_platform" not in marker:
        return True
    small = sys.platform == "linux" and platform.machine() == "x86_64"
    return small == ("sys_platform ==" in marker)


def render(diagnosis: Diagnosis) -> RenderableType:
    """The diagnosis for a terminal."""
    libraries = _grid("library", "version", "wanted", "brought by")
    for found in diagnosis.libraries:
        version = Text(found.version) if found.version else Text("missing", "yellow")
        libraries.add_row(found.name, version, found.wanted, found.extra or "the core")
    runtimes = _grid("runtime", "here", "what it is")
    for state in diagnosis.runtimes:
        if state.reason is None:
            how = Text(_HOW[state.evidence], "green")
            runtimes.add_row(state.name, how, Text(state.version or ""))
        else:
            runtimes.add_row(state.name, Text("no", "yellow"), Text(state.reason))
    parts: list[RenderableType] = [
        Text(f"Python {diagnosis.python}"),
        Text(f"{diagnosis.system}"),
        Text(f"{diagnosis.device}"),
        Text(""),
        libraries,
        Text(""),
        runtimes,
        Text(""),
    ]
    core = [f.name for f in diagnosis.libraries if f.version is None and f.extra is None]
    if core:
        parts.append(Text(f"The core lacks {', '.join(core)}: pip install 'exporter'", "bold red"))
    if diagnosis.missing_extras:
        extras = ",".join(diagnosis.missing_extras)
        parts.append(Text(f"For what is missing: pip install 'exporter[{extras}]'", "yellow"))
    elif not core and all(state.reason is None for state in diagnosis.runtimes):
        parts.append(Text("Everything is here.", "green"))
    elif not core:
        parts.append(Text("Every Python package is here.", "green"))
    return Group(*parts)


def _grid(*columns: str) -> Table:
    grid = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in columns:
        grid.add_column(name, overflow="fold")
    return grid
