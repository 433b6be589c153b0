"""Every file over every photograph: what is kept is the probabilities."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.evaluate.photographs import Photograph
from exporter.evaluate.subject import Entry
from exporter.prove.imageset import evenly
from exporter.prove.opened import GetRuntime, Opened, one_line, open_row
from exporter.prove.runtimes import registry
from models.contract import Contract
from models.errors import UserError
from models.images import ImageError, Pixels, load_pixels

__all__ = ["Answered", "Broken", "decoded", "run"]

_AHEAD = 16  # images decoded at once


@dataclass(frozen=True)
class Broken:
    """A photograph that cannot be decoded, and why."""

    name: str
    reason: str


@dataclass(eq=False)
class Answered:
    """What one file answered.

    Attributes:
        opened: the file, or why it is not open.
        places: which of the photographs it was given, as indices of those that are whole.
        probabilities: float32 `[len(places), classes]`, once all are done.
        broken: why it stopped; '' where it did not.
    """

    opened: Opened
    places: list[int] = field(default_factory=list)
    broken: str = ""
    _rows: list[npt.NDArray[np.float32]] = field(default_factory=list)

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        return np.stack(self._rows)

    @property
    def works(self) -> bool:
        return self.opened.session is not None and not self.broken and bool(self.places)


def run(
    entries: Sequence[Entry],
    photographs: Sequence[Photograph],
    contract: Contract,
    *,
    threads: int = 1,
    evaluated: int | None = None,
    on_image: Callable[[], None] | None = None,
    get_runtime: GetRuntime = registry.get,
) -> tuple[list[Answered], list[Photograph], list[Broken]]:
    """Classify all photographs with all files; each photograph is decoded once.

    Args:
        threads: of every runtime.
        evaluated: at most so many images for files that are evaluated or emulated; None
            for as many as their runtimes usually take.
        on_image: called after each image.
        get_runtime: where runtimes come from; tests put their own here.

    Returns:
        The answers in the entries' order, the photographs that could be decoded, and
        those that could not.

    Raises:
        UserError: no photograph can be decoded.
    """
    whole: list[Photograph] = []
    broken: list[Broken] = []
    with ExitStack() as stack:
        answered = []
        for entry in entries:
            opened = open_row(entry.row, entry.path, contract, threads, get_runtime)
            if opened.session is not None:
                stack.callback(opened.session.close)
            answered.append(Answered(opened))
        given = [_places(each.opened, len(photographs), evaluated) for each in answered]
        pool = stack.enter_context(ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // threads)))
        for number, (photograph, pixels) in enumerate(decoded(photographs, contract, pool)):
            if isinstance(pixels, ImageError):
                broken.append(Broken(photograph.name, one_line(pixels)))
            else:
                asked = [each for each, places in zip(answered, given, strict=True)
                         if places is None or number in places]  # fmt: skip
                _ask(asked, pixels, len(whole), contract, photograph.name, pool)
                whole.append(photograph)
            if on_image is not None:
                on_image()
    if not whole:
        raise UserError(
            "None of the photographs can be decoded.",
            f"{broken[0].name}: {broken[0].reason}" if broken else "there is none",
            "copy them again from where they came",
        )
    return answered, whole, broken


def decoded(
    photographs: Sequence[Photograph], contract: Contract, pool: ThreadPoolExecutor | None = None
) -> Iterator[tuple[Photograph, Pixels | ImageError]]:
    """Every photograph with its pixels as the contract says, or why there are none.

    Args:
        pool: decodes some ahead; None decodes one after the other.
    """

    def decode(photograph: Photograph) -> Pixels | ImageError:
        try:
            return load_pixels(photograph.path, contract.preprocessing)
        except ImageError as error:
            return error

    for start in range(0, len(photographs), _AHEAD):
        part = photographs[start : start + _AHEAD]
        yield from zip(part, (pool.map if pool else map)(decode, part), strict=True)


def _ask(
    asked: Sequence[Answered],
    pixels: Pixels,
    place: int,
    contract: Contract,
    name: str,
    pool: ThreadPoolExecutor,
) -> None:
    """One image to every file that still works, side by side where sessions allow it."""
    pixels = np.array(pixels)
    pixels.setflags(write=False)  # no session may change what the next one sees
    waiting: dict[int, Any] = {}
    for each in asked:
        session = each.opened.session
        if session is not None and not each.broken and session.any_thread:
            waiting[id(each)] = pool.submit(session.probabilities, pixels)
    for each in asked:
        session = each.opened.session
        if session is None or each.broken:
            continue
        try:
            future = waiting.get(id(each))
            found = future.result() if future is not None else session.probabilities(pixels)
        except UserError as error:
            each.broken = one_line(error)
            continue
        if found.shape != (len(contract.labels),):
            each.broken = f"it gives {found.shape} values for {len(contract.labels)} labels"
        elif not np.isfinite(found).all():
            each.broken = f"it gives NaN or infinity for {name}"
        else:
            each.places.append(place)
            each._rows.append(found)


def _places(entry: Opened, count: int, evaluated: int | None) -> set[int] | None:
    """Which of `count` images an entry is given; None for all of them."""
    slow = entry.evidence in ("evaluated", "emulated")
    limit = evaluated if slow and evaluated is not None else entry.usual_images
    return None if limit is None or limit >= count else evenly(count, limit)
