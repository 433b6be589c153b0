"""Two halves of the calibration set: when they differ, and when that is only noise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import target_graphs

from exporter.convert.graph import Fused, GlobalAveragePool, Graph
from exporter.convert.quantize import calibrate as calibration
from exporter.convert.quantize.plan import Affine
from exporter.convert.quantize.ranges import stability as module
from exporter.convert.quantize.ranges.rules import Range
from exporter.convert.quantize.ranges.stability import (
    FEWEST,
    ImageExtremes,
    Stability,
    observed,
    stability,
)
from support import nets

SIZE = 12
Image = np.ndarray


@pytest.fixture(scope="module")
def graph() -> Graph:
    sketch = target_graphs.Sketch(SIZE, SIZE, seed=3)
    sketch.input = replace(sketch.input, scale=1 / 64, zero_point=0)
    sketch.conv(16, 3, 3, 3, padding=(1, 1, 1, 1), fused=Fused.RELU)
    sketch.conv(16, 16, 3, 3, fused=Fused.RELU)
    sketch.add(GlobalAveragePool)
    return sketch.classify()


def key(image: Image) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def checked(graph: Graph, images: Sequence[Image]) -> Stability:
    return stability(graph, observed(graph, images), lambda: images)


def pictures(count: int, brightest: int = 256, seed: int = 0) -> list[Image]:
    random = np.random.default_rng(seed)
    return list(random.integers(0, brightest, (count, SIZE, SIZE, 3), dtype=np.uint8))


def uneven() -> list[Image]:
    """32 images: 8 bright ones to judge by, and by their hashes a dark and a bright half."""
    bright = {key(image): image for image in pictures(400)}
    dark = {key(image): image for image in pictures(400, 9, seed=1)}
    order = sorted(bright | dark)
    wanted = ["bright"] * 8 + ["dark", "bright"] * 12
    chosen: list[Image] = []
    for each in order:
        if len(chosen) < len(wanted):
            pool = bright if wanted[len(chosen)] == "bright" else dark
            if each in pool:
                chosen.append(pool[each])
    assert len(chosen) == 32
    return chosen


def test_a_hundred_pictures_are_enough_where_forty_are_not(graph: Graph) -> None:
    few, many = nets.images(40, SIZE), nets.images(100, SIZE)
    found = checked(graph, few)
    assert found.stable is False
    assert (found.images, found.judged) == (40, 10)
    assert found.halves is not None
    assert [half.images for half in found.halves] == [15, 15]
    found = checked(graph, many)
    assert found.stable is True
    assert found.warning is None
    assert found.verdict.startswith("large enough")
    assert (found.images, found.judged) == (100, 16)


def test_an_uneven_set_is_called_too_small(graph: Graph) -> None:
    found = checked(graph, uneven())
    assert found.stable is False
    assert found.warning == found.verdict
    assert "too small" in found.verdict
    assert found.sqnr_db is not None and found.halves is not None
    assert found.sqnr_db.high < -module.TOLERATED_DB, "the dark half clips the bright pictures"
    assert found.halves[0].sqnr_db < found.halves[1].sqnr_db
    assert found.logit_error is not None and found.logit_error.low > 0


@pytest.mark.parametrize(
    "case", ["depthwise", "residual", "concat_channels", "squeeze_excite", "padded_with_value"]
)
def test_the_halves_are_what_calibration_would_give(case: str) -> None:
    """The plan of `calibrate` by the same rule, whatever shares a scale or has it given."""
    sketch = target_graphs.Sketch(SIZE, SIZE)
    target_graphs.CASES[case](sketch)
    graph = sketch.classify()
    images = pictures(6)
    plan = calibration.calibrate(graph, images, rule="mean_min_max", correct_bias=False)
    mine = module._plan(graph, observed(graph, images).ranges(range(6)))
    assert mine.activations.keys() == plan.activations.keys()
    for name, scale in plan.activations.items():
        assert mine.activations[name].scale == pytest.approx(scale.scale, rel=1e-6)
        assert mine.activations[name].zero_point == scale.zero_point
    for name, weights in plan.weights.items():
        assert np.array_equal(mine.weights[name].values, weights.values)


def test_ranges_over_some_images_by_hand(graph: Graph) -> None:
    extremes = ImageExtremes(graph)
    first = extremes.names[0]
    logits = graph.logits
    for high, wild in ((1.0, 3.0), (2.0, 9.0), (6.0, 5.0)):
        values = {name: np.array([0.0, 1.0], np.float32) for name in extremes.names}
        values[first] = np.array([0.0, high], np.float32)
        values[logits] = np.array([-wild, wild], np.float32)
        extremes.update(values)
    found = extremes.ranges([0, 2])
    assert found[first].scale == pytest.approx(3.5 / 255)
    assert found[first].zero_point == -128
    assert found[logits].scale == pytest.approx(10 / 255), "logits are never clipped"


def test_calibration_watches_on_the_way(graph: Graph) -> None:
    images = pictures(20)
    extremes = ImageExtremes(graph)
    calibration.measure(graph, images, watchers=(extremes,))
    assert stability(graph, extremes, lambda: images) == checked(graph, images)


def test_order_does_not_matter_and_nothing_is_drawn(graph: Graph) -> None:
    images = pictures(24)
    found = checked(graph, images)
    assert checked(graph, images) == found
    backwards = checked(graph, images[::-1])
    assert backwards.verdict == found.verdict
    assert backwards.sqnr_db is not None and found.sqnr_db is not None
    assert backwards.sqnr_db.value == pytest.approx(found.sqnr_db.value, abs=1e-6)


def test_judges_and_halves_have_no_image_in_common() -> None:
    keys = [key(image) for image in pictures(90)]
    judges, first, second = module._divide(keys, 90)
    assert (len(judges), len(first), len(second)) == (16, 37, 37)
    assert len({*judges, *first, *second}) == 90
    assert max(keys[place] for place in judges) < min(keys[place] for place in first + second)


def test_too_few_to_tell(graph: Graph) -> None:
    found = checked(graph, pictures(FEWEST - 1))
    assert found.stable is None and found.halves is None
    assert found.warning is None
    assert found.verdict.startswith("not checked")
    assert checked(graph, pictures(FEWEST)).stable is not None


def test_halves_that_no_kernel_takes_are_said_not_raised(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network itself has its int8 form by now: a check must not take it away."""
    real = module.affine

    def narrow(wanted: Range) -> Affine:
        usual = real(wanted)
        return replace(usual, scale=usual.scale / 1e6) if wanted.high > 0 else usual

    monkeypatch.setattr(module, "affine", narrow)
    found = checked(graph, pictures(20))
    assert found.stable is None and found.halves is None and found.warning is None
    assert found.verdict.startswith("not checked: Channel ")


