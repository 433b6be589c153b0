"""The torch networks of distillation: the same arithmetic as the evaluator and the simulator."""

from __future__ import annotations

import numpy as np
import pytest
import target_graphs

pytest.importorskip("torch")
import torch

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Dense, Graph
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.distill.harvest import harvest
from exporter.convert.quantize.distill.lessons import choose_course, join, plan_views
from exporter.convert.quantize.distill.network import (
    FloatNetwork,
    LearnedNetwork,
    Rounding,
    needed,
)
from exporter.convert.quantize.distill.rounding import RoundActivation, RoundWeight
from exporter.convert.quantize.distill.views import make_view
from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.quantize.simulate import Simulator
from support import nets

PICTURES = [target_graphs.some_pixels(seed=seed) for seed in range(4)]
# means of steps, and 1/2 of a hard sigmoid, lie in the middle of two
TIES = ("average_pool_same", "average_pool_uneven", "average_pool_ceil", "hardsigmoid")


def all_of(runner: Evaluator | Simulator, name: str) -> np.ndarray:
    return np.concatenate([runner.run(picture)[name] for picture in PICTURES])


def planned(case: str) -> tuple[Graph, QuantizationPlan]:
    graph = target_graphs.make(case).classify()
    return graph, calibrate(graph, PICTURES)


@pytest.mark.parametrize("case", target_graphs.CASES | target_graphs.ZOO_CASES)
def test_every_node_as_in_the_evaluator(case: str) -> None:
    graph = target_graphs.make(case).classify()
    names = [node.output for node in graph.nodes]
    evaluator = Evaluator(graph, names)
    found = FloatNetwork(graph).run(torch.from_numpy(np.stack(PICTURES)), names)
    for name in names:
        np.testing.assert_allclose(found[name].numpy(), all_of(evaluator, name), atol=1e-5)


@pytest.mark.parametrize("case", target_graphs.CASES | target_graphs.ZOO_CASES)
def test_every_node_as_in_the_simulator(case: str) -> None:
    graph, plan = planned(case)
    names = [name for name in plan.activations if name != graph.input.name]
    simulator = Simulator(graph, plan, names)
    with torch.no_grad():
        found = LearnedNetwork(graph, plan)(torch.from_numpy(np.stack(PICTURES)), names)
    for name in names:
        steps = np.abs(found[name].numpy() - all_of(simulator, name)) / plan.activations[name].scale
        assert steps.max() <= (1.01 if case in TIES else 1e-3), name


@pytest.mark.parametrize("case", ["residual", "squeeze_excite", "concat_features", "sigmoid"])
def test_what_has_not_learned_is_the_plan(case: str) -> None:
    graph, plan = planned(case)
    found = harvest(LearnedNetwork(graph, plan), plan)
    assert found.activations == plan.activations and found.record == plan.record
    for name, weights in plan.weights.items():
        for part in ("values", "scales", "bias"):
            assert np.array_equal(getattr(weights, part), getattr(found.weights[name], part))


def test_what_has_learned_is_in_the_plan() -> None:
    """Harvested integers, run in the simulator, are what the network computes."""
    graph, plan = planned("residual")
    network = LearnedNetwork(graph, plan)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.layers.values():
            layer.steps += torch.randn(layer.steps.shape, generator=generator)
            layer.gain += 0.1 * torch.randn(layer.gain.shape, generator=generator)
            layer.shift += torch.randn(layer.shift.shape, generator=generator)
        for rounding in network.roundings:
            rounding.growth += 0.1 * rounding.growth.requires_grad
            rounding.moved += 3.4 * rounding.moved.requires_grad
        made = network(torch.from_numpy(np.stack(PICTURES)), [graph.logits])[graph.logits]
    found = harvest(network, plan)
    assert found.activations[graph.logits] == plan.activations[graph.logits]
    assert found.activations[graph.input.name] == plan.activations[graph.input.name]
    changed = [name for name, old in plan.activations.items() if found.activations[name] != old]
    assert changed and {"learned"} == {
        found.record["activations"]["tensors"][name]["rule"]
        for name in changed
        if name in found.record["activations"]["tensors"]
    }
    steps = made.numpy() - all_of(Simulator(graph, found, [graph.logits]), graph.logits)
    # a bias rounded to int32 may turn a tie
    assert np.abs(steps).max() <= 1.01 * plan.activations[graph.logits].scale


def test_scales_beyond_the_kernels_are_refused() -> None:
    graph, plan = planned("residual")
    network = LearnedNetwork(graph, plan)
    with torch.no_grad():
        next(iter(network.layers.values())).gain += 20.0
    with pytest.raises(QuantizationError, match="too large"):
        harvest(network, plan)


def test_a_scale_is_widened_where_the_bias_would_not_fit() -> None:
    graph, plan = planned("residual")
    network = LearnedNetwork(graph, plan)
    layer = network.layers[next(n.name for n in graph.nodes if isinstance(n, Conv))]
    with torch.no_grad():
        layer.gain -= 17.0
    found = harvest(network, plan)
    bias = np.concatenate([weights.bias for weights in found.weights.values()])
    assert np.abs(bias.astype(np.int64)).max() <= 2**30


