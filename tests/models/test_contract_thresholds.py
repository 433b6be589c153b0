"""Thresholds of several answers in a contract: read, written, and refused where they are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.contract import Contract, ContractError, Label

LABELS = (Label("adder"), Label("grass snake"), Label("slow worm"))


def contract(**changes: Any) -> Contract:
    return Contract(LABELS, **{"activation": "sigmoid", "thresholds": (0.25, 0.5, 1), **changes})


def refused(**changes: Any) -> str:
    with pytest.raises(ContractError) as caught:
        contract(**changes)
    assert caught.value.mend
    return str(caught.value)


def test_they_are_read_as_they_were_written() -> None:
    made = contract()
    assert made.thresholds == made.class_thresholds == (0.25, 0.5, 1.0)
    assert json.loads(made.dumps())["output"]["thresholds"] == [0.25, 0.5, 1.0]
    assert Contract.loads(made.dumps()) == made == Contract.loads(made.dumps(compact=True))
    assert Contract.loads(made.dumps()).dumps() == made.dumps()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_contract_without_them_has_no_word_of_them(activation: Any) -> None:
    plain = contract(activation=activation, thresholds=None)
    assert '"thresholds"' not in plain.dumps() + plain.dumps(compact=True)
    output = {"name": "probabilities", "activation": activation, "not_sure_threshold": 0.5}
    assert plain.to_json()["output"] == output
    assert Contract.loads(plain.dumps()).thresholds is None


def test_without_them_every_class_has_that_of_not_sure() -> None:
    assert contract(thresholds=None, not_sure_threshold=0.4).class_thresholds == (0.4, 0.4, 0.4)
    assert contract(not_sure_threshold=0.4).class_thresholds == (0.25, 0.5, 1.0)


def test_a_list_is_taken_too() -> None:
    assert contract(thresholds=[0, 0.5, 1]) == contract(thresholds=(0.0, 0.5, 1.0))
    hash(contract(thresholds=[0, 0.5, 1]))


@pytest.mark.parametrize("wrong", [-0.01, 1.01, float("nan"), float("inf"), True, "0.5", None])
def test_a_threshold_that_is_none_is_named_with_its_class(wrong: Any) -> None:
    said = refused(thresholds=(0.5, wrong, 0.5))
    assert "'grass snake'" in said
    assert repr(wrong) in said


def test_their_number_is_that_of_the_labels() -> None:
    assert "2 number(s), there are 3 labels" in refused(thresholds=(0.5, 0.5))
    assert "0 number(s)" in refused(thresholds=())


def test_softmax_has_none() -> None:
    assert "not_sure_threshold serves" in refused(activation="softmax")


@pytest.mark.parametrize("wrong", [None, 0.5, {"adder": 0.5}, "0.5"])
def test_json_of_another_kind_is_refused(wrong: Any) -> None:
    content = contract().to_json()
    content["output"]["thresholds"] = wrong
    with pytest.raises(ContractError, match=r"output\.thresholds"):
        Contract.from_json(content)


def test_an_empty_list_in_json_is_not_none() -> None:
    content = contract().to_json()
    content["output"]["thresholds"] = []
    with pytest.raises(ContractError, match="0 number"):
        Contract.from_json(content)