def test_other_images_than_were_watched_are_a_defect(graph: Graph) -> None:
    with pytest.raises(ValueError, match="20 images were watched"):
        stability(graph, observed(graph, pictures(20)), lambda: pictures(19))


def compared(first: np.ndarray, second: np.ndarray, by_sqnr: bool = True) -> Stability:
    """Errors per image and class, over logits of power 1 an image whose answer is class 0."""
    reference = np.zeros_like(first)
    reference[:, 0] = 1.0
    return module._compare(40, 12, reference, first, second, by_sqnr)


def errors(size: float, images: int = 16) -> np.ndarray:
    return np.full((images, 4), size / 2)  # the square over four classes is size^2


def test_figures_by_hand() -> None:
    """Errors of 0.1 and 0.1 x 10^(1/10) at power 1: 20 dB and 18 dB."""
    found = compared(errors(0.1), errors(0.1 * 10 ** (2 / 20)))
    assert found.halves is not None and found.sqnr_db is not None
    assert found.halves[0].sqnr_db == pytest.approx(20.0)
    assert found.halves[1].sqnr_db == pytest.approx(18.0)
    assert found.halves[0].logit_error == pytest.approx(0.05)
    assert found.halves[0].agreement == 1.0
    assert found.sqnr_db.value == pytest.approx(2.0)
    assert found.sqnr_db.low == pytest.approx(2.0), "all images alike: no spread"
    assert found.stable is False


def test_decibels_of_another_rule_than_the_file_has_are_no_reason() -> None:
    """The same gap of 2 dB; but a gap in agreement counts whatever the rule."""
    apart = errors(0.1), errors(0.1 * 10 ** (2 / 20))
    assert compared(*apart, by_sqnr=False).stable is True
    other = errors(0.1)
    other[:, 1] = 2.0
    assert compared(errors(0.1), other, by_sqnr=False).stable is False


def test_a_small_difference_is_no_reason_however_certain() -> None:
    found = compared(errors(0.1), errors(0.1 * 10 ** (0.5 / 20)))
    assert found.sqnr_db is not None and found.sqnr_db.beyond_noise
    assert found.stable is True


def test_what_is_as_good_as_float_needs_no_more_images() -> None:
    """40 dB and 35 dB, for certain: nobody could tell."""
    found = compared(errors(0.01), errors(0.01 * 10 ** (5 / 20)))
    assert found.sqnr_db is not None and found.sqnr_db.low == pytest.approx(5.0)
    assert found.stable is True
    assert compared(errors(0.05), errors(0.05 * 10 ** (5 / 20))).stable is False


def test_the_threshold_is_what_makes_that_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERATED_DB", 0.0)
    assert compared(errors(0.1), errors(0.1 * 10 ** (0.5 / 20))).stable is False


def test_a_difference_that_one_image_makes_is_noise() -> None:
    one = errors(0.1)
    one[5] *= 5.0
    found = compared(one, errors(0.1))
    assert found.sqnr_db is not None
    assert found.sqnr_db.value == pytest.approx(-10 * np.log10(40 / 16), abs=1e-6)
    assert not found.sqnr_db.beyond_noise
    assert found.stable is True


def test_answers_that_one_half_changes_are_a_reason() -> None:
    """Six of 16 answers flip though all logits move by the same amount."""
    flipped, kept = np.zeros((16, 4)), np.zeros((16, 4))
    flipped[:6, 1] = kept[:6, 0] = 1.1
    found = compared(flipped, kept)
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx(-6 / 16)
    assert found.sqnr_db is not None and found.sqnr_db.value == pytest.approx(0.0)
    assert found.stable is False
    assert "38 points" in found.verdict


def test_the_record_is_json_of_six_digits(graph: Graph) -> None:
    found = checked(graph, pictures(20))
    record = json.loads(json.dumps(found.record()))
    assert record["stable"] is True
    assert len(record["halves"]) == 2
    assert set(record["sqnr_db"]) == {"value", "low", "high"}
    assert record["sqnr_db"]["value"] == float(f"{record['sqnr_db']['value']:.6g}")
