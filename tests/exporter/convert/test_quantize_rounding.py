"""Rounding that compensates, by hand and against plain rounding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import target_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Dense
from exporter.convert.quantize.rounding.compensated import compensated
from exporter.convert.quantize.rounding.moments import SecondMoments, scaled


def cost(weight: np.ndarray, steps: np.ndarray, scales: np.ndarray, c: np.ndarray) -> float:
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    error = rows - steps.reshape(rows.shape) * scales[:, None].astype(np.float64)
    if c.ndim == 3:
        return float(np.einsum("ci,cij,cj->", error, c, error))
    return float(np.einsum("ci,ij,cj->", error, c, error))


def test_by_hand() -> None:
    """Two inputs that always move together: 0.4 + 0.4 is 0.8, so one step, not none."""
    together = np.array([[1.0, 0.999], [0.999, 1.0]])
    weight, scales = np.float32([[0.4, 0.4]]), np.float32([1.0])
    assert np.rint(weight).tolist() == [[0.0, 0.0]]
    assert sorted(compensated(weight, scales, together, 1e-6)[0].tolist()) == [0, 1]
    apart = np.eye(2)
    assert compensated(weight, scales, apart, 1e-6).tolist() == [[0, 0]]


def test_a_depthwise_channel_has_a_matrix_of_its_own() -> None:
    together = np.array([[1.0, 0.999], [0.999, 1.0]])
    both = np.stack([together, np.eye(2)])
    weight = np.float32([[0.4, 0.4], [0.4, 0.4]])
    found = compensated(weight, np.float32([1.0, 1.0]), both, 1e-6)
    assert sorted(found[0].tolist()) == [0, 1] and found[1].tolist() == [0, 0]


def test_depthwise_by_hand() -> None:
    """One channel, three weights of 0.4, 0.3 and 0.2 and a step of 1, worked through.

    With C = [[2, 1, 0], [1, 2, 1], [0, 1, 2]], its inverse is [[3, -2, 1], [-2, 4, -2],
    [1, -2, 3]] / 4 and its upper factor's rows, divided by their diagonals, are (1, -2/3, 1/3),
    (0, 1, -1/2) and (0, 0, 1). 0.4 rounds to 0: 0.3 becomes 0.3 + 0.4 * 2/3 = 0.567 and 0.2
    becomes 0.2 - 0.4 / 3 = 0.067. 0.567 rounds to 1: 0.067 - 0.433 / 2 = -0.15. That rounds to 0.
    """
    c = np.array([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]])[None]
    weight, scales = np.float32([[[[0.4, 0.3, 0.2]]]]), np.float32([1.0])
    assert not np.rint(weight).any()  # to the nearest all three vanish
    found = compensated(weight, scales, c, 1e-12)
    assert found.shape == (1, 1, 1, 3) and found.reshape(-1).tolist() == [0, 1, 0]
    nearest = np.zeros(3)
    assert cost(weight, found, scales, c) == pytest.approx(0.54, abs=1e-6)
    assert cost(weight, nearest, scales, c) == pytest.approx(0.94, abs=1e-6)


def exhaustive(row: np.ndarray, c: np.ndarray) -> float:
    """The least cost of all ways to move each weight by up to four steps."""
    moves = np.array(list(itertools.product(range(-3, 5), repeat=len(row))))
    error = row - (np.floor(row) + moves)
    return float(np.einsum("mi,ij,mj->m", error, c, error).min())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.floats(0.0, 0.95))
def test_against_the_exhaustive_optimum(seed: int, inputs: int, together: float) -> None:
    """Over eight rows within a factor of the best there is (1.8 was the worst of 400 draws,
    1.08 the mean). It is greedy: to the nearest may be better by a little (0.9 at best)."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((inputs, inputs)) * (1 - together) + together
    c = mixed @ mixed.T / inputs + 0.02 * np.eye(inputs)
    weight = (random.standard_normal((8, inputs)) * 3).astype(np.float32)
    scales = np.ones(8, np.float32)
    steps = compensated(weight, scales, c, 1e-9)
    found = cost(weight, steps, scales, c)
    nearest = cost(weight, np.rint(weight), scales, c)
    best = sum(exhaustive(row.astype(np.float64), c) for row in weight)
    assert best <= found + 1e-9
    assert found <= 2.5 * best + 1e-9
    assert found <= 1.3 * nearest + 1e-9


@pytest.mark.parametrize("inputs", [3, 64, 65, 150])
def test_it_costs_less_than_rounding_to_the_nearest(inputs: int) -> None:
    random = np.random.default_rng(inputs)
    mixed = random.standard_normal((inputs, inputs)) / inputs**0.5
    x = mixed @ random.standard_normal((inputs, 4 * inputs)) + 0.2
    c = np.cov(x)
    weight = random.standard_normal((8, inputs)).astype(np.float32)
    scales = (np.abs(weight).max(1) / 127).astype(np.float32) * 8  # coarse, as 4 bits would be
    nearest = np.clip(np.rint(weight / scales[:, None]), -127, 127)
    found = compensated(weight, scales, c)
    assert found.dtype == np.int8 and np.abs(found.astype(int)).max() <= 127
    assert cost(weight, found, scales, c) < 0.8 * cost(weight, nearest, scales, c)
    assert np.array_equal(found, compensated(weight, scales, c))


def test_independent_inputs_round_to_the_nearest() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 10)).astype(np.float32)
    scales = np.full(4, 0.1, np.float32)
    nearest = np.rint(weight.astype(np.float64) / scales[:, None].astype(np.float64))
    for c in (np.diag(np.arange(1.0, 11.0)), np.zeros((10, 10))):
        assert np.array_equal(compensated(weight, scales, c), nearest)


