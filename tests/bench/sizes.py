"""Installed sizes, from what each distribution says it installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def measure() -> list[tuple[str, str, str]]:
    """The core's size, and that with the extras torch and coreml, in megabytes."""
    core = installed_megabytes(frozenset())
    more = installed_megabytes(frozenset({"torch", "coreml"}))
    return [
        ("installed size, core", f"{core:.0f} MB", "<= 350 MB"),
        ("installed size, with torch and coreml", f"{more:.0f} MB", "<= 1600 MB"),
    ]


def installed_megabytes(extras: frozenset[str]) -> float:
    """Size of this distribution's dependencies with some extras, in units of 10^6 bytes."""
    found: dict[str, int] = {}
    _collect("exporter", extras, found)
    return sum(found.values()) / 1e6


def _collect(name: str, extras: frozenset[str], found: dict[str, int]) -> None:
    distribution = metadata.distribution(name)
    key = canonicalize_name(name)
    known = key in found
    if not known:
        found[key] = sum(_bytes(Path(str(path.locate()))) for path in distribution.files or ())
    for text in distribution.requires or ():
        requirement = Requirement(text)
        wanted = any(
            requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            for extra in (extras or {""})
        )
        new = canonicalize_name(requirement.name) not in found or requirement.extras
        if wanted and new:
            _collect(requirement.name, frozenset(requirement.extras), found)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
