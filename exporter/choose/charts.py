"""The two pictures of a comparison as inline SVG, drawn from numbers.

Colours come from `templates/charts.css`; shapes and words say the same without them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from exporter.choose import words
from exporter.choose.axes import Axis, ShareAxis, linear, scaled, shares
from exporter.choose.decide import MB, Decision, Judged, drop_noise
from exporter.choose.labels import LINE, Anchor, Box, Segment, place, width_of
from exporter.choose.results import Comparison, Outcome

INT8, FLOAT32 = "tflite-int8", "tflite-float32"


@dataclass(frozen=True)
class Shape:
    """A picture's size in pixels, its font, and how long names may be.

    Attributes:
        characters: a name is broken into lines where it is longer.
        names: with more candidates than this, points bear their numbers in the table.
    """

    width: int
    height: int
    size: float
    characters: int
    names: int
    left: int = 50
    right: int = 20
    top: int = 30
    bottom: int = 44


WIDE = Shape(960, 470, 13.5, 32, 40)
NARROW = Shape(440, 430, 13.0, 22, 5)


class _Canvas:
    """A picture in the making: what is drawn, and what names must keep clear of."""

    def __init__(self, shape: Shape, kind: str, title: str) -> None:
        self.shape, self.kind, self.title = shape, kind, title
        self.plot = Box(shape.left, shape.top, shape.width - shape.right,
                        shape.height - shape.bottom)  # fmt: skip
        self.parts: list[str] = []
        self.front: list[str] = []  # drawn over all else
        self.covered: list[Box] = []
        self.crossed: list[Segment] = []

    def frame(self, x: Axis, y: Axis | ShareAxis, x_says: str, y_says: str) -> None:
        """Grid, ticks and what the axes say."""
        plot = self.plot
        for value in y.ticks:
            self._line("grid", (plot.left, y.at(value), plot.right, y.at(value)))
            self.text("tick", plot.left - 7, y.at(value) + 4.5, f"{value:g}", "end")
        for value in x.ticks:
            self._line("grid", (x.at(value), plot.top, x.at(value), plot.bottom))
            self.text("tick", x.at(value), plot.bottom + 17, f"{value:g}", "middle")
        self.text("axis", plot.right, plot.bottom + 36, x_says, "end")
        self.text("axis", 4, 14, y_says, "start")

    def text(self, kind: str, x: float, y: float, said: str, anchor: str) -> None:
        self.parts.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(said)}</text>'
        )

    def _line(self, kind: str, line: Segment) -> None:
        x, y, x_end, y_end = line
        self.parts.append(
            f'<line class="{kind}" x1="{x:g}" y1="{y:g}" x2="{x_end:g}" y2="{y_end:g}"/>'
        )

    def line(self, kind: str, *points: tuple[float, float]) -> None:
        """A line through points, which names had better not lie on."""
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path class="{kind}" d="M{path}"/>')
        self.crossed += [(*one, *other) for one, other in itertools.pairwise(points)]

    def forbidden(self, x: float, said: str) -> None:
        """Hatch what lies right of a budget, and say so at the bottom of it."""
        plot = self.plot
        if not plot.left < x < plot.right:
            return
        self.parts.append(
            f'<rect class="over" x="{x:g}" y="{plot.top:g}" width="{plot.right - x:g}" '
            f'height="{plot.bottom - plot.top:g}" fill="url(#hatch-{self.kind})"/>'
        )
        self.line("budget", (x, plot.top), (x, plot.bottom))
        fits = plot.right - x > width_of(f"over {said}", self.shape.size) + 10
        said, side = (f"over {said}", "start") if fits else (f"budget: {said}", "end")
        wide = width_of(said, self.shape.size)
        left = x + 6 if fits else x - 6 - wide
        self.covered.append(Box(left - 2, plot.bottom - 22, left + wide + 2, plot.bottom))
        self.text("limit", x + 6 if fits else x - 6, plot.bottom - 8, said, side)

    def marker(self, kind: str, x: float, y: float, radius: float, said: str) -> None:
        """A disc with a tooltip; a cross over it where `kind` says 'out'."""
        title = f"<title>{escape(said)}</title>"
        self.front.append(
            f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}">{title}</circle>'
        )
        if "out" in kind.split():
            arm = radius * 0.62
            self.front.append(
                f'<path class="cross" d="M{x - arm:.1f} {y - arm:.1f}L{x + arm:.1f} {y + arm:.1f}'
                f'M{x - arm:.1f} {y + arm:.1f}L{x + arm:.1f} {y - arm:.1f}"/>'
            )
        self.covered.append(Box(x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1))

    def names(self, anchors: Sequence[Anchor], kinds: Sequence[str]) -> None:
        size = self.shape.size
        bounds = Box(self.plot.left + 2, self.plot.top + 2, self.plot.right, self.plot.bottom - 2)
        placed = place(anchors, bounds, self.covered, self.crossed, size)
        for anchor, found, kind in zip(anchors, placed, kinds, strict=True):
            if found.leader is not None:
                x, y, x_end, y_end = found.leader
                self.front.append(
                    f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{x_end:.1f}" '
                    f'y2="{y_end:.1f}"/>'
                )
            middle = (found.box.left + found.box.right) / 2
            side, x = "middle", middle
            if found.box.left >= anchor.x:
                side, x = "start", found.box.left
            elif found.box.right <= anchor.x:
                side, x = "end", found.box.right
            spans = "".join(
                f'<tspan x="{x:.1f}" y="{found.box.top + size * (LINE * row + 0.95):.1f}">'
                f"{escape(line.strip())}</tspan>"
                for row, line in enumerate(anchor.lines)
            )
            self.front.append(f'<text class="{kind}" text-anchor="{side}">{spans}</text>')

    def drawn(self) -> Markup:
        shape = self.shape
        head = (
            f'<svg class="chart {self.kind}" xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {shape.width} {shape.height}" font-size="{shape.size:g}" role="img" '
            f'aria-label="{escape(self.title)}">'
            f'<defs><pattern id="hatch-{self.kind}" width="7" height="7" '
            'patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<rect class="hatch-ground" width="7" height="7"/>'
            '<line class="hatch" x1="0" x2="0" y1="0" y2="7"/></pattern></defs>'
        )
        # every inserted text is escaped where it is drawn
        return Markup("".join([head, *self.parts, *self.front, "</svg>"]))


def accuracy_chart(comparison: Comparison, decision: Decision, shape: Shape) -> Markup:
    """Accuracy against latency: each candidate's file that ships, joined with its float file.

    Returns:
        The picture; '' where no candidate has figures.
    """
    judged = decision.judged
    if not judged:
        return Markup("")
    floats = {each.name: found for each in judged if (found := _float_point(each)) is not None}
    milliseconds = [*(each.ms for each in judged), *(ms for ms, _ in floats.values()),
                    *_given(comparison.budget.ms)]  # fmt: skip
    percents = [100 * max(each.accuracy - each.error, 0) for each in judged]
    percents += [100 * min(each.accuracy + each.error, (1 + each.accuracy) / 2) for each in judged]
    percents += [100 * share for _, share in floats.values()]
    canvas = _Canvas(shape, f"accuracy-{shape.width}", "Accuracy against latency")
    plot = canvas.plot
    x = scaled(milliseconds, plot.left, plot.right, 7 if shape is WIDE else 4)
    y = shares(percents, 50 / max(comparison.test_images, 1), plot.bottom, plot.top)
    scale = " (errors on a logarithmic scale)" if isinstance(y, ShareAxis) else ""
    says = f"accuracy on {comparison.test_images} test images, %{scale}"
    canvas.frame(x, y, "milliseconds an image", says)
    if comparison.budget.ms is not None:
        canvas.forbidden(x.at(comparison.budget.ms), f"{comparison.budget.ms:g} ms")
    _front(canvas, decision.front, x, y)
    for each in judged:
        at = (x.at(each.ms), y.at(100 * each.accuracy))
        if each.name in floats:
            ms, share = floats[each.name]
            canvas.line("joint", at, (x.at(ms), y.at(100 * share)))
        ends = [y.at(100 * (each.accuracy + sign * each.error)) for sign in (-1, 1)]
        canvas.line("error", *((at[0], min(max(end, plot.top), plot.bottom)) for end in ends))
    for name, (ms, share) in floats.items():
        said = f"{name}, float32: {words.ms(ms)}, {words.percent(share)}"
        canvas.marker("point float32", x.at(ms), y.at(100 * share), 4, said)
    points = [(each, x.at(each.ms), y.at(100 * each.accuracy)) for each in judged]
    _candidates(canvas, comparison, decision, points)
    return canvas.drawn()


def size_chart(comparison: Comparison, decision: Decision, shape: Shape) -> Markup:
    """Size of the int8 file against the accuracy that int8 lost, with the band of noise.

    Returns:
        The picture; '' where no candidate has an int8 file that was measured.
    """
    found = [
        (each, each.outcome.sizes[INT8] / MB, 100 * drop)
        for each in decision.judged
        if INT8 in each.outcome.sizes and (drop := each.outcome.int8_drop) is not None
    ]
    if not found:
        return Markup("")
    noise = 100 * band(comparison, [each.outcome for each, _, _ in found])
    canvas = _Canvas(shape, f"size-{shape.width}", "Size of int8 against the accuracy it lost")
    plot = canvas.plot
    sizes = [*(mb for _, mb, _ in found), *_given(comparison.budget.mb)]
    x = scaled(sizes, plot.left, plot.right, 7 if shape is WIDE else 4)
    y = linear([*(drop for _, _, drop in found), noise, -noise], plot.bottom, plot.top, 6,
               (-100.0, 100.0))  # fmt: skip
    top, bottom = y.at(min(noise, y.high)), y.at(max(-noise, y.low))
    canvas.parts.append(
        f'<rect class="noise" x="{plot.left}" y="{top:g}" width="{plot.right - plot.left:g}" '
        f'height="{bottom - top:g}"/>'
    )
    canvas.frame(x, y, "size of the int8 file, MB", "accuracy lost by int8, points")
    canvas.line("zero", (plot.left, y.at(0)), (plot.right, y.at(0)))
    said = f"noise: ± {noise:.1f}"
    canvas.text("limit", plot.left + 6, top + 15, said, "start")
    canvas.covered.append(
        Box(plot.left, top, plot.left + 10 + width_of(said, shape.size), top + 19)
    )
    if comparison.budget.mb is not None:
        canvas.forbidden(x.at(comparison.budget.mb), f"{comparison.budget.mb:g} MB")
    _candidates(canvas, comparison, decision, [(e, x.at(mb), y.at(drop)) for e, mb, drop in found])
    return canvas.drawn()


def band(comparison: Comparison, outcomes: Sequence[Outcome]) -> float:
    """One standard error of a drop, in 0..1: the median over the candidates."""
    noises = sorted(drop_noise(each, comparison.test_images) for each in outcomes)
    return noises[len(noises) // 2]


def _candidates(
    canvas: _Canvas,
    comparison: Comparison,
    decision: Decision,
    points: Iterable[tuple[Judged, float, float]],
) -> None:
    """Markers and names; the one to take has a ring and a bold name."""
    numbers = {each.name: place for place, each in enumerate(comparison.outcomes, 1)}
    many = len(decision.judged) > canvas.shape.names
    anchors, kinds = [], []
    for each, x, y in points:
        taken = each is decision.taken
        if taken:
            canvas.marker("ring", x, y, 11, each.name)
        file = each.file.removeprefix("tflite-")
        canvas.marker(f"point {file}{'' if each.fits else ' out'}", x, y, 6.5, _tooltip(each))
        name = f"{numbers[each.name]}" if many else words.broken(each.name, canvas.shape.characters)
        anchors.append(Anchor(x, y, tuple(name.splitlines()), 12 if taken else 7.5, taken))
        kinds.append("name taken" if taken else "name out" if not each.fits else "name")
    canvas.names(anchors, kinds)


def _tooltip(each: Judged) -> str:
    return (
        f"{each.name}, {words.file(each.file)}: {words.ms(each.ms)}, "
        f"{words.percent(each.accuracy)} ± {100 * each.error:.1f}, {words.megabytes(each.bytes)}"
    )


def _front(canvas: _Canvas, front: Sequence[Judged], x: Axis, y: Axis | ShareAxis) -> None:
    """The best accuracy within each latency: a line that only rises."""
    points = [(x.at(front[0].ms), canvas.plot.bottom)]
    for each in front:
        points += [(x.at(each.ms), points[-1][1]), (x.at(each.ms), y.at(100 * each.accuracy))]
    points.append((canvas.plot.right, points[-1][1]))
    canvas.line("front", *points)


def _float_point(each: Judged) -> tuple[float, float] | None:
    """Latency and accuracy of the float32 file, where that is not the one that stands here."""
    of = each.outcome
    if each.file == FLOAT32 or FLOAT32 not in of.latency or FLOAT32 not in of.accuracy:
        return None
    return of.latency[FLOAT32].median, of.accuracy[FLOAT32]


def _given(limit: float | None) -> list[float]:
    """A limit, and room beyond it."""
    return [] if limit is None else [limit, 1.6 * limit]