def test_a_matrix_that_rounding_errors_spoiled_is_damped_more() -> None:
    spoiled = np.array([[1.0, 1.2], [1.2, 1.0]])  # no covariance: an eigenvalue is -0.2
    weight, scales = np.float32([[0.4, 0.4], [1.6, -0.3]]), np.float32([1.0, 1.0])
    for c in (spoiled, np.stack([spoiled, np.eye(2)])):
        found = compensated(weight, scales, c)
        assert np.abs(found - weight).max() <= 1.0


def test_small_variance_beside_a_large_mean_is_seen() -> None:
    to = target_graphs.Sketch(height=4, width=4)
    to.conv(2, 3)
    graph = to.classify()
    moments = SecondMoments(graph)
    random = np.random.default_rng(0)
    pictures = 1000.0 + 0.01 * random.standard_normal((20, 1, 3, 4, 4))
    values = dict.fromkeys(moments.names)
    for picture in pictures.astype(np.float32):
        for node in moments.layers.values():
            shape = graph.shapes[node.inputs[0]]
            values[node.inputs[0]] = picture if shape[1] == 3 else np.zeros(shape, np.float32)
        moments.update(values)
    expected = np.cov(pictures.astype(np.float32)[:, 0].swapaxes(0, 1).reshape(3, -1))
    found = moments.covariance(graph.nodes[0].name)
    assert np.allclose(found, expected, rtol=0.05, atol=2e-6)
    assert np.linalg.eigvalsh(found).min() > 0


def test_what_a_layer_makes_varies_as_its_weights_and_the_covariance_say() -> None:
    to = target_graphs.Sketch(height=6, width=7)
    to.conv(4, 3, 3, 2, strides=(2, 1), padding=(1, 0, 1, 1), dilations=(1, 2))
    to.conv(4, 4, 3, 3, padding=(1, 1, 1, 1), groups=4)
    graph = to.classify()
    moments = SecondMoments(graph)
    made = [node.output for node in graph.nodes[:2]]
    evaluator = Evaluator(graph, list(dict.fromkeys([*moments.names, *made])))
    random = np.random.default_rng(1)
    seen = []
    for _ in range(19):  # more than are multiplied together
        seen.append(evaluator.run(random.integers(0, 256, (6, 7, 3), np.uint8)))
        moments.update(seen[-1])
    for node, form in zip(graph.nodes[:2], ("ci,ij,cj->c", "ci,cij,cj->c"), strict=True):
        assert isinstance(node, Conv)
        rows = node.weight.reshape(4, -1).astype(np.float64)
        expected = np.concatenate([v[node.output][0].reshape(4, -1) for v in seen], axis=1)
        found = np.einsum(form, rows, moments.covariance(node.name), rows)
        assert np.allclose(found, expected.var(axis=1), rtol=1e-3)


def test_scaled_covariance_is_that_of_scaled_inputs() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((6, 50))
    scale = np.array([1.0, 2.0, 4.0])
    each = np.repeat(scale, 2)
    assert np.allclose(scaled(np.cov(x), scale), np.cov(x * each[:, None]))
    depthwise = np.stack([np.cov(random.standard_normal((4, 50))) for _ in range(3)])
    assert np.allclose(scaled(depthwise, scale), depthwise * (scale**2)[:, None, None])


def test_layers_that_are_too_wide_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    to = target_graphs.Sketch()
    to.conv(4, 3)
    to.conv(4, 4, groups=2)
    graph = to.classify()
    kinds = {type(node) for node in SecondMoments(graph).layers.values()}
    assert kinds == {Conv, Dense} and len(SecondMoments(graph).layers) == 3
    monkeypatch.setattr("exporter.convert.quantize.rounding.moments.MOST_INPUTS", 3)
    assert [type(n) for n in SecondMoments(graph).layers.values()] == [Conv, Conv]


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_each_group_of_a_convolution_is_rounded_over_its_own_inputs(groups: int) -> None:
    to = target_graphs.Sketch(height=6, width=7)
    to.conv(6, 3, 3, 3, padding=(1, 1, 1, 1))
    to.conv(12, 6, 3, 3, padding=(1, 1, 1, 1), groups=groups)
    graph = to.classify()
    node = graph.nodes[1]
    assert isinstance(node, Conv)
    moments = SecondMoments(graph)
    evaluator = Evaluator(graph, moments.names)
    random = np.random.default_rng(groups)
    for _ in range(16):
        moments.update(evaluator.run(random.integers(0, 256, (6, 7, 3), np.uint8)))
    covariance = moments.covariance(node.name).reshape(groups, 54 // groups, -1)
    scales = np.full(12, np.abs(node.weight).max() / 7, np.float32)  # coarse
    steps = compensated(node.weight, scales, moments.covariance(node.name))

    def cost(each: np.ndarray) -> float:
        errors = (node.weight - each * scales[:, None, None, None]).reshape(
            groups, -1, 54 // groups
        )
        return float(np.einsum("goi,gij,goj->", errors, covariance, errors))

    assert cost(steps) < 0.9 * cost(np.rint(node.weight / scales[:, None, None, None]))
    for index in range(groups):  # alone it is rounded the same
        some = slice(index * 12 // groups, (index + 1) * 12 // groups)
        alone = compensated(node.weight[some], scales[some], covariance[index])
        np.testing.assert_array_equal(alone, steps[some])
    scale = random.uniform(0.5, 2.0, 6)
    each = np.repeat(scale.reshape(groups, -1), 9, axis=1)
    expected = covariance * each[:, :, None] * each[:, None, :]
    found = scaled(moments.covariance(node.name), scale).reshape(covariance.shape)
    np.testing.assert_allclose(found, expected)
