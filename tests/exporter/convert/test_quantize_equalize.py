"""Equalization: the same answers, the cap where it was, channels that fill their range."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import target_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from uneven_graphs import images, inverted_residuals, sketch, uneven

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    Add,
    AveragePool,
    ChannelShuffle,
    Concat,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    MaxPool,
    Mul,
    Pad,
    Sigmoid,
    Slice,
    Softmax,
)
from exporter.convert.quantize.rounding.equalize import ChannelExtremes, Equalized, equalize


def watched(graph: Graph, pictures: list[np.ndarray]) -> ChannelExtremes:
    seen = ChannelExtremes(graph)
    evaluator = Evaluator(graph, seen.names)
    for picture in pictures:
        seen.update(evaluator.run(picture))
    return seen


def equalized(graph: Graph, factor: float = 4.0) -> Equalized:
    return equalize(graph, watched(graph, images(graph)), factor)


def logits(graph: Graph, pictures: list[np.ndarray]) -> np.ndarray:
    evaluator = Evaluator(graph, [graph.logits])
    return np.concatenate([evaluator.run(picture)[graph.logits] for picture in pictures])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2), st.floats(1.0, 16.0))
def test_answers_stay_and_no_channel_reaches_the_cap_that_did_not(
    seed: int, blocks: int, factor: float
) -> None:
    graph = inverted_residuals(seed, blocks)
    pictures = images(graph)
    found = equalize(graph, watched(graph, pictures), factor)
    before, after = logits(graph, pictures), logits(found.graph, pictures)
    assert np.abs(after - before).max() <= 2e-5 * max(np.abs(before).max(), 1.0)
    old, new = watched(graph, pictures), watched(found.graph, pictures)
    for node in found.graph.nodes:
        if isinstance(node, Conv) and node.fused is Fused.RELU6:
            assert np.all(new.largest(node.output) <= 6.0 + 1e-4)
            capped = old.largest(node.output) >= 6.0
            scale = found.scales.get(node.output, np.ones(len(capped)))
            assert np.all(scale[capped] == 1.0)
    for scale in found.scales.values():
        assert scale.min() >= 1.0 and scale.max() <= factor
    same_network(graph, found.graph)


def same_network(graph: Graph, other: Graph) -> None:
    """The same nodes with the same activations: no ReLU6 became a ReLU, only numbers changed."""
    for one, two in zip(graph.nodes, other.nodes, strict=True):
        assert type(one) is type(two) and one.inputs == two.inputs and one.output == two.output
        assert getattr(one, "fused", None) is getattr(two, "fused", None)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(1.0, 64.0))
def test_behind_relu_the_answers_stay_on_any_picture(seed: int, factor: float) -> None:
    """A ReLU has no cap to meet: exact on pictures that were never seen, by any factor."""
    to = sketch(seed)
    for inputs, out in ((3, 8), (8, 12), (12, 6)):
        uneven(to, out, inputs, 3, 3, padding=(1, 1, 1, 1), fused=Fused.RELU)
    to.add(GlobalAveragePool)
    graph = to.classify()
    found = equalize(graph, watched(graph, images(graph, 2)), factor)
    if factor >= 2:
        assert len(found.scales) >= 3
    others = images(graph, 6, seed=1)
    before, after = logits(graph, others), logits(found.graph, others)
    assert np.abs(after - before).max() <= 2e-5 * max(np.abs(before).max(), 1.0)
    same_network(graph, found.graph)


def test_a_pooled_classifier_is_covered() -> None:
    """conv -> ReLU6 -> global pool -> flatten -> dense: the dense layer takes the scales back."""
    to = sketch()
    source = uneven(to, 6, 3, fused=Fused.RELU6)
    to.nodes[-1] = replace(to.nodes[-1], weight=to.nodes[-1].weight * 0.2)  # type: ignore[attr-defined]
    pooled = to.add(GlobalAveragePool)
    graph = to.classify()
    found = equalized(graph)
    scale = found.scales[source]
    assert scale.max() > 1.5
    assert np.array_equal(found.scales[pooled], scale)
    dense = [next(n for n in g.nodes if isinstance(n, Dense)) for g in (graph, found.graph)]
    assert np.allclose(dense[1].weight * scale, dense[0].weight, rtol=1e-6)
    assert np.array_equal(dense[1].bias, dense[0].bias)
    assert np.allclose(logits(found.graph, images(graph)), logits(graph, images(graph)), atol=1e-4)


def test_by_hand() -> None:
    """Channels that reach 1.5 and 12 (cut to 6): the first grows fourfold, the second stays."""
    to = target_graphs.Sketch(height=1, width=1)
    first = to.add(
        Conv,
        weight=np.float32([[1.5 / 255, 0, 0], [12 / 255, 0, 0]]).reshape(2, 3, 1, 1),
        bias=np.float32([0, 0]),
        fused=Fused.RELU6,
    )
    second = to.add(
        Conv,
        weight=np.float32([[8, 4], [2, 1]]).reshape(2, 2, 1, 1),
        bias=np.float32([1, 2]),
    )
    graph = replace(to.classify(), shapes=to.graph().shapes)
    white = np.full((1, 1, 3), 255, np.uint8)
    found = equalize(graph, watched(graph, [white]), 4.0)
    assert found.scales[first].tolist() == [4.0, 1.0]
    one, two = (node for node in found.graph.nodes if isinstance(node, Conv))
    assert np.allclose(one.weight[:, 0, 0, 0], [6 / 255, 12 / 255])
    assert two.output == second
    scale = found.scales.get(second, np.ones(2))
    assert np.allclose(two.weight[..., 0, 0], np.float32([[2, 4], [0.5, 1]]) * scale[:, None])
    assert one.fused is Fused.RELU6


def test_a_stream_shares_one_scale_through_all_its_sums() -> None:
    found = equalized(inverted_residuals(3, 2))
    streams = [
        found.scales[node.output]
        for node in found.graph.nodes
        if isinstance(node, Add) or (isinstance(node, Conv) and node.fused is Fused.NONE)
    ]
    assert len(streams) == 5
    assert all(np.array_equal(scale, streams[0]) for scale in streams)
    assert streams[0].max() > 1.0


def test_no_channel_outgrows_any_tensor_of_its_stream() -> None:
    """A channel that is small in one tensor of a stream may be the largest of another."""
    graph = inverted_residuals(3, 2)
    seen = watched(graph, images(graph))
    found = equalize(graph, seen, 16.0)
    for node in graph.nodes:
        scale = found.scales.get(node.output)
        if scale is not None and isinstance(node, Add | Conv) and node.fused is Fused.NONE:
            reach = seen.reach(node.output)
            assert (reach * scale).max() <= reach.max() * (1 + 1e-9), node.name


def test_small_channels_fill_their_range_better() -> None:
    graph = inverted_residuals(1, 1)
    found = equalized(graph)
    pictures = images(graph)
    old, new = watched(graph, pictures), watched(found.graph, pictures)
    for name in set(found.scales) & set(new.names):
        assert (new.reach(name) / new.reach(name).max()).mean() >= (
            old.reach(name) / old.reach(name).max()
        ).mean()


@pytest.mark.parametrize(
    "kind, options",
    [
        (MaxPool, {"kernel": (2, 2), "strides": (2, 2)}),
        (AveragePool, {"kernel": (2, 2), "strides": (2, 2)}),
        (Pad, {"padding": (1, 1, 1, 1)}),
    ],
)
def test_scales_pass_through_what_treats_channels_alike(kind: type, options: Any) -> None:
    to = sketch()
    source = uneven(to, 6, 3, fused=Fused.RELU)
    made = to.add(kind, **options)
    uneven(to, 5, 6)
    graph = to.classify()
    found = equalized(graph)
    assert np.array_equal(found.scales[source], found.scales[made])
    assert np.allclose(logits(found.graph, images(graph)), logits(graph, images(graph)), atol=1e-4)


def test_what_cannot_be_undone_is_left_alone() -> None:
    """Each reader stands between two convolutions, which alone would scale what is between."""
    readers = ("sigmoid", "product", "capped product", "rows", "padded", "capped sum")
    for reader in (*readers, "nothing"):
        to = sketch()
        source = uneven(to, 6, 3, fused=Fused.RELU6)
        if reader == "sigmoid":
            to.add(Sigmoid)
        elif reader == "product":
            to.add(Mul, source, uneven(to, 6, 6))
        elif reader == "capped product":
            to.add(Mul, source, to.constant(0.5), fused=Fused.RELU6)
        elif reader == "rows":
            to.add(Concat, source, uneven(to, 6, 6), axis=2)
        elif reader == "padded":
            to.add(Pad, padding=(1, 1, 1, 1), value=1.0)
        elif reader == "capped sum":
            other = uneven(to, 6, 6)
            to.add(Add, source, other, fused=Fused.RELU6)
        to.conv(4, to.shape(to.last)[1])
        graph = to.classify()
        assert (source in equalized(graph).scales) == (reader == "nothing"), reader


def test_pixels_and_logits_are_never_scaled() -> None:
    graph = inverted_residuals(0, 1)
    found = equalized(graph)
    assert graph.input.name not in found.scales and graph.logits not in found.scales
    assert isinstance(graph.nodes[-1], Softmax) and graph.output not in found.scales


def test_a_factor_of_one_changes_nothing() -> None:
    graph = inverted_residuals(0, 1)
    found = equalized(graph, 1.0)
    assert not found.scales
    for one, other in zip(graph.nodes, found.graph.nodes, strict=True):
        if isinstance(one, Conv | Dense):
            assert np.array_equal(one.weight, other.weight)  # type: ignore[attr-defined]


# Channels that change places, are gated, or stand beside others


def gated(to: target_graphs.Sketch, source: str) -> str:
    """Squeeze-and-excitation."""
    count = to.shape(source)[1]
    to.add(GlobalAveragePool, source)
    uneven(to, 4, count, fused=Fused.RELU)
    to.conv(count, 4)
    return to.add(Mul, source, to.add(Sigmoid))


def branches(to: target_graphs.Sketch, source: str) -> str:
    """Two parts of very different size, side by side."""
    count = to.shape(source)[1]
    large = uneven(to, 5, count, fused=Fused.RELU)
    to.nodes[-1] = replace(to.nodes[-1], weight=to.nodes[-1].weight * 8)  # type: ignore[attr-defined]
    to.last = source
    small = uneven(to, 3, count, fused=Fused.RELU)
    return to.add(Concat, large, small)


def halves(to: target_graphs.Sketch, source: str) -> str:
    """A slice and a shuffle, as ShuffleNetV2 has them."""
    count = to.shape(source)[1]
    first = to.add(Slice, source, axis=1, start=0, stop=count // 2)
    second = to.add(Slice, source, axis=1, start=count // 2, stop=count)
    return to.add(ChannelShuffle, to.add(Concat, second, first), groups=2)


WAYS: dict[str, Any] = {
    "gated": gated,
    "branches": branches,
    "halves": halves,
    "grouped": lambda to, _: to.conv(4, 6, groups=2),
    "halved": lambda to, source: to.add(Mul, source, to.constant(0.5)),
    "flattened": lambda to, _: to.last,
}


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("seed", range(3))
def test_scales_follow_channels(way: str, seed: int) -> None:
    to = sketch(seed)
    source = uneven(to, 6, 3, 3, 3, fused=Fused.RELU)
    made = WAYS[way](to, source)
    if way != "flattened":
        to.last = made
        uneven(to, 5, to.shape(made)[1], fused=Fused.RELU)
    graph = to.classify()
    found = equalized(graph)
    assert found.scales[source].max() > 1.5
    other = images(graph, seed=9)  # a ReLU has no cap: exact on any picture
    before, after = logits(graph, other), logits(found.graph, other)
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()
    evaluator = {g: Evaluator(g, list(found.scales)) for g in (graph, found.graph)}
    one, scaled = (evaluator[g].run(other[0]) for g in (graph, found.graph))
    for name, scale in found.scales.items():
        wanted = one[name] * scale.reshape(1, -1, *(1,) * (one[name].ndim - 2))
        assert np.abs(scaled[name] - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_small_part_of_a_concatenation_fills_the_range_that_it_shares() -> None:
    to = sketch()
    made = branches(to, uneven(to, 6, 3, 3, 3, fused=Fused.RELU))
    to.last = made
    uneven(to, 5, 8)
    graph = to.classify()
    whole = graph.producer(made)
    assert whole is not None
    seen = watched(graph, images(graph))
    parts = [seen.reach(part) for part in whole.inputs]
    assert abs(np.log(parts[0].max() / parts[1].max())) > 0.1
    reach = np.concatenate(parts)  # both against the widest channel of the whole
    wanted = np.clip(reach.max() / np.maximum(reach, 1e-6), 1.0, 4.0)
    np.testing.assert_allclose(equalize(graph, seen).scales[made], wanted, rtol=1e-6)


def test_a_gate_stays_what_it_is() -> None:
    to = sketch()
    made = gated(to, uneven(to, 6, 3, 3, 3, fused=Fused.RELU))
    to.conv(4, 6)
    graph = to.classify()
    product = graph.producer(made)
    assert product is not None
    picture, gate = product.inputs
    found = equalized(graph)
    assert gate not in found.scales
    assert np.array_equal(found.scales[picture], found.scales[made])
