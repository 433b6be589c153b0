"""The emulated ARM64 system for tests: the user's own, or a reason to skip."""

from __future__ import annotations

import pytest

from exporter.prove.runtimes.litert_arm64 import apt, setup
from exporter.prove.runtimes.litert_arm64.layout import Layout
from models.errors import UserError

# What apt and pip say where nothing can be reached.
_OFFLINE = (
    "Failed to fetch",
    "Could not resolve",
    "Could not connect",
    "Temporary failure",
    "Connection",
    "connection",
    "from versions: none",
    "Some index files failed",
)


def reason_to_skip() -> str | None:
    """Why this machine can have no such system; None if it can."""
    return setup.unsupported() or (apt.missing() and f"{apt.missing()} is not here")


def fetch_or_skip(progress: setup.Progress | None = None) -> Layout:
    """Fetch it; skip where packages cannot be reached. Any other failure is one."""
    try:
        return Layout(setup.fetch(progress))
    except UserError as error:
        if any(words in str(error) for words in _OFFLINE):
            pytest.skip(f"packages cannot be reached: {' '.join(str(error).split())}")
        raise


def system() -> Layout:
    """The user's ARM64 system, fetched where it is not there yet."""
    home = setup.installed()
    if home is not None:
        return Layout(home)
    reason = reason_to_skip()
    if reason:
        pytest.skip(f"no emulated ARM64: {reason}")
    return fetch_or_skip()
