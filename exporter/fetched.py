"""Where runtimes that are no Python packages lie once they were fetched.

An ARM64 system, LiteRT.js: each is fetched once, by name and version, into a folder of
the user's cache, so that no project folder grows and a second checkout finds them.
"""

from __future__ import annotations

import os
from pathlib import Path

HOME = "EXPORTER_CACHE"


def folder(name: str) -> Path:
    """The folder of one fetched thing, whether it is there yet or not.

    Args:
        name: what and which version, e.g. 'litertjs-2.5.3'.

    Returns:
        `$EXPORTER_CACHE/name`, else `$XDG_CACHE_HOME/exporter/name`, else
        `~/.cache/exporter/name`; absolute, since what runs there has another working folder.
    """
    own = os.environ.get(HOME)
    if own:
        return Path(own).absolute() / name
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # A relative one counts as none (XDG Base Directory Specification).
    home = Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache"
    return home / "exporter" / name
