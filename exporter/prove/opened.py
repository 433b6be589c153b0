"""All artifacts of a bundle, opened side by side, or the reason why one is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.bundle import FORMATS, Bundle, Format
from exporter.prove.results import Status
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Evidence, Runtime, Session
from models.contract import Contract
from models.errors import MissingExtraError, UserError

GetRuntime = Callable[[str], Runtime]
ALL = "all"  # every runtime, those that open another's files once more included


@dataclass(frozen=True)
class Opened:
    """One row of the table of formats in one runtime.

    Attributes:
        runtime: the runtime's name; `row.runtime`, or one that opens its files too.
        session: the opened file, or None with `status` 'not run' (absent file, absent
            runtime, left out) or 'failed' (a file that does not open) and `reason`.
        counterpart: the runtime whose numbers it should repeat, or None.
        usual_images: see `runtimes.base.Runtime`.
    """

    row: Format
    runtime: str
    version: str
    evidence: Evidence
    timed: bool
    session: Session | None
    status: Status = "passed"
    reason: str = ""
    counterpart: str | None = None
    usual_images: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        """What tells it from every other: (key, runtime)."""
        return self.row.key, self.runtime


def open_row(
    row: Format,
    path: Path,
    contract: Contract,
    threads: int,
    get: GetRuntime,
    name: str | None = None,
) -> Opened:
    """Open one artifact; a UserError of its runtime becomes 'failed' with the reason.

    Args:
        name: a runtime that opens this one's files too; its own by default.
    """
    runtime = get(name or row.runtime)
    known = Opened(
        row,
        runtime.name,
        "",
        runtime.evidence,
        False,
        None,
        "not run",
        counterpart=runtime.counterpart,
        usual_images=runtime.usual_images,
    )
    lacking = runtime.unavailable()
    if lacking is not None:
        return replace(known, reason=lacking)
    known = replace(known, version=runtime.version())
    try:
        session = runtime.open(path, contract, threads)
    except MissingExtraError as error:
        return replace(known, reason=one_line(error))
    except UserError as error:
        return replace(known, status="failed", reason=one_line(error))
    return replace(known, timed=runtime.timed, session=session, status="passed")


@contextmanager
def open_artifacts(
    bundle: Bundle,
    threads: int = 1,
    runtimes: Sequence[str] | None = None,
    get: GetRuntime = registry.get,
) -> Iterator[tuple[Opened, ...]]:
    """Open every row of the table of formats; close them on leaving.

    Args:
        runtimes: only these, by name; the rest is 'not run'. None for every format's
            own; 'all' for those and the ones that open the same files once more.

    Raises:
        UserError: `runtimes` names one that does not exist.
    """
    chosen = _chosen(runtimes)
    held = {row.key for row in bundle.formats()}
    with ExitStack() as stack:
        found = []
        for row in FORMATS:
            if row.key not in held and not row.usual:
                continue
            second = [name for name, whose in registry.SECOND.items() if whose == row.runtime]
            asked = [name for name in second if name in chosen and row.key in held]
            for name in (row.runtime, *asked):
                if row.key not in held:
                    opened = _not_run(row, "not in this bundle")
                elif name not in chosen:
                    opened = _not_run(row, "left out by choice of runtimes")
                else:
                    path = bundle.path(row.key)
                    opened = open_row(row, path, bundle.contract, threads, get, name)
                    if opened.session is not None:
                        stack.callback(opened.session.close)
                found.append(opened)
        yield tuple(found)


def _chosen(runtimes: Sequence[str] | None) -> set[str]:
    """The names that were asked for, with the counterparts that they are compared with."""
    own = {row.runtime for row in FORMATS}
    known = own | set(registry.SECOND)
    if runtimes is None:
        return own
    if ALL in runtimes:
        return known
    unknown = [name for name in runtimes if name not in known]
    if unknown:
        raise UserError(
            f"There is no runtime {', '.join(unknown)}.",
            f"there are: {', '.join(sorted(known))}, and '{ALL}'",
            "name some of these",
        )
    return set(runtimes) | {registry.SECOND[name] for name in runtimes if name in registry.SECOND}


def _not_run(row: Format, reason: str) -> Opened:
    return Opened(row, row.runtime, "", "run", False, None, "not run", reason)


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
    return ": ".join(part.strip().rstrip(".") for part in (error.what, error.why) if part)
