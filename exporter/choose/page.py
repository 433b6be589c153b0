"""The comparison as one self-contained HTML page, and its pictures as files of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup, escape

from exporter import __version__
from exporter.choose import advice, charts, words
from exporter.choose.decide import Decision, decide, standard_error
from exporter.choose.marks import GATE, LEGEND, marks
from exporter.choose.results import Comparison, Outcome

INT8 = "tflite-int8"
LOST = "lost"
_ORDER = ("torch", "onnx", "tflite-float32", "tflite-float16", INT8)


@dataclass(frozen=True)
class Cell:
    """One figure; a line at its left where a group of columns begins."""

    said: str
    title: str = ""
    edge: bool = False


@dataclass(frozen=True)
class Row:
    """One candidate in the table."""

    name: str
    marks: str
    said: str
    taken: bool
    failure: str
    start: str
    cells: tuple[Cell, ...]


Group = tuple[str, tuple[str, ...], Callable[[Outcome, str], Cell]]


def render(comparison: Comparison) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter.choose"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(file=words.file, parted=_parted, commands=commands)
    decision = decide(comparison)
    groups = _groups(comparison)
    rows = [_row(outcome, decision, groups) for outcome in comparison.outcomes]
    first, _, rest = advice.verdict(comparison, decision).partition(". ")
    return environment.get_template("choose.html.j2").render(
        comparison=comparison,
        decision=decision,
        css=_css(),
        limits=advice.limits(comparison.budget),
        verdict=(first + "." * bool(rest), rest),
        remarks=advice.remarks(comparison, decision),
        accuracy=_both(charts.accuracy_chart, comparison, decision),
        size=_both(charts.size_chart, comparison, decision),
        standing={each.file for each in decision.judged},
        any_over=any(not each.fits for each in decision.judged),
        numbered=len(decision.judged) > charts.NARROW.names,
        groups=[(title, keys) for title, keys, _ in groups],
        columns=4 + sum(len(keys) for _, keys, _ in groups),
        rows=rows,
        legend=_legend(rows, comparison),
        version=__version__,
    )


def pictures(comparison: Comparison) -> tuple[str, str]:
    """Accuracy against latency, and size against what int8 costs, each as an SVG file's text.

    Each is '' where nothing of it was measured.
    """
    decision = decide(comparison)
    style = f"<style>{_css()} svg {{ background: var(--card); }}</style>"
    accuracy, size = (
        str(draw(comparison, decision, charts.WIDE)).replace("<defs>", f"{style}<defs>", 1)
        for draw in (charts.accuracy_chart, charts.size_chart)
    )
    return accuracy, size


def _css() -> Markup:
    """The colours of the pictures; ours, so it needs no escaping."""
    path = files("exporter.choose").joinpath("templates/charts.css")
    return Markup(path.read_text(encoding="utf-8"))


Picture = Callable[[Comparison, Decision, charts.Shape], Markup]


def _both(draw: Picture, comparison: Comparison, decision: Decision) -> dict[str, Markup] | None:
    wide = draw(comparison, decision, charts.WIDE)
    return {"wide": wide, "narrow": draw(comparison, decision, charts.NARROW)} if wide else None


def _parted(name: str) -> Markup:
    """A name that may be broken where an option begins."""
    pieces = words.broken(name, 1).splitlines()
    return Markup("<wbr>").join(escape(piece.strip()) for piece in pieces)


def commands(sentence: str) -> Markup:
    """A sentence, its quoted commands as code and its flags kept on one line."""
    text = re.sub(r"&#39;((?:exporter|--)[^&]*)&#39;", r"<code>\1</code>", str(escape(sentence)))
    return Markup(
        re.sub(r"(--[a-z0-9-]+ [0-9.]+[0-9]|--[a-z0-9-]+)", r'<span class="flag">\1</span>', text)
    )


def _row(outcome: Outcome, decision: Decision, groups: Iterable[Group]) -> Row:
    judged = decision.of(outcome)
    signs = marks(decision, outcome)
    cells = [
        Cell(_count(outcome.parameters)),
        Cell(_count(outcome.multiply_adds)),
    ]
    for _, keys, figure in groups:
        for place, key in enumerate(keys):
            cell = figure(outcome, key)
            cells.append(Cell(cell.said, cell.title, place == 0))
    cells.append(Cell(words.duration(outcome.training_seconds), edge=True))
    return Row(
        outcome.name,
        signs,
        ", ".join(LEGEND[sign] for sign in signs),
        judged is not None and judged is decision.taken,
        outcome.failure,
        "from scratch" if outcome.start == "scratch" else outcome.start,
        tuple(cells),
    )


def _groups(comparison: Comparison) -> list[Group]:
    """Columns by what was measured: title, format keys, and how a figure is said."""

    def size(of: Outcome, key: str) -> Cell:
        return Cell(words.figure(of.sizes[key] / 1e6) if key in of.sizes else "–")

    def latency(of: Outcome, key: str) -> Cell:
        if key not in of.latency:
            return Cell("–")
        return Cell(words.figure(of.latency[key].median), f"p90 {words.ms(of.latency[key].p90)}")

    def memory(of: Outcome, key: str) -> Cell:
        return Cell(f"{of.peak_memory[key] / 1e6:.0f}" if key in of.peak_memory else "–")

    def accuracy(of: Outcome, key: str) -> Cell:
        if key == LOST:
            drop = of.int8_drop
            return Cell("–" if drop is None else f"{100 * drop:.1f}", "PyTorch minus int8")
        if key not in of.accuracy:
            return Cell("–")
        share = of.accuracy[key]
        error = standard_error(share, of.test_images or comparison.test_images)
        failed = of.gates_failed.get(key, "")
        said = f"{GATE + ' ' if failed else ''}{100 * share:.1f}"
        said += f" ±{100 * error:.1f}" if key == INT8 else ""
        return Cell(said, f"failed its gate: {failed}" if failed else "")

    found = comparison.outcomes
    groups: list[Group] = [
        ("accuracy, %", (*_keys(of.accuracy for of in found), LOST), accuracy),
        ("latency, ms", _keys(of.latency for of in found), latency),
        ("size, MB", _keys(of.sizes for of in found), size),
        ("peak memory, MB", _keys(of.peak_memory for of in found), memory),
    ]
    return [group for group in groups if set(group[1]) - {LOST}]


def _legend(rows: Iterable[Row], comparison: Comparison) -> dict[str, str]:
    used = {sign for row in rows for sign in row.marks}
    if any(of.gates_failed and not of.failure for of in comparison.outcomes):
        used.add(GATE)
    return {sign: said for sign, said in LEGEND.items() if sign in used}


def _keys(figures: Iterable[Iterable[str]]) -> tuple[str, ...]:
    seen = {key for each in figures for key in each}
    first = [key for key in _ORDER if key in seen]
    return (*first, *sorted(seen - set(first)))


def _count(value: int) -> str:
    return words.count(value) if value else "–"
