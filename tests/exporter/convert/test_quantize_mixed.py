"""Which nodes stay in float: the table, the choice, and what a plan with float nodes computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Add, Conv, Dense, Graph, Softmax
from exporter.convert.quantize import stored
from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.mixed import modes as mixed
from exporter.convert.quantize.mixed.sensitivity import (
    Effect,
    Row,
    Sensitivity,
    effect,
    measure_sensitivity,
)
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.quantize import Quantized
from exporter.convert.quantize.simulate import Simulator
from exporter.convert.targets.tflite.writer import to_bytes
from support import nets
from support.tflite_files import CONTRACT, classifier, operators_of, plan_for, run

IMAGES = nets.images(8, 32)


@pytest.fixture(scope="module")
def quantized() -> Quantized:
    graph = classifier()
    return Quantized(graph, plan_for(graph, IMAGES))


def logits_file(graph: Graph, plan: QuantizationPlan) -> bytes:
    cut = replace(graph, nodes=graph.nodes[:-1], output=graph.logits)
    return to_bytes(cut, CONTRACT, "int8", plan)


def some_modes(graph: Graph) -> mixed.Modes:
    """The first layer in float, the sum in float, the last pointwise layer dynamic."""
    layers = [n.name for n in graph.nodes if isinstance(n, Conv)]
    total = next(n.name for n in graph.nodes if isinstance(n, Add))
    return {layers[0]: "float", total: "float", layers[-1]: "dynamic"}


def test_effect_by_hand() -> None:
    """Errors (1, 0) and (1, 2) against (3, 4) and (0, 5): about their mean, half a unit."""
    reference = np.array([[3.0, 4.0], [0.0, 5.0]])
    found = effect(reference, reference + np.array([[1.0, 0.0], [1.0, 2.0]]))
    assert found.logit_sqnr_db == pytest.approx(10 * np.log10(50 / 6))
    assert found.mean_abs_logit_error == 1.0
    assert found.agreement == 0.5  # of the first image's logits, now equal, the first counts
    assert found.noise == pytest.approx(2 / 50)


def test_the_table_tells_weights_from_activations(quantized: Quantized) -> None:
    table = measure_sensitivity(quantized.graph, quantized.plan, IMAGES)
    assert [row.node for row in table.rows] == [n.name for n in mixed.body(quantized.graph)]
    json.dumps(table.as_json())
    for row, node in zip(table.rows, mixed.body(quantized.graph), strict=True):
        assert row.left_float is not None
        assert (row.weights is not None) == isinstance(node, Conv | Dense)
        assert (row.image_wise is not None) == (isinstance(node, Dense) or (
            isinstance(node, Conv) and node.groups == 1))  # fmt: skip
    first = table.rows[0]
    assert first.activation is not None
    assert first.activation.logit_sqnr_db > table.quantized.logit_sqnr_db


def test_a_ruined_tensor_shows_in_its_own_row(quantized: Quantized) -> None:
    """Logits clipped to nothing: the last row tells, the first does not."""
    name = quantized.graph.logits
    ruined = dict(quantized.plan.activations)
    ruined[name] = replace(ruined[name], scale=ruined[name].scale / 1e6, zero_point=0)
    plan = replace(quantized.plan, activations=ruined)
    good = measure_sensitivity(quantized.graph, quantized.plan, IMAGES, None, complete=False)
    bad = measure_sensitivity(quantized.graph, plan, IMAGES, None, complete=False)
    assert noise_of(good.rows[-1]) < 1e-3
    assert noise_of(bad.rows[-1]) > 0.1
    assert noise_of(bad.rows[0]) == noise_of(good.rows[0])


def noise_of(row: Row) -> float:
    assert row.activation is not None
    return row.activation.noise


def test_all_in_float_is_the_float_graph(quantized: Quantized) -> None:
    graph = quantized.graph
    every = mixed.apply(quantized, {n.name: "float" for n in mixed.body(graph)}, ())
    simulator, evaluator = Simulator(every.graph, every.plan), Evaluator(graph)
    model = to_bytes(every.graph, CONTRACT, "int8", every.plan)
    for image, found in zip(IMAGES, run(model, IMAGES), strict=True):
        expected = evaluator.run(image)[graph.output]
        np.testing.assert_allclose(simulator.run(image)[graph.output], expected, atol=1e-5)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_file_computes_what_is_simulated(quantized: Quantized) -> None:
    made = mixed.apply(quantized, some_modes(quantized.graph), IMAGES)
    simulator = Simulator(made.graph, made.plan, [made.graph.logits])
    step = made.plan.activations[made.graph.logits].scale
    files = run(logits_file(made.graph, made.plan), IMAGES)
    for image, found in zip(IMAGES, files, strict=True):
        expected = simulator.run(image)[made.graph.logits]
        assert float(np.abs(found - expected).max()) <= 6 * step
    kinds = [(one.name, one.inputs[0]) for one in operators_of(logits_file(made.graph, made.plan))]
    assert ("CONV_2D", "FLOAT32") in kinds
    assert ("CONV_2D", "INT8") in kinds
    assert ("ADD", "FLOAT32") in kinds


def test_mixing_helps_and_biases_follow(quantized: Quantized) -> None:
    graph = quantized.graph
    modes = dict.fromkeys((n.name for n in mixed.body(graph)[3:]), "float")
    made = mixed.apply(quantized, modes, IMAGES)  # type: ignore[arg-type]
    reference = _logits(Evaluator(graph, [graph.logits]), graph)
    before = effect(reference, _logits(Simulator(graph, quantized.plan, [graph.logits]), graph))
    after = effect(reference, _logits(Simulator(made.graph, made.plan, [graph.logits]), graph))
    assert after.noise < before.noise
    changed = [
        node.name
        for node, old in zip(made.graph.nodes, graph.nodes, strict=True)
        if node is not old
    ]
    assert changed == [n.name for n in mixed.body(graph)[3:] if isinstance(n, Conv | Dense)]


def _logits(runner: Evaluator | Simulator, graph: Graph) -> np.ndarray:
    rows = [runner.run(image)[graph.logits].reshape(-1) for image in IMAGES]
    return np.stack(rows).astype(np.float64)


def test_a_choice_outlives_the_disk(quantized: Quantized, tmp_path: Path) -> None:
    made = mixed.apply(quantized, some_modes(quantized.graph), IMAGES)
    stored.save(made, tmp_path)
    found = stored.load(quantized.graph, tmp_path)
    wanted = some_modes(quantized.graph)
    assert found.plan.float_nodes == set(wanted)
    assert found.plan.dynamic_nodes == {name for name, mode in wanted.items() if mode == "dynamic"}
    again = to_bytes(found.graph, CONTRACT, "int8", found.plan)
    assert again == to_bytes(made.graph, CONTRACT, "int8", made.plan)


def test_borders_do_not_cut_the_graph_in_two(quantized: Quantized) -> None:
    """XNNPACK takes a mixed file whole; with float pixels not even a QUANTIZE stays outside."""
    made = mixed.apply(quantized, some_modes(quantized.graph), ())
    model = to_bytes(made.graph, CONTRACT, "int8", made.plan)
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter._get_ops_details()
    parts = [one for one in details if one["op_name"] == "DELEGATE"]
    assert len(parts) == 1
    names = {one["index"]: one["name"] for one in interpreter.get_tensor_details()}
    assert "probabilities" in {names.get(index) for index in parts[0]["outputs"]}
    assert [one["op_name"] for one in details if one["op_name"] == "QUANTIZE"]


def test_names_that_do_not_fit_are_refused(quantized: Quantized) -> None:
    depthwise = next(n.name for n in quantized.graph.nodes if isinstance(n, Conv) and n.groups > 1)
    softmax = next(n.name for n in quantized.graph.nodes if isinstance(n, Softmax))
    for modes in ({"nobody": "float"}, {softmax: "float"}, {depthwise: "dynamic"}):
        with pytest.raises(QuantizationError, match="node"):
            mixed.apply(quantized, modes, ())  # type: ignore[arg-type]


def table_of(graph: Graph, noises: dict[str, float]) -> Sensitivity:
    rows = tuple(
        Row(n.name, "", n.output, 0, activation=Effect(0, 0, 1, noises.get(n.name, 0.0)))
        for n in mixed.body(graph)
    )
    return Sensitivity(rows, Effect(0, 0, 1, 0), 1)


def test_noise_adds_up_where_something_is_rounded(quantized: Quantized) -> None:
    """A float tensor that one int8 node reads is rounded all the same."""
    graph = quantized.graph
    nodes = mixed.body(graph)
    first, last = nodes[0].name, nodes[-1].name
    table = table_of(graph, {first: 3.0, last: 5.0})
    modes = mixed.all_int8(graph)
    assert mixed.predicted_noise(graph, table, modes) == 8.0
    assert mixed.predicted_noise(graph, table, {**modes, last: "float"}) == 3.0
    assert mixed.predicted_noise(graph, table, {**modes, first: "float"}) == 8.0
    readers = {n.name: "float" for n in graph.consumers(nodes[0].output)}
    assert mixed.predicted_noise(graph, table, {**modes, **readers, first: "float"}) == 5.0  # type: ignore[dict-item]


def test_the_choice_stays_within_its_budget(quantized: Quantized) -> None:
    graph = quantized.graph
    names = [n.name for n in mixed.body(graph)]
    table = table_of(graph, {names[-1]: 5.0, names[0]: 1.0})

    def cost(modes: mixed.Modes) -> float:
        return sum(mode != "int8" for mode in modes.values())

    assert mixed.choose(graph, table, cost, 0.5) == mixed.all_int8(graph)  # type: ignore[arg-type]
    chosen = mixed.choose(graph, table, cost, 1.0)  # type: ignore[arg-type]
    assert [name for name in names if chosen[name] != "int8"] == [names[-1]]


def test_work_counts_borders_and_products(quantized: Quantized) -> None:
    graph = quantized.graph
    head = graph.nodes[-2]
    assert isinstance(head, Dense)
    assert mixed.work(graph, mixed.all_int8(graph)) == mixed.Work(
        border_elements=10.0  # the logits, for the softmax
    )
    found = mixed.work(graph, {**mixed.all_int8(graph), head.name: "float"})
    assert found == mixed.Work(border_elements=24.0, float_dense=240.0)
