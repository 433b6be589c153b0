"""What `exporter fetch` does: runtimes that are no Python packages, once, into the cache."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from exporter.prove.runtimes import litertjs
from exporter.prove.runtimes.litert_arm64 import setup

_NEXT = "Next: exporter parity dist --runtime all"


def fetch(names: Sequence[str], anew: bool = False) -> None:
    """Fetch runtimes by name, and say where they lie.

    Args:
        names: 'arm64' or 'browser'.
        anew: also what is there already.

    Raises:
        UserError: one cannot be fetched; what was there stays.
    """
    console = Console(highlight=False)
    fetchers = {
        "arm64": ("LiteRT for ARM64, emulated", setup.installed, setup.fetch),
        "browser": ("LiteRT.js", litertjs.installed, litertjs.fetch),
    }
    for name in dict.fromkeys(names):
        title, installed, make = fetchers[name]
        home = installed()
        if home is not None and not anew:
            console.print(f"{title} is here: {home}", markup=False, soft_wrap=True)
            continue
        with console.status(f"Fetching {title}") as status:
            make(lambda said, shown=title: status.update(f"{shown}: {said}"))  # type: ignore[misc]
        console.print(f"Fetched {title} into {installed()}", markup=False, soft_wrap=True)
    console.print(_NEXT, markup=False)
