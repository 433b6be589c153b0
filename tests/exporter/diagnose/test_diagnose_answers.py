"""Flips, margins and what they did to accuracy, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from exporter.diagnose.answers import Answers
from exporter.prove.imageset import Sample
from models.contract import Contract, Label, Preprocessing
from models.errors import UserError

CONTRACT = Contract((Label("ant"), Label("bee"), Label("cat")), Preprocessing(8, 8, 8))


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def sample(name: str, *truth: int) -> Sample:
    return Sample(Path(name), name, truth or None)


def test_flips_with_margins_and_what_they_did() -> None:
    answers = Answers(CONTRACT)
    answers.add(sample("same", 0), row(0.6, 0.3, 0.1), row(0.5, 0.4, 0.1))
    answers.add(sample("lost", 0), row(0.5, 0.4, 0.1), row(0.3, 0.6, 0.1))
    answers.add(sample("gained", 2), row(0.48, 0.05, 0.47), row(0.4, 0.1, 0.5))
    answers.add(sample("neither", 2), row(0.8, 0.1, 0.1), row(0.2, 0.7, 0.1))
    answers.add(sample("unknown"), row(0.4, 0.35, 0.25), row(0.3, 0.35, 0.35))
    flips = {flip.image: flip for flip in answers.flips()}
    assert [flip.image for flip in answers.flips()] == ["neither", "lost", "unknown", "gained"]
    effects = {name: flip.effect for name, flip in flips.items()}
    assert effects == {
        "lost": "lost", "gained": "gained", "neither": "wrong either way", "unknown": None,
    }  # fmt: skip
    lost = flips["lost"]
    assert (lost.float_label, lost.int8_label, lost.truth) == ("ant", "bee", "ant")
    assert (lost.float_probability, lost.int8_probability) == pytest.approx((0.5, 0.6))
    assert (lost.float_margin, lost.int8_margin) == pytest.approx((0.1, 0.3))
    assert lost.float_logit_margin == pytest.approx(math.log(0.5 / 0.4))
    assert lost.int8_logit_margin == pytest.approx(math.log(2))


def test_the_summary_counts_flips_by_how_sure_float_was() -> None:
    answers = Answers(CONTRACT)
    answers.add(sample("a", 0), row(0.5, 0.38, 0.12), row(0.3, 0.6, 0.1))
    answers.add(sample("b", 2), row(0.34, 0.33, 0.33), row(0.3, 0.3, 0.4))
    answers.add(sample("c"), row(0.9, 0.05, 0.05), row(0.9, 0.06, 0.04))
    found = answers.summary()
    assert (found.images, found.flips, found.labelled) == (3, 2, 2)
    assert found.agreement == pytest.approx(1 / 3)
    assert (found.float_accuracy, found.accuracy) == (0.5, 0.5)
    limits = [(band.low, band.high) for band in found.bands]
    assert limits == [(0, 0.05), (0.05, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 1)]
    counted = [(band.images, band.flips) for band in found.bands]
    assert counted == [(1, 1), (0, 0), (1, 1), (0, 0), (1, 0)]


def test_a_tie_of_the_float_file_is_no_flip() -> None:
    answers = Answers(CONTRACT)
    answers.add(sample("tie"), row(0.4, 0.4, 0.2), row(0.3, 0.5, 0.2))
    assert answers.flips() == ()


SEVERAL = Contract(CONTRACT.labels, CONTRACT.preprocessing, "sigmoid", thresholds=(0.5, 0.75, 0.5))


def test_several_answers_flip_where_a_class_comes_or_goes() -> None:
    answers = Answers(SEVERAL)
    answers.add(sample("lost", 0, 1), row(0.9, 0.8, 0.1), row(0.8, 0.7, 0.1))
    answers.add(sample("gained", 2), row(0.1, 0.1, 0.4), row(0.1, 0.1, 0.6))
    answers.add(sample("first one other", 0, 1), row(0.8, 0.9, 0.1), row(0.9, 0.8, 0.1))
    flips = {flip.image: flip for flip in answers.flips()}
    assert set(flips) == {"lost", "gained"}
    lost, gained = flips["lost"], flips["gained"]
    assert (lost.float_label, lost.int8_label, lost.decisive) == ("ant, bee", "ant", "bee")
    assert (lost.float_probability, lost.int8_probability) == pytest.approx((0.8, 0.7))
    assert (gained.float_label, gained.int8_label, gained.truth) == ("none", "cat", "cat")
    assert (lost.effect, gained.effect) == ("lost", "gained")
    # The smallest distance from a threshold: |0.8 - 0.75|, and of its logits log 4 - log 3.
    assert lost.float_margin == pytest.approx(0.05, abs=1e-6)
    assert lost.float_logit_margin == pytest.approx(math.log(4) - math.log(3), rel=1e-5)
    summary = answers.summary()
    assert summary.several
    assert (summary.agreement, summary.images) == (pytest.approx(1 / 3), 3)
    # Float misses the cat: F1 1, 1, 0. int8 misses one bee of two: F1 1, 2/3, 1.
    assert summary.float_accuracy == pytest.approx(2 / 3)
    assert summary.accuracy == pytest.approx(8 / 9)


def test_a_float_file_without_numbers_stops() -> None:
    with pytest.raises(UserError, match="no finite probabilities for x"):
        Answers(CONTRACT).add(sample("x"), row(float("nan"), 0, 0), row(1, 0, 0))
