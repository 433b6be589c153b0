"""Where each candidate's weights come from, settled before any long work.

In this order: a file in --weights-dir, torchvision's download (or its cache), nothing.
Published weights fit the published options only: another width starts from nothing.
"""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.choose.candidates import Candidate
from exporter.choose.results import NONE_PUBLISHED, NOT_WITHIN_REACH, Start
from exporter.pipeline.request import RequestError
from models import state_files, zoo
from models.images import content_hash
from models.training.settings import TrainingError

_PATIENCE_S = 15.0  # for a server that does not answer


@dataclass(frozen=True)
class Origin:
    """Where a candidate starts from.

    Attributes:
        path: the weights file; None where it starts from nothing.
        sha256: of that file, hex; '' without one.
        why_scratch: why it starts from nothing; '' where it does not.
    """

    start: Start
    path: Path | None = None
    sha256: str = ""
    why_scratch: str = ""

    @property
    def name(self) -> str:
        """The file's name; '' without one."""
        return "" if self.path is None else self.path.name


def settle(
    candidates: Sequence[Candidate],
    weights_dir: Path | None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Origin]:
    """The origin of each candidate, by its name; every file has been read and fits.

    Args:
        say: told, one line each, of downloads that did not come about.

    Raises:
        RequestError: --weights-dir holds no file for any of them.
        CheckpointError: a weights file is damaged or of another architecture.
    """
    found: dict[str, Origin] = {}
    if weights_dir is not None:
        for candidate in candidates:
            path = file_in(weights_dir, candidate)
            if path is not None:
                found[candidate.name] = _checked("file", path, candidate)
        if not found:
            _refuse_useless(weights_dir, candidates)
    reachable = True
    for candidate in candidates:
        if candidate.name in found:
            continue
        reason = _not_published(candidate)
        path = None
        if not reason:
            path, reachable = _downloaded(candidate, reachable, say)
            reason = NOT_WITHIN_REACH
        if path is None:
            found[candidate.name] = Origin("scratch", why_scratch=reason)
        else:
            found[candidate.name] = _checked("published", path, candidate)
    return found


def file_in(folder: Path, candidate: Candidate) -> Path | None:
    """The file in a folder that holds published weights of this very candidate."""
    if _not_published(candidate):
        return None
    paths = (folder / name for name in names_of(candidate))
    return next((path for path in paths if path.is_file()), None)


def names_of(candidate: Candidate) -> tuple[str, ...]:
    """The names that a file of its published weights may have, the published one first."""
    entry = zoo.get(candidate.architecture)
    published = (entry.weights_file,) if entry.weights_file else ()
    return (*published, f"{entry.name}.pth", f"{entry.name}_imagenet.pth")


def _not_published(candidate: Candidate) -> str:
    """Why there are no published weights of a candidate; '' where there are."""
    entry = zoo.get(candidate.architecture)
    wanted = entry.published_options.items()
    fits = all(candidate.options[key] == value for key, value in wanted)
    return "" if entry.published is not None and fits else NONE_PUBLISHED


def _checked(start: Start, path: Path, candidate: Candidate) -> Origin:
    state = state_files.read(path).state
    classes = state_files.outputs_of(state, candidate.architecture) or 2
    state_files.check_match(state, candidate.architecture, classes, candidate.options, path)
    return Origin(start, path, content_hash(path))


def _refuse_useless(folder: Path, candidates: Sequence[Candidate]) -> None:
    wanted = [each for each in candidates if not _not_published(each)]
    if not wanted:
        raise RequestError(
            f"--weights-dir {folder} is of no use here.",
            "nobody publishes weights of any of these candidates with these options",
            "leave it away: they are trained from nothing",
        )
    listed = "; ".join(" or ".join(names_of(each)) for each in wanted)
    raise RequestError(
        f"--weights-dir {folder} holds no file for any candidate.",
        f"looked for {listed}",
        "download some of them there, or leave --weights-dir away",
    )


def _downloaded(
    candidate: Candidate, reachable: bool, say: Callable[[str], None]
) -> tuple[Path | None, bool]:
    """torchvision's own file, and whether the network was still within reach."""
    import torch

    from models.training.start import published_state

    entry = zoo.get(candidate.architecture)
    path = Path(torch.hub.get_dir()) / "checkpoints" / str(entry.weights_file)
    if not path.is_file() and not reachable:
        return None, False
    try:
        with _impatient(), contextlib.redirect_stdout(io.StringIO()):  # torch announces it
            published_state(entry)
    except TrainingError as error:
        say(f"{error.what} {error.why}")
        say("Candidates whose weights are not here are trained from nothing (--weights-dir).")
        return None, False
    return (path, reachable) if path.is_file() else (None, reachable)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """A server that does not answer is given up soon."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
