"""All artifacts of a bundle, opened side by side, or the reason why one is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporter.bundle import FORMATS, Bundle, Format
from exporter.prove.results import Status
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Evidence, Runtime, Session
from models.contract import Contract
from models.errors import MissingExtraError, UserError

GetRuntime = Callable[[str], Runtime]


@dataclass(frozen=True)
class Opened:
    """One row of the table of formats in this bundle.

    Attributes:
        session: the opened file, or None with `status` 'not run' (absent file, absent
            runtime, left out) or 'failed' (a file that does not open) and `reason`.
    """

    row: Format
    version: str
    evidence: Evidence
    timed: bool
    session: Session | None
    status: Status = "passed"
    reason: str = ""


def open_row(row: Format, path: Path, contract: Contract, threads: int, get: GetRuntime) -> Opened:
    """Open one artifact; a UserError of its runtime becomes 'failed' with the reason."""
    runtime = get(row.runtime)
    lacking = runtime.unavailable()
    if lacking is not None:
        return Opened(row, "", runtime.evidence, False, None, "not run", lacking)
    version = runtime.version()
    try:
        session = runtime.open(path, contract, threads)
    except MissingExtraError as error:
        return Opened(row, version, runtime.evidence, False, None, "not run", one_line(error))
    except UserError as error:
        return Opened(row, version, runtime.evidence, False, None, "failed", one_line(error))
    return Opened(row, version, runtime.evidence, runtime.timed, session)


@contextmanager
def open_artifacts(
    bundle: Bundle,
    threads: int = 1,
    runtimes: Sequence[str] | None = None,
    get: GetRuntime = registry.get,
) -> Iterator[tuple[Opened, ...]]:
    """Open every row of the table of formats; close them on leaving.

    Args:
        runtimes: only these, by name; the rest is 'not run'.

    Raises:
        UserError: `runtimes` names one that does not exist.
    """
    known = {row.runtime for row in FORMATS}
    unknown = [name for name in runtimes or () if name not in known]
    if unknown:
        raise UserError(
            f"There is no runtime {', '.join(unknown)}.",
            f"there are: {', '.join(sorted(known))}",
            "name some of these",
        )
    held = {row.key for row in bundle.formats()}
    with ExitStack() as stack:
        found = []
        for row in FORMATS:
            if row.key not in held:
                opened = _not_run(row, "not in this bundle")
            elif runtimes is not None and row.runtime not in runtimes:
                opened = _not_run(row, "left out by choice of runtimes")
            else:
                opened = open_row(row, bundle.path(row.key), bundle.contract, threads, get)
                if opened.session is not None:
                    stack.callback(opened.session.close)
            found.append(opened)
        yield tuple(found)


def _not_run(row: Format, reason: str) -> Opened:
    return Opened(row, "", "run", False, None, "not run", reason)


@contextmanager
def open_reference(
    bundle: Bundle, threads: int = 1, get: GetRuntime = registry.get
) -> Iterator[tuple[Session, Runtime]]:
    """Open what the bundle was made from: the checkpoint, or the ONNX file that came in.

    Raises:
        UserError: it is missing or damaged, or its runtime is not installed.
    """
    runtime = get(registry.reference_name(bundle.reference))
    if not bundle.reference.exists():
        raise UserError(
            f"The reference {bundle.reference} is missing.",
            "there is nothing to compare the artifacts with",
            "export the model again",
        )
    with runtime.open(bundle.reference, bundle.contract, threads) as session:
        yield session, runtime


def one_line(error: UserError) -> str:
    """A user error for a table cell."""
    return " ".join(part.strip().rstrip(".") for part in (error.what, error.why) if part)
