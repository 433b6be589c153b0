"""The compact text of a contract: smaller, and the same contract."""

from __future__ import annotations

import json

from models.contract import Contract, Label
from support.tinyfiles import CONTRACT


def test_labels_without_attributes_are_names_alone() -> None:
    labels = (Label("grass snake"), Label("adder", "Vipera berus", "yes"))
    contract = Contract(labels)
    text = contract.dumps(compact=True)
    assert json.loads(text)["labels"] == [
        "grass snake",
        {"name": "adder", "scientific_name": "Vipera berus", "venomous": "yes"},
    ]
    assert Contract.loads(text) == contract == Contract.loads(contract.dumps())


def test_it_is_a_fifth_of_the_size_for_many_plain_labels() -> None:
    contract = Contract(tuple(Label(f"class {index}") for index in range(1000)))
    assert len(contract.dumps(compact=True)) < len(contract.dumps()) / 5


def test_everything_else_is_as_in_the_readable_text() -> None:
    short, full = (json.loads(CONTRACT.dumps(compact=flag)) for flag in (True, False))
    assert {k: v for k, v in short.items() if k != "labels"} == {
        k: v for k, v in full.items() if k != "labels"
    }
