"""What `exporter fetch` does: runtimes that are no Python packages, once, into the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from exporter.prove.runtimes import litertjs
from exporter.prove.runtimes.litert_arm64 import setup
from models.errors import UserError

_NEXT = "Next: exporter parity dist --runtime all"


@dataclass(frozen=True)
class Fetcher:
    """One runtime that can be fetched.

    Attributes:
        title: for a person.
        installed: its folder, or None where it was not fetched yet.
        fetch: fetches it anew; what was there stays until then. It is given a function
            that is told what happens next.
    """

    title: str
    installed: Callable[[], Path | None]
    fetch: Callable[[Callable[[str], None]], Path]


FETCHERS: Mapping[str, Fetcher] = {
    "arm64": Fetcher("LiteRT for ARM64 (emulated)", setup.installed, setup.fetch),
    "browser": Fetcher("LiteRT.js", litertjs.installed, litertjs.fetch),
}


def fetch(
    names: Sequence[str], anew: bool = False, fetchers: Mapping[str, Fetcher] = FETCHERS
) -> None:
    """Fetch runtimes by name, and say where they lie. One that fails does not stop the next.

    Args:
        names: 'arm64' or 'browser'.
        anew: also what is there already.
        fetchers: by name; tests put their own here.

    Raises:
        UserError: one or several cannot be fetched; what was there stays.
    """
    console = Console(highlight=False)
    failed: list[UserError] = []
    for name in dict.fromkeys(names):
        one = fetchers[name]
        home = one.installed()
        if home is not None and not anew:
            console.print(f"{one.title} is here: {home}", markup=False, soft_wrap=True)
            continue
        try:
            home = _fetch(one, console)
        except UserError as error:
            failed.append(error)
            continue
        console.print(f"Fetched {one.title} into {home}", markup=False, soft_wrap=True)
    if failed:
        raise _together(failed)
    console.print(_NEXT, markup=False)


def _fetch(one: Fetcher, console: Console) -> Path:
    with console.status(f"Fetching {one.title}") as status:
        return one.fetch(lambda said: status.update(f"{one.title}: {said}"))


def _together(failed: Sequence[UserError]) -> UserError:
    """One error for all of them."""
    if len(failed) == 1:
        return failed[0]
    return UserError(
        " ".join(error.what for error in failed),
        "; ".join(error.why for error in failed if error.why),
        "; ".join(error.mend for error in failed if error.mend),
    )
