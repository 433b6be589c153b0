"""Axes, names beside points, and the two pictures."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.choose import axes, charts
from exporter.choose.decide import decide, standard_error
from exporter.choose.labels import Anchor, Box, place, width_of
from exporter.choose.results import Budget, Comparison, Outcome
from support.comparisons import INT8, comparison, five, outcome, twelve, two

SVG = "{http://www.w3.org/2000/svg}"
BOTH = pytest.mark.parametrize("shape", [charts.WIDE, charts.NARROW], ids=["wide", "narrow"])


def elements(markup: str, kind: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(markup)
    return [each for each in root.iter() if kind in each.get("class", "").split()]


def drawn(said: Comparison, shape: charts.Shape = charts.WIDE) -> str:
    return str(charts.accuracy_chart(said, decide(said), shape))


def sized(said: Comparison, shape: charts.Shape = charts.WIDE) -> str:
    return str(charts.size_chart(said, decide(said), shape))


# axes


def test_a_logarithmic_axis_puts_equal_ratios_equally_far() -> None:
    axis = axes.scaled([0.2, 410.0], 0, 1000)
    assert axis.log
    assert axis.at(4) - axis.at(1) == pytest.approx(axis.at(80) - axis.at(20), abs=0.2)
    assert axis.ticks == (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


def test_a_narrow_spread_is_drawn_linearly_from_zero() -> None:
    axis = axes.scaled([2.0, 6.0], 0, 600)
    assert not axis.log
    assert (axis.low, axis.high) == (0.0, 8.0)
    assert axis.at(4.0) == 300


def test_shares_are_drawn_by_their_errors_where_those_are_spread() -> None:
    axis = axes.shares([41.0, 96.0], 0.2, 400, 0)
    assert isinstance(axis, axes.ShareAxis)
    assert axis.at(80) - axis.at(90) == pytest.approx(axis.at(90) - axis.at(95), abs=0.2)
    assert axis.ticks == (40.0, 60.0, 70.0, 80.0, 90.0, 92.0, 94.0, 96.0)
    assert math.isfinite(axis.at(100))
    assert isinstance(axes.shares([91.0, 95.0], 0.2, 400, 0), axes.Axis)


def test_an_axis_of_shares_ends_at_all_and_nothing() -> None:
    axis = axes.linear([99.0, 100.0, 98.6], 400, 0, bounds=(0.0, 100.0))
    assert axis.high == 100
    one = axes.linear([100.0], 400, 0, bounds=(0.0, 100.0))
    assert one.low < 100 == one.high


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=6))
def test_all_values_lie_on_the_axis_and_ticks_on_it_too(values: list[float]) -> None:
    axis = axes.scaled(values, 50, 950)
    assert all(50 <= axis.at(value) <= 950 for value in values)
    assert all(50 <= axis.at(tick) <= 950.1 for tick in axis.ticks)
    assert list(axis.ticks) == sorted(axis.ticks)
    assert len(axis.ticks) >= 2


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_all_shares_lie_on_their_axis(values: list[float]) -> None:
    axis = axes.shares(values, 0.2, 400, 0)
    pixels = [axis.at(value) for value in sorted(values)]
    assert all(0 <= pixel <= 400 for pixel in pixels)
    assert pixels == sorted(pixels, reverse=True)
    assert len(axis.ticks) >= 2


# names


def test_a_line_in_a_box_has_the_length_within() -> None:
    box = Box(0, 0, 10, 10)
    assert box.crossed((-5, 5, 15, 5)) == pytest.approx(10)
    assert box.crossed((0, 0, 10, 10)) == pytest.approx(math.sqrt(200))
    assert box.crossed((2, 2, 5, 6)) == pytest.approx(5)
    assert box.crossed((-5, 12, 15, 12)) == box.crossed((-3, 8, 4, 15)) == 0


def test_overlap_is_the_common_area() -> None:
    box = Box(0, 0, 10, 4)
    assert box.overlap(Box(8, 2, 20, 20)) == 4
    assert box.overlap(Box(10, 0, 20, 4)) == 0


def test_broad_letters_are_broader() -> None:
    assert width_of("mm", 10) > width_of("aa", 10) > width_of("ii", 10)
    assert width_of("ab", 20) == 2 * width_of("ab", 10)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(80, 700), st.integers(60, 340)), min_size=1, max_size=8, unique=True
    )
)
def test_names_cover_neither_each_other_nor_points(points: list[tuple[int, int]]) -> None:
    anchors = [Anchor(x, y, ("mobilenet_v2",)) for x, y in points]
    bounds = Box(0, 0, 800, 400)
    marks = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    found = [each.box for each in place(anchors, bounds, marks, [], 13)]
    for i, box in enumerate(found):
        assert box.overlap(bounds) == pytest.approx(box.area)
        assert sum(box.overlap(mark) for mark in marks) == 0
        assert sum(box.overlap(other) for other in found[:i]) == 0


def test_a_name_moves_off_a_line() -> None:
    anchor = Anchor(100, 100, ("resnet18",))
    bounds = Box(0, 0, 400, 200)
    (free,) = place([anchor], bounds, [], [], 13)
    assert free.leader is None
    line = (100.0, 100.0, 400.0, 100.0)
    (moved,) = place([anchor], bounds, [], [line], 13)
    assert free.box.crossed(line) > 0 == moved.box.crossed(line)


# pictures


@BOTH
@pytest.mark.parametrize("said", [two(), five(), twelve()], ids=["two", "five", "twelve"])
def test_pictures_are_well_formed_and_all_is_within(said: Comparison, shape: charts.Shape) -> None:
    for markup in (drawn(said, shape), sized(said, shape)):
        for each in ElementTree.fromstring(markup).iter(f"{SVG}circle"):
            assert 0 < float(each.attrib["cx"]) < shape.width
            assert 0 < float(each.attrib["cy"]) < shape.height
        numbers = re.findall(r"-?\d+\.?\d*", " ".join(re.findall(r' d="([^"]*)"', markup)))
        assert all(-1 <= float(number) <= shape.width + 1 for number in numbers)


def test_each_candidate_has_a_marker_where_its_figures_say() -> None:
    said = five()
    found = decide(said)
    marks = elements(drawn(said), "int8")
    assert len(marks) == 4
    places = {}
    for mark in marks:
        title = mark.find(f"{SVG}title")
        assert title is not None
        assert title.text is not None
        places[title.text.split(",")[0]] = (float(mark.attrib["cx"]), float(mark.attrib["cy"]))
    across = sorted(found.judged, key=lambda each: each.ms)
    assert sorted(places, key=lambda name: places[name][0]) == [each.name for each in across]
    upward = sorted(found.judged, key=lambda each: -each.accuracy)
    assert sorted(places, key=lambda name: places[name][1]) == [each.name for each in upward]
    assert len(elements(drawn(said), "float32")) == 4


def test_the_one_to_take_has_a_ring_and_those_over_a_cross() -> None:
    assert len(elements(drawn(five()), "ring")) == 1
    assert len(elements(drawn(five()), "cross")) == 1
    none = replace(five(), budget=Budget(0.1))
    assert len(elements(drawn(none), "ring")) == 0
    assert len(elements(drawn(none), "cross")) == 4
    assert len(elements(drawn(replace(five(), budget=Budget())), "over")) == 0


def test_a_file_that_stands_for_int8_has_its_own_colour() -> None:
    assert len(elements(drawn(twelve()), "float16")) == 1


def test_the_front_goes_through_its_points_and_only_rises() -> None:
    (front,) = elements(drawn(five()), "front")
    pairs = re.findall(r"(-?[\d.]+) (-?[\d.]+)", front.attrib["d"])
    points = [(float(x), float(y)) for x, y in pairs]
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(points))
    corners = {
        (float(mark.attrib["cx"]), float(mark.attrib["cy"]))
        for mark in elements(drawn(five()), "int8")
    }
    assert len(corners & set(points)) == len(decide(five()).front) == 3


def test_the_budget_is_where_it_is() -> None:
    markup = drawn(comparison(outcome("at_the_limit", 20.0), outcome("b", 2.0), ms=20))
    (line,) = elements(markup, "budget")
    x = float(line.attrib["d"].removeprefix("M").split()[0])
    assert float(elements(markup, "int8")[0].attrib["cx"]) == x
    (zone,) = elements(markup, "over")
    assert float(zone.attrib["x"]) == x
    assert x + float(zone.attrib["width"]) == charts.WIDE.width - charts.WIDE.right


def test_error_bars_are_one_standard_error_long() -> None:
    said = comparison(outcome("a", 2.0, 0.9), outcome("b", 3.0, 0.8))
    bars = elements(drawn(said), "error")
    lengths = [
        abs(float(a) - float(b))
        for a, b in (re.findall(r" ([\d.]+)", bar.attrib["d"]) for bar in bars)
    ]
    errors = [standard_error(share, 272) for share in (0.9, 0.8)]
    assert lengths[0] / lengths[1] == pytest.approx(errors[0] / errors[1], rel=0.01)


def test_the_band_of_noise_is_centred_on_zero() -> None:
    root = sized(five())
    (noise,) = elements(root, "noise")
    (zero,) = elements(root, "zero")
    middle = float(noise.attrib["y"]) + float(noise.attrib["height"]) / 2
    assert float(zero.attrib["d"].split()[1].split("L")[0]) == pytest.approx(middle, abs=0.2)
    known = [replace(each, agreement={INT8: 0.99}) for each in five().outcomes]
    narrower = elements(sized(replace(five(), outcomes=tuple(known))), "noise")[0]
    assert float(narrower.attrib["height"]) < float(noise.attrib["height"])


def test_many_candidates_bear_numbers_on_a_phone() -> None:
    names = {"".join(each.itertext()) for each in elements(drawn(twelve(), charts.NARROW), "name")}
    assert names == {str(number) for number in range(1, 13)}
    wide = {"".join(each.itertext()) for each in elements(drawn(twelve()), "name")}
    assert "mobilenet_v1:width_mult=0.25:input_size=128" in wide


def test_what_was_not_measured_is_not_drawn() -> None:
    failed = comparison(Outcome("a", "a", {}, failure="no"))
    assert drawn(failed) == sized(failed) == ""
    less = outcome("a", gates_failed={INT8: "off"})
    sizes = {key: size for key, size in less.sizes.items() if key != INT8}
    assert sized(comparison(replace(less, sizes=sizes))) == ""


def test_names_are_escaped() -> None:
    for picture in (drawn, sized):
        markup = picture(comparison(outcome("<b>&'\"")))
        assert "<b>" not in markup
        (name,) = elements(markup, "name")
        assert "".join(name.itertext()) == "<b>&'\""


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_all_right_and_all_wrong_can_be_drawn(accuracy: float) -> None:
    assert elements(drawn(comparison(outcome("a", 2.0, accuracy))), "point")
    mixed = comparison(outcome("a", 2.0, accuracy), outcome("b", 2.0, 0.5))
    assert len(elements(drawn(mixed), "int8")) == 2
