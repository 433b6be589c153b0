"""Mixed precision within a latency budget: reading the budget, searching, repeating."""

from __future__ import annotations

import json

import pytest

from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.mixed import modes as mixed
from exporter.convert.quantize.quantize import Quantized
from exporter.convert.targets.tflite.writer import to_bytes
from exporter.pipeline import budget
from exporter.pipeline.request import parse_budget
from models.contract import Contract, Label, Preprocessing
from models.errors import UserError
from support import nets
from support.tflite_files import classifier, plan_for

IMAGES = nets.images(8, 32)
CONTRACT = Contract(tuple(Label(f"class {i}") for i in range(10)), Preprocessing(32, 32, 32))


@pytest.fixture(scope="module")
def quantized() -> Quantized:
    graph = classifier()
    return Quantized(graph, plan_for(graph, IMAGES))


@pytest.mark.parametrize(("text", "value"), [("1.25x", 1.25), (" 2 X ", 2.0), ("1.5", 1.5)])
def test_budgets(text: str, value: float) -> None:
    assert parse_budget(text) == value


@pytest.mark.parametrize("text", ["", "x", "1x", "0.9x", "-2x", "25%", "1e9", "nan", "1.25xx"])
def test_no_budgets(text: str) -> None:
    with pytest.raises(UserError, match="budget"):
        parse_budget(text)


def test_a_search_says_what_it_chose_and_can_be_repeated(quantized: Quantized) -> None:
    steps: list[None] = []
    found = budget.search(quantized, CONTRACT, lambda: IMAGES, 3.0, lambda: steps.append(None))
    record = json.loads(json.dumps(found.record))
    assert record["budget"] == 3.0
    assert record["measured_ratio"] <= 3.0
    assert found.table is not None
    assert len(steps) >= len(found.table.rows)
    assert found.quantized.plan.record["mixed"]["float_nodes"] == record["float_nodes"]
    logits = record["calibration_logits"]
    assert logits["mixed"]["noise"] <= logits["int8"]["noise"]
    again = budget.given(quantized, lambda: IMAGES, record["float_nodes"], record["dynamic_nodes"])
    assert again.quantized.plan.float_nodes == found.quantized.plan.float_nodes
    assert to_bytes(again.quantized.graph, CONTRACT, "int8", again.quantized.plan) == to_bytes(
        found.quantized.graph, CONTRACT, "int8", found.quantized.plan
    )


def test_nothing_over_the_budget_is_taken(
    quantized: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that finds every file too slow leaves the int8 file."""
    monkeypatch.setattr(budget._Stopwatch, "ratio", lambda *_: 9.0)
    found = budget.search(quantized, CONTRACT, lambda: IMAGES, 1.25)
    assert found.record["float_nodes"] == found.record["dynamic_nodes"] == []
    assert found.record["measured_ratio"] == 1.0


def test_a_small_budget_is_used_too(quantized: Quantized, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where float costs nothing, a budget of 2 % is enough for it."""
    monkeypatch.setattr(budget._Stopwatch, "ratio", lambda *_: 1.0)
    monkeypatch.setattr(budget._Stopwatch, "prices", lambda _: mixed.Work())
    found = budget.search(quantized, CONTRACT, lambda: IMAGES, 1.02)
    assert found.record["float_nodes"]


def test_the_second_measurement_counts(
    quantized: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too slow at first sight, too slow when measured again, and one that stays."""
    clock = iter([1.3, 1.2])
    monkeypatch.setattr(budget._Stopwatch, "ratio", lambda *_: next(clock))
    nodes = [n.name for n in mixed.body(quantized.graph)]
    tried = [
        budget._Tried({nodes[0]: "float"}, 0.5, 1.1),
        budget._Tried({nodes[1]: "float"}, 0.1, 1.4),
        budget._Tried({nodes[2]: "float"}, 0.2, 1.24),
    ]
    stopwatch = budget._Stopwatch.__new__(budget._Stopwatch)
    kept = budget._confirmed(tried, stopwatch, 1.25)
    assert (kept.modes, kept.ratio) == ({nodes[0]: "float"}, 1.2)


def test_a_layer_may_be_named_by_what_it_makes(quantized: Quantized) -> None:
    first, last = mixed.body(quantized.graph)[0], mixed.body(quantized.graph)[-1]
    assert first.output != first.name
    found = budget.given(quantized, lambda: IMAGES, [first.output], [last.name])
    assert found.record["float_nodes"] == [first.name]
    assert found.record["dynamic_nodes"] == [last.name]


def test_a_choice_for_another_network_is_refused(quantized: Quantized) -> None:
    with pytest.raises(QuantizationError, match="no node 'elsewhere'"):
        budget.given(quantized, lambda: IMAGES, ["elsewhere"])
