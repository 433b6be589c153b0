"""`exporter evaluate`: run it, show it, write it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from exporter.evaluate import (
    files,
    measuring,
    photographs,
    pictures,
    running,
    temperature,
    terminal,
)
from exporter.evaluate.photographs import Photographs
from exporter.evaluate.results import Evaluation
from exporter.evaluate.subject import Subject, find
from exporter.prove.opened import GetRuntime
from exporter.prove.runtimes import registry
from models.errors import UserError

__all__ = ["EvaluateRequest", "evaluate", "fit_temperature"]


@dataclass(frozen=True)
class EvaluateRequest:
    """What was asked for.

    Attributes:
        subject: a checkpoint, a run's folder, a bundle or one file.
        data: a folder of class folders, a CSV table or COCO annotations.
        images: where the files lie that a table or annotations name.
        class_map: other names for the data's classes, see `models.data.class_map`.
        contract: contract.json of a lone file that carries none.
        out: the folder to write; None for NAME-evaluation beside the subject.
        limit: at most so many photographs, spread evenly.
        evaluated: at most so many for files that are evaluated (Core ML) or emulated.
        most_missed: choose a threshold at which at most this share of venomous species is
            called harmless; in [0, 1).
        threads: of every runtime; None for all of the processor's, one for a bundle.
    """

    subject: Path
    data: Path
    images: Path | None = None
    class_map: Path | None = None
    contract: Path | None = None
    out: Path | None = None
    limit: int | None = None
    evaluated: int | None = None
    most_missed: float | None = None
    threads: int | None = None


def evaluate(request: EvaluateRequest, get_runtime: GetRuntime = registry.get) -> Evaluation:
    """Measure, show and write.

    Raises:
        UserError: the model, the data or the folder cannot be used.
        MissingExtraError: torchmetrics, matplotlib or a single file's runtime is missing.
    """
    subject = find(request.subject, request.contract)
    out = request.out or subject.out
    files.require_folder(out)
    pictures.require()
    if request.most_missed is not None:
        _require_rate(request.most_missed, subject)
    console = Console()
    chosen = _read(request, subject, console)
    if request.most_missed is not None:
        _require_venomous(chosen, subject)
    with _bar(console, "Classifying", len(chosen.each)) as step:
        answered, whole, broken = running.run(
            subject.entries, chosen.each, subject.contract,
            threads=request.threads or (1 if subject.whole else os.cpu_count() or 1),
            evaluated=request.evaluated, on_image=step, get_runtime=get_runtime,
        )  # fmt: skip
    evaluation, answers = measuring.evaluate(
        str(request.subject), subject.contract, chosen, answered, whole, broken,
        request.most_missed, _notes(subject, chosen, answered),
    )  # fmt: skip
    console.print(terminal.table(evaluation))
    files.write(evaluation, answers, subject.contract, out)
    _say(console, f"Wrote {out / files.PAGE}, and beside it {_others(out)}")
    for line in _next(evaluation, subject, request):
        _say(console, line)
    return evaluation


def fit_temperature(request: EvaluateRequest, to: Path | None) -> temperature.Fitted:
    """Fit a checkpoint's temperature, say what it does, and write the checkpoint.

    Args:
        to: where the checkpoint goes; None puts it in the old one's place.

    Raises:
        UserError: the subject is no checkpoint, or the data or the file cannot be used.
    """
    subject = find(request.subject, request.contract)
    path = subject.checkpoint
    if path is None:
        raise UserError(
            f"{request.subject} is no checkpoint.",
            "a temperature is part of the weights: it is fitted before the export",
            "fit it on the checkpoint, and export that",
        )
    console = Console()
    chosen = _read(request, subject, console)
    with _bar(console, "Classifying", len(chosen.each)) as step:
        found = temperature.fit(path, chosen, to or path, step)
    for each in found.broken:
        console.print(f"left out: {escape(each.name)}: {escape(each.reason)}", style="yellow")
    was = "" if found.before == 1 else f" (it was {found.before:.3f})"
    console.print(f"temperature {found.temperature:.3f}{was}, on {found.images} images")
    if found.note:
        console.print(found.note, style="yellow")
    if found.error_after is not None:
        _say(
            console,
            f"calibration error {100 * found.error_before:.1f} % before, "
            f"{100 * found.error_after:.1f} % after: each half of the images "
            "judged with the temperature of the other half",
        )
    console.print(f"[bold green]Wrote {escape(str(to or path))}[/]", highlight=False)
    _say(console, f"Next: exporter evaluate {to or path} --data IMAGES that it was not fitted on")
    return found


def _read(request: EvaluateRequest, subject: Subject, console: Console) -> Photographs:
    with console.status("Reading the data"):
        found = photographs.read(request.data, request.images, request.class_map)
    return photographs.prepare(found, subject.contract, request.limit)


def _require_rate(most: float, subject: Subject) -> None:
    if not 0 <= most < 1:
        raise UserError(
            f"--most-missed {most:g} is no share.",
            "it is the share of venomous species that may be called harmless",
            "give for example 0.01 for one in a hundred",
        )
    if subject.contract.activation == "sigmoid":
        raise UserError(
            "--most-missed goes with a model that answers one class an image.",
            "with several classes an image their own thresholds decide, not one for 'not sure'",
            "lower the thresholds of the venomous classes, and evaluate again",
        )
    if not measuring.has_attributes(subject.contract):
        raise UserError(
            "--most-missed was given, and no class is known to be venomous.",
            "the labels of the model have no attribute venomous: yes",
            'train or export with labels such as {"name": "adder", "venomous": "yes"}',
        )


def _require_venomous(chosen: Photographs, subject: Subject) -> None:
    labels = subject.contract.labels
    if not any(labels[index].venomous == "yes" for each in chosen.each for index in each.classes):
        raise UserError(
            f"{chosen.source} has no image of a venomous species.",
            "--most-missed counts how many of those are called harmless",
            "evaluate on images of venomous species too",
        )


def _notes(subject: Subject, chosen: Photographs, answered: list[running.Answered]) -> list[str]:
    notes = [note.rstrip(".") for note in chosen.notes]
    if len(chosen.each) < chosen.total:
        notes.append(f"{len(chosen.each)} of {chosen.total} images, spread evenly over the set")
    if chosen.absent:
        some = ", ".join(chosen.absent[:5]) + (", ..." if len(chosen.absent) > 5 else "")
        notes.append(
            f"{len(chosen.absent)} of the model's {len(subject.contract.labels)} classes "
            f"have no image here: {some}"
        )
    same = photographs.calibrated_on(subject.bundle, chosen.each)
    if same:
        notes.append(f"int8 was calibrated on {same} of these images, which are no test of it")
    for evidence in ("evaluated", "emulated"):
        keys = [each.opened.row.key for each in answered
                if each.works and each.opened.evidence == evidence]  # fmt: skip
        if keys:
            meaning = "computed by a strict reading of the file" if evidence == "evaluated" else (
                "run on an emulated processor"
            )  # fmt: skip
            notes.append(f"{evidence}: {meaning}: {', '.join(keys)}")
    return notes


def _next(evaluation: Evaluation, subject: Subject, request: EvaluateRequest) -> Iterator[str]:
    """What to do now."""
    chosen = evaluation.shown.chosen
    model = str(subject.checkpoint or "CHECKPOINT")
    if chosen is not None and chosen.threshold is not None:
        yield f"Next: exporter export {model} --threshold {chosen.threshold:.12g}"
        yield "Then count on images that the threshold was not chosen on."
        return
    found = evaluation.shown.calibration
    if subject.checkpoint is not None and found is not None and found.error_after is not None:
        if not found.note and found.error_after < found.error - 0.01:
            yield f"Next: exporter evaluate {model} --fit-temperature --data VALIDATION"
            return
        yield f"Next: exporter export {model} --calibration {request.data}"
    elif evaluation.shown.safety is not None and request.most_missed is None:
        yield f"Next: exporter evaluate {request.subject} --data {request.data} --most-missed 0.01"


def _others(out: Path) -> str:
    return ", ".join(sorted(path.name for path in out.iterdir() if path.name != files.PAGE))


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    with Progress(
        TextColumn(what), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
