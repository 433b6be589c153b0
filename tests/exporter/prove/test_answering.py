"""What an app makes of probabilities, by hand; macro F1 against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exporter.prove.answering import TIED, Accuracy, Rule, top1
from exporter.prove.compare import Comparison
from exporter.prove.gates import GATES, check
from models.answers import present
from models.contract import Contract, Label

SEVERAL = Rule((0.5, 0.25, 0.75))


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_class_is_there_from_its_threshold_on_as_float32() -> None:
    below = np.nextafter(np.float32(0.7), np.float32(0))
    assert float(np.float32(0.7)) < 0.7  # in double it would not reach what was written
    assert present([0.7, below, math.nan, 1.0], [0.7, 0.7, 0.0, 1.0]).tolist() == [
        True, False, False, True,
    ]  # fmt: skip
    assert present(np.ones((2, 3)), (0.5, 0.5, 0.5)).shape == (2, 3)
    with pytest.raises(ValueError, match="thresholds"):
        present([0.1, 0.2], [0.5])


def test_the_contract_says_how_many_answers_there_are() -> None:
    labels = (Label("a"), Label("b"))
    assert Rule.of(Contract(labels)) == Rule()
    assert Rule.of(Contract(labels, activation="sigmoid", not_sure_threshold=0.3)) == Rule(
        (0.3, 0.3)
    )
    own = Contract(labels, activation="sigmoid", thresholds=(0.1, 0.9))
    assert Rule.of(own) == Rule((0.1, 0.9))


def test_answers_are_sets() -> None:
    assert SEVERAL.answer(vector(0.6, 0.3, 0.7)) == (0, 1)
    assert SEVERAL.answer(vector(0.4, 0.2, 0.7)) == ()
    assert Rule().answer(vector(0.4, 0.2, 0.7)) == (2,)
    assert top1(vector(math.nan, 0.2, 0.1)) == 1


def test_sets_agree_whatever_the_order_of_their_probabilities() -> None:
    reference = vector(0.6, 0.9, 0.1)
    assert SEVERAL.agrees(reference, vector(0.9, 0.6, 0.7))
    assert not SEVERAL.agrees(reference, vector(0.49, 0.9, 0.1))  # one went
    assert not SEVERAL.agrees(reference, vector(0.6, 0.9, 0.8))  # one came
    assert not SEVERAL.agrees(reference, vector(0.6, 0.9, math.nan))


def test_what_lies_on_the_threshold_is_decided_by_no_one() -> None:
    on = vector(0.5 + TIED / 2, 0.1, 0.1)
    assert SEVERAL.agrees(on, vector(0.5 - TIED / 2, 0.1, 0.1))
    assert not SEVERAL.agrees(vector(0.5 + 3 * TIED, 0.1, 0.1), vector(0.4, 0.1, 0.1))


def test_the_margin_is_the_smallest_distance_from_a_threshold() -> None:
    assert SEVERAL.margin(vector(0.75, 0.375, 0.25)) == 0.125
    assert Rule().margin(vector(0.75, 0.125, 0.125)) == 0.625


def test_the_decisive_class_is_the_one_that_came_or_went() -> None:
    reference = vector(0.6, 0.9, 0.1)
    assert SEVERAL.decisive(reference, vector(0.45, 0.2, 0.1)) == (1, 1)
    assert SEVERAL.decisive(reference, vector(0.45, 0.3, 0.1)) == (0, 0)
    assert SEVERAL.decisive(reference, reference) == (1, 1)


def test_macro_f1_is_sklearns_over_the_classes_that_occur() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(4)
    truth, said = (random.random((2, 50, 6)) < 0.3).astype(int)
    truth[:, 4] = said[:, 4] = 0  # occurs nowhere: not counted
    truth[:, 5], said[:, 5] = 0, 1  # never right
    accuracy = Accuracy(Rule((0.5,) * 6))
    assert accuracy.value is None
    for answer, wanted in zip(said, truth, strict=True):
        accuracy.add(np.flatnonzero(answer).tolist(), np.flatnonzero(wanted).tolist())
    expected = metrics.f1_score(truth, said, labels=[0, 1, 2, 3, 5], average="macro")
    assert accuracy.value == pytest.approx(expected)
    assert accuracy.images == 50


def test_pictures_of_nothing_count_for_no_class() -> None:
    accuracy = Accuracy(SEVERAL)
    accuracy.add((), ())
    assert accuracy.value == 0.0  # no class occurs: nothing was shown to be found
    accuracy.add((1,), (1,))
    assert accuracy.value == 1.0


def test_one_image_of_three_changes_its_set() -> None:
    comparison = Comparison("sigmoid", thresholds=(0.5, 0.25, 0.75))
    comparison.add("same", vector(0.6, 0.3, 0.1), vector(0.9, 0.26, 0.7), "a, b", (0, 1))
    comparison.add("gone", vector(0.6, 0.3, 0.1), vector(0.6, 0.24, 0.1), "a, b", (0, 1))
    comparison.add("none", vector(0.1, 0.1, 0.1), vector(0.2, 0.2, 0.2), "none", ())
    found = comparison.metrics()
    assert (found.images, found.labelled) == (3, 3)
    assert found.top1_agreement == pytest.approx(2 / 3)
    assert found.reference_accuracy == 1.0
    assert found.accuracy == pytest.approx((1 + 2 / 3) / 2)
    (flip,) = found.flipped
    assert (flip.image, flip.reference_classes, flip.classes) == ("gone", (0, 1), (0,))
    assert (flip.top, flip.reference_top) == (1, 1)
    assert (flip.reference_probability, flip.probability) == pytest.approx((0.3, 0.24))
    assert flip.reference_margin == pytest.approx(0.05)
    gates = {gate.name: gate.passed for gate in check(found, GATES["int8"], "sigmoid")}
    assert gates["agreement on all classes"]  # one changed answer of so few is let pass
    assert not gates["macro F1 drop"]


def test_the_same_first_class_does_not_suffice() -> None:
    reference, found = vector(0.9, 0.6, 0.1), vector(0.9, 0.4, 0.1)
    for activation, agreement in (("softmax", 1.0), ("sigmoid", 0.0)):
        comparison = Comparison(activation)  # type: ignore[arg-type]
        comparison.add("a", reference, found)
        assert comparison.metrics().top1_agreement == agreement
