"""An evaluation on a terminal of 80 columns: figures, what is worst, what to do next."""

from __future__ import annotations

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from exporter.evaluate import words
from exporter.evaluate.results import Evaluation, Measured

_WORST = 5
_BROKEN = 5
_NAME = 40


def table(evaluation: Evaluation) -> RenderableType:
    """Everything but where the files were written and what is next."""
    shown = evaluation.shown
    parts: list[RenderableType] = [Text(words.scope(evaluation))]
    if len(evaluation.files) == 1:
        parts.append(Text(f"{shown.version}, {words.how(shown)}", "dim"))
    parts.append(Text(""))
    parts.append(_files(evaluation) if len(evaluation.files) > 1 else _figures(evaluation))
    for each in evaluation.files:
        if each.status != "passed":
            style = "red" if each.status == "failed" else "yellow"
            parts.append(Text(f"{each.key}: {each.status}: {each.reason}", style))
    parts.append(Text(""))
    parts += _worst(evaluation)
    parts += [Text(f"- {line}") for line in words.safety_lines(evaluation)]
    if shown.chosen is not None:
        lines = words.chosen_lines(shown.chosen, evaluation.threshold)
        parts += [Text(f"- {line}", "bold" if not place else "")
                  for place, line in enumerate(lines)]  # fmt: skip
    parts.append(Text(f"- {words.calibrated(shown)}"))
    parts += [
        Text(f"left out: {each.name}: {each.reason}", "yellow")
        for each in evaluation.broken[:_BROKEN]
    ]
    if len(evaluation.broken) > _BROKEN:
        parts.append(Text(f"and {len(evaluation.broken) - _BROKEN} more broken images", "yellow"))
    parts += [Text(f"note: {note}", "dim") for note in evaluation.notes]
    return Group(*parts)


def _figures(evaluation: Evaluation) -> Table:
    """One file: a figure a line."""
    scores = evaluation.shown.scores
    assert scores is not None
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(style="dim")
    many = bool(evaluation.thresholds)
    rows: list[tuple[str, str, str]] = [
        ("accuracy", words.percent(scores.accuracy),
         "all classes of an image found and no others" if many else ""),
    ]  # fmt: skip
    if scores.top is not None:
        rows.append((f"top-{scores.top_k}", words.percent(scores.top), ""))
    if scores.mean_average_precision is not None:
        rows.append(("mAP", words.number(scores.mean_average_precision), ""))
    rows += [
        ("macro F1", words.number(scores.macro.f1), f"weighted {scores.weighted.f1:.3f}"),
        ("macro precision", words.number(scores.macro.precision), ""),
        ("macro recall", words.number(scores.macro.recall), ""),
    ]
    for row in rows:
        grid.add_row(*row)
    return grid


def _files(evaluation: Evaluation) -> Table:
    """A bundle: a file a line, the model it was made from first."""
    safe = evaluation.shown.safety is not None
    many = bool(evaluation.thresholds)
    columns = ["file", "how", "images", "accuracy", "mAP" if many else "top-5", "F1", "ECE"]
    grid = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for place, name in enumerate([*columns, *(["missed", "not sure"] if safe else [])]):
        justify: JustifyMethod = "left" if place < 2 else "right"
        grid.add_column(name, justify=justify, no_wrap=True)
    for each in evaluation.files:
        grid.add_row(*_cells(each, safe, many))
    return grid


def _cells(each: Measured, safe: bool, many: bool) -> list[Text | str]:
    scores, found = each.scores, each.calibration
    if scores is None or found is None:
        style = "red" if each.status == "failed" else "yellow"
        return [each.key, Text(words.how(each), style)]
    accuracy = f"{100 * scores.accuracy:.1f}"
    if each.reference_accuracy is not None:
        accuracy += f" {100 * (scores.accuracy - each.reference_accuracy):+.1f}"
    second = scores.mean_average_precision if many else scores.top
    cells: list[Text | str] = [
        each.key, words.how(each), str(each.images), accuracy,
        words.NONE if second is None else f"{second:.3f}" if many else f"{100 * second:.1f}",
        f"{scores.macro.f1:.3f}", f"{100 * found.error:.1f}",
    ]  # fmt: skip
    if safe and each.safety is not None:
        for value in (each.safety.called_harmless, each.safety.not_sure_of_all):
            cells.append(words.NONE if value.rate is None else f"{100 * value.rate:.1f}")
    return cells


def _worst(evaluation: Evaluation) -> list[RenderableType]:
    """The classes with the lowest F1 and the pairs that are confused most."""
    scores = evaluation.shown.scores
    assert scores is not None
    ranked = sorted(
        (each.f1, -each.support, name, each)
        for name, each, counted in zip(
            evaluation.names, scores.classes, scores.counted, strict=True
        )
        if counted and each.support and each.f1 < 1
    )[:_WORST]
    parts: list[RenderableType] = []
    if ranked:
        grid = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
        grid.add_column("lowest F1", no_wrap=True, max_width=_NAME, overflow="ellipsis")
        for name in ("F1", "precision", "recall", "images"):
            grid.add_column(name, justify="right", no_wrap=True)
        for f1, _, name, each in ranked:
            grid.add_row(
                Text(name), f"{f1:.3f}", f"{each.precision:.3f}", f"{each.recall:.3f}",
                str(each.support),
            )  # fmt: skip
        parts += [grid, Text("")]
    lines = words.confused(evaluation, _WORST)
    parts += [Text(f"- {line}") for line in lines]
    return [*parts, Text("")] if lines else parts