def test_rounding_and_its_gradients_by_hand() -> None:
    values = torch.tensor([-5.0, 0.2, 0.6, 80.0], requires_grad=True)
    scale, zero = torch.tensor(0.5, requires_grad=True), torch.tensor(-124.0, requires_grad=True)
    made = RoundActivation.apply(values, scale, zero)
    # -128 is -4 steps; 127 is 251 steps
    assert made.tolist() == [-2.0, 0.0, 0.5, 80.0]
    made.backward(torch.tensor([1.0, 1.0, 10.0, 1.0]))
    assert values.grad is not None and scale.grad is not None and zero.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 10.0, 1.0]
    # clipped: -4; inside: 0 - 0.4, 10 (1 - 1.2), 160 - 160
    assert float(scale.grad) == pytest.approx(-4 - 0.4 - 2.0)
    assert float(zero.grad) == pytest.approx(-0.5)


def test_weights_round_half_to_even_and_let_gradients_through() -> None:
    steps = torch.tensor([0.5, 1.5, -130.0], requires_grad=True)
    made = RoundWeight.apply(steps)
    assert made.tolist() == [0.0, 2.0, -127.0]
    made.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert steps.grad is not None and steps.grad.tolist() == [1.0, 2.0, 3.0]


def test_a_relu6_cap_below_the_range_is_kept() -> None:
    from exporter.convert.graph import Fused

    rounding = Rounding(Affine(0.05, -128), learns=True)  # reaches 12.75
    assert rounding(torch.tensor([9.0, -1.0]), Fused.RELU6).tolist() == [6.0, 0.0]
    assert not rounding.moved.requires_grad  # zero stays the lowest


def test_given_scales_do_not_learn() -> None:
    graph, plan = planned("sigmoid")
    network = LearnedNetwork(graph, plan)
    for group, rounding in zip(network.groups, network.roundings, strict=True):
        given = group.fixed is not None or group.logits
        assert rounding.growth.requires_grad == (not given)
        assert not (given and rounding.moved.requires_grad)


def test_the_learning_part_is_the_last_share() -> None:
    graph = target_graphs.make("residual").classify()
    nodes = [node for node in graph.nodes if node.output != graph.output]
    whole = choose_course(graph, nodes, 1.0)
    assert whole.given == (graph.input.name,) and whole.nodes == tuple(nodes)
    late = choose_course(graph, nodes, 0.3)
    assert len(late.given) == 1 and isinstance(late.nodes[-1], Dense)
    assert set(late.nodes) < set(nodes)
    assert needed(nodes, set(late.given), [graph.logits]) == late.nodes


def test_views_are_pictures_of_the_same_kind_and_repeatable() -> None:
    pictures = nets.images(6, 32)
    first, second = ([make() for make in plan_views(pictures, 4, seed)] for seed in (0, 1))
    again = [make() for make in plan_views(pictures, 4, 0)]
    assert len(first) == 24 and all(v.shape == (32, 32, 3) for v in first)
    assert all(v.dtype == np.uint8 for v in first)
    assert all(np.array_equal(a, b) for a, b in zip(first[:6], pictures, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert sum(np.array_equal(a, b) for a, b in zip(first[6:], second[6:], strict=True)) < 9
    differences = [
        np.abs(make_view(pictures, 0, np.random.default_rng(k)).astype(int) - pictures[0]).mean()
        for k in range(20)
    ]
    assert 0 < np.mean(differences) < 80


def test_lessons_are_what_both_networks_say() -> None:
    from exporter.convert.quantize.distill.lessons import Teacher, make_lessons
    from exporter.convert.quantize.distill.parallel import Workers

    graph, plan = planned("residual")
    network = LearnedNetwork(graph, plan)
    course = choose_course(graph, network.nodes, 1.0)
    assert course.features is not None
    size = graph.shapes[course.features][1]
    scales = {course.features: np.full(size, 2.0)}
    teacher = Teacher(graph, scales, network, course)
    with Workers(2) as workers:
        lessons = make_lessons(teacher, plan_views(PICTURES, 1, 0), workers)
    assert len(lessons) == len(PICTURES)
    lesson = join(lessons)
    evaluator = Evaluator(graph, [graph.logits, course.features])
    np.testing.assert_allclose(lesson.logits, all_of(evaluator, graph.logits), atol=1e-5)
    assert lesson.features is not None
    np.testing.assert_allclose(
        lesson.features.float(), 2 * all_of(evaluator, course.features), rtol=2e-3, atol=2e-3
    )
    simulator = Simulator(graph, plan, course.given)
    for name in course.given:
        assert lesson.given[name].dtype == torch.int8
        found = network.from_steps(name, lesson.given[name])
        np.testing.assert_array_equal(found, all_of(simulator, name))


def test_steps_stand_for_their_tensor_to_the_last_bit() -> None:
    graph, plan = planned("squeeze_excite")
    network = LearnedNetwork(graph, plan)
    with torch.no_grad():
        made = network(torch.from_numpy(np.stack(PICTURES)), tuple(plan.activations))
    for name, values in made.items():
        steps = network.to_steps(name, values)
        assert steps.dtype == torch.int8
        assert torch.equal(network.from_steps(name, steps), values), name
