"""Is this folder whole, and does every file in it say what the contract says?

Nothing here needs the reference: it is the check after copying, downloading or
checking out a bundle. Parity is the proof; this is the stock-taking.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from exporter.bundle import (
    CONTRACT,
    GOLDEN,
    LABELS,
    Bundle,
    Format,
    hash_files,
    open_bundle,
)
from exporter.prove import golden
from exporter.prove.gates import MAX_RANGE_ERROR, MAX_SUM_ERROR
from exporter.prove.imageset import square_pixels
from exporter.prove.inside import CARRIERS, embedded_contract
from exporter.prove.opened import GetRuntime, Opened, one_line, open_row
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Pixels, Probabilities, Session
from exporter.prove.runtimes.stored import lines
from exporter.prove.tflite_schemes import SOUND, faults
from exporter.prove.tflite_structure import read_operators
from models.contract import Contract
from models.errors import UserError

FindingStatus = Literal["ok", "failed", "not run"]
_EVALUATED_IMAGES = 1  # of the golden ones, for runtimes that take seconds an image
_SHOWN = 3  # of the faults of one file's operators
_AGAIN = "export the model again, or copy the whole folder again from where it came"


@dataclass(frozen=True)
class Finding:
    """One check of one subject.

    Attributes:
        check: what was looked at, e.g. 'checksum', 'opens', 'labels'.
        subject: the file, relative to the bundle.
        status: 'not run' where its runtime is not here or an earlier check failed.
        what: what was found, or why it was not run.
        mend: what to do when it failed.
    """

    check: str
    subject: str
    status: FindingStatus
    what: str = ""
    mend: str = ""


def verify(root: Path, get_runtime: GetRuntime = registry.get) -> list[Finding]:
    """Check a bundle.

    Args:
        root: the folder that 'exporter export' wrote.
        get_runtime: where runtimes come from; tests put their own here.

    Returns:
        every check, passed or not, in the order of the table of formats.

    Raises:
        UserError: it is no bundle, or its manifest or contract cannot be read.
    """
    bundle = open_bundle(root)
    found, spoiled = _checksums(bundle)
    found.append(_labels_file(bundle))
    recorded, pictures, problem = _golden(bundle)
    if problem is not None:
        found.append(problem)
    for row in bundle.formats():
        touched = sorted(name for name in spoiled if _belongs(name, row.path))
        if touched:
            found.append(
                Finding("opens", row.path, "not run", f"{touched[0]} is not as it was exported")
            )
            continue
        entry = open_row(row, bundle.path(row.key), bundle.contract, 1, get_runtime)
        if entry.session is None:
            status: FindingStatus = "failed" if entry.status == "failed" else "not run"
            found.append(Finding("opens", row.path, status, entry.reason, _AGAIN))
            continue
        with entry.session as session:
            found.append(Finding("opens", row.path, "ok", entry.version))
            found += _inside(bundle, row, session)
            found += _answers(bundle.contract, entry, session, recorded, pictures)
    return found


def _belongs(name: str, path: str) -> bool:
    return name == path or name.startswith(path + "/")


def _checksums(bundle: Bundle) -> tuple[list[Finding], set[str]]:
    """Files that are missing, changed or extra; and the names of the first two kinds."""
    try:
        listed = {e["path"]: (e["sha256"], e["bytes"]) for e in bundle.manifest["files"]}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"The manifest of {bundle.root} lists no checksums.", f"{error!r}", _AGAIN
        ) from error
    held = {entry.path: (entry.sha256, entry.bytes) for entry in hash_files(bundle.root)}
    found = []
    for name in sorted(set(listed) - set(held)):
        found.append(Finding("checksum", name, "failed", "the file is missing", _AGAIN))
    for name in sorted(set(held) - set(listed)):
        found.append(
            Finding("checksum", name, "failed", "not in the manifest", "move it elsewhere")
        )
    changed = {name for name in set(listed) & set(held) if listed[name] != held[name]}
    for name in sorted(changed):
        what = f"changed since the export ({listed[name][1]} bytes then, {held[name][1]} now)"
        found.append(Finding("checksum", name, "failed", what, _AGAIN))
    if not found:
        found.append(Finding("checksum", ".", "ok", f"{len(held)} files as exported"))
    return found, changed | (set(listed) - set(held))


def _labels_file(bundle: Bundle) -> Finding:
    path = bundle.root / LABELS
    try:
        names = lines(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return Finding("labels", LABELS, "failed", f"it cannot be read: {error}", _AGAIN)
    return _compare_labels(LABELS, names, bundle.contract)


def _compare_labels(subject: str, names: tuple[str, ...] | None, contract: Contract) -> Finding:
    """Names found in a file against those of contract.json."""
    wanted = contract.names
    if names is None:
        return Finding("labels", subject, "failed", "it holds no labels", _AGAIN)
    if names == wanted:
        return Finding("labels", subject, "ok", f"{len(names)} labels, as in {CONTRACT}")
    if len(names) != len(wanted):
        what = f"{len(names)} labels, {CONTRACT} has {len(wanted)}"
    else:
        place = next(
            i for i, pair in enumerate(zip(names, wanted, strict=True)) if len({*pair}) > 1
        )
        what = f"label {place} is {names[place]!r}, {CONTRACT} says {wanted[place]!r}"
    return Finding("labels", subject, "failed", what, _AGAIN)


def _inside(bundle: Bundle, row: Format, session: Session) -> Iterator[Finding]:
    """What the file holds beside its weights: labels, contract, operators."""
    path = bundle.path(row.key)
    yield _compare_labels(row.path, session.labels(), bundle.contract)
    if row.runtime in CARRIERS:
        yield _compare_contract(row.path, embedded_contract(path, row), bundle.contract)
    if row.runtime == "litert" and path.suffix == ".tflite":
        try:
            problems = faults(read_operators(path), row)
        except UserError as error:
            problems = [one_line(error)]
        if not problems:
            yield Finding("operators", row.path, "ok", f"{SOUND[row.key]}, no stray TRANSPOSE")
        for problem in problems[:_SHOWN]:
            yield Finding("operators", row.path, "failed", problem, "export the model again")
        if len(problems) > _SHOWN:
            more = f"and {len(problems) - _SHOWN} more like these"
            yield Finding("operators", row.path, "failed", more, "export the model again")


def _compare_contract(subject: str, text: str | None, contract: Contract) -> Finding:
    if text is None:
        return Finding("contract", subject, "failed", "it holds no contract", _AGAIN)
    try:
        inner: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return Finding("contract", subject, "failed", f"no JSON: {error}", _AGAIN)
    wanted = json.loads(contract.dumps())
    short = json.loads(contract.dumps(compact=True))  # as TFLite files have it
    if inner in (wanted, short):
        return Finding("contract", subject, "ok", f"the same as {CONTRACT}")
    differing = _differing(inner, wanted, short) if isinstance(inner, dict) else []
    what = f"differs from {CONTRACT} in: {', '.join(differing) or 'everything'}"
    return Finding("contract", subject, "failed", what, _AGAIN)


def _differing(
    inner: dict[str, Any], wanted: dict[str, Any], short: dict[str, Any], within: str = ""
) -> list[str]:
    """The keys that are not as in either form of the contract: 'name', 'output.thresholds'."""
    found = []
    for key in sorted(inner.keys() | wanted.keys()):
        own, theirs, brief = inner.get(key), wanted.get(key), short.get(key)
        if own in (theirs, brief):
            continue
        if isinstance(own, dict) and isinstance(theirs, dict) and isinstance(brief, dict):
            found += _differing(own, theirs, brief, f"{within}{key}.")
        else:
            found.append(f"{within}{key}")
    return found


def _golden(
    bundle: Bundle,
) -> tuple[golden.Recorded | None, list[tuple[str, Pixels]], Finding | None]:
    """The recorded answers and the golden pixels, or a drawn ramp where there are none."""
    try:
        recorded = golden.load(bundle)
        if recorded is not None:
            folder = bundle.root / GOLDEN
            pictures = [
                (name, square_pixels(folder / name, bundle.contract)) for name in recorded.expected
            ]
            return recorded, pictures, None
        problem = Finding("golden", GOLDEN, "not run", "the bundle has no golden answers")
    except UserError as error:
        problem = Finding("golden", GOLDEN, "failed", one_line(error), _AGAIN)
    rule = bundle.contract.preprocessing
    count = rule.height * rule.width * 3
    ramp = (np.arange(count) * 7 % 256).astype(np.uint8).reshape(rule.height, rule.width, 3)
    return None, [("a drawn ramp", ramp)], problem


def _answers(
    contract: Contract,
    entry: Opened,
    session: Session,
    recorded: golden.Recorded | None,
    pictures: list[tuple[str, Pixels]],
) -> Iterator[Finding]:
    """Run the file: are its outputs probabilities, and those that were recorded?"""
    row = entry.row
    if entry.evidence == "evaluated":
        pictures = pictures[:_EVALUATED_IMAGES]
    replays = []
    for name, pixels in pictures:
        try:
            found = session.probabilities(pixels)
        except UserError as error:
            yield Finding("probabilities", row.path, "failed", one_line(error), _AGAIN)
            return
        problem = _not_probabilities(found, contract)
        if problem:
            yield Finding("probabilities", row.path, "failed", f"{name}: {problem}", _AGAIN)
            return
        if recorded is not None:
            replays.append(recorded.replay(name, row.key, found))
    yield Finding("probabilities", row.path, "ok", f"sound on {len(pictures)} image(s)")
    bad = [replay for replay in replays if replay.status == "failed"]
    ran = [replay for replay in replays if replay.status != "not run"]
    if bad:
        what = "; ".join(f"{replay.image}: {replay.reason}" for replay in bad)
        yield Finding("golden", row.path, "failed", what, _AGAIN)
    elif ran:
        exact = sum(replay.exact for replay in ran)
        what = f"{len(ran)} answers as recorded, {exact} of them to the last bit"
        yield Finding("golden", row.path, "ok", what)
    elif recorded is not None:
        yield Finding("golden", row.path, "not run", "nothing was recorded for it")


def _not_probabilities(found: Probabilities, contract: Contract) -> str:
    """Why an output cannot be probabilities; empty if it can."""
    if found.shape != (len(contract.labels),):
        return f"{found.shape} values for {len(contract.labels)} labels"
    if not np.isfinite(found).all():
        return "NaN or infinity"
    if found.min() < -MAX_RANGE_ERROR or found.max() > 1 + MAX_RANGE_ERROR:
        return f"values from {found.min():.3g} to {found.max():.3g}"
    total = float(found.astype(np.float64).sum())
    if contract.activation == "softmax" and abs(total - 1) > MAX_SUM_ERROR:
        return f"they sum to {total:.4f}"
    return ""
