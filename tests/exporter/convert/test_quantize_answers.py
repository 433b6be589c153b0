"""The same answer by logits: the largest one, or the signs of all."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.convert.graph import GlobalAveragePool, Sigmoid, Softmax
from exporter.convert.quantize.answers import gives_several, same_answers
from exporter.convert.quantize.mixed.sensitivity import effect
from exporter.convert.quantize.ranges import stability as module
from support.tflite_files import Net

REFERENCE = np.array([[3.0, 2.0, -1.0], [3.0, 2.0, -1.0], [-1.0, -2.0, -3.0]])
FOUND = np.array([[2.0, 3.0, -1.0], [3.0, -0.1, -1.0], [-1.0, -2.0, 0.5]])


def test_by_the_first_and_by_all() -> None:
    assert same_answers(REFERENCE, FOUND, several=False).tolist() == [False, True, False]
    assert same_answers(REFERENCE, FOUND, several=True).tolist() == [True, False, False]


@pytest.mark.parametrize(("end", "several"), [(Softmax, False), (Sigmoid, True)])
def test_the_last_node_tells(end: type, several: bool) -> None:
    net = Net(3, 8, 8)
    net.dense(net.add(GlobalAveragePool, net.conv("pixels", 4), keep_dims=False), 3)
    net.add(end, net.nodes[-1].output)
    assert gives_several(net.graph()) is several


def test_what_a_layer_costs_and_what_halves_differ_by_are_counted_so() -> None:
    assert effect(REFERENCE, FOUND).agreement == pytest.approx(1 / 3)
    assert effect(REFERENCE[:2], FOUND[:2], several=True).agreement == 0.5
    errors = FOUND - REFERENCE
    one = module._compare(40, 12, REFERENCE, errors, 0 * errors, True)
    several = module._compare(40, 12, REFERENCE[:2], errors[:2], 0 * errors[:2], True, True)
    assert [half.agreement for half in one.halves] == [pytest.approx(1 / 3), 1.0]
    assert [half.agreement for half in several.halves] == [0.5, 1.0]
