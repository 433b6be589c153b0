"""Channel shuffles go where convolutions can read their channels in another order."""

from __future__ import annotations

import numpy as np
import pytest
from pass_graphs import kinds

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    ChannelShuffle,
    Concat,
    Conv,
    Fused,
    Graph,
    MaxPool,
    Slice,
)
from exporter.convert.passes import standard, unshuffle
from exporter.convert.passes.unshuffle import UNSHUFFLE
from support.tflite_files import Net, float_model, kinds_of, pixels_for, run

CHANNELS = 20


def depthwise(net: Net, source: str, strides: tuple[int, int] = (1, 1)) -> str:
    channels = net.shapes[source][1]
    return net.conv(
        source, channels, (3, 3), padding=(1, 1, 1, 1), strides=strides, groups=channels
    )


def unit(net: Net, source: str) -> str:
    """ShuffleNetV2's: one half as it is, the other through three convolutions."""
    half = net.shapes[source][1] // 2
    kept = net.add(Slice, source, axis=1, start=0, stop=half)
    given = net.add(Slice, source, axis=1, start=half, stop=2 * half)
    inner = net.conv(given, half, fused=Fused.RELU)
    last = net.conv(depthwise(net, inner), half, fused=Fused.RELU)
    return net.add(ChannelShuffle, net.add(Concat, kept, last), groups=2)


def smaller(net: Net, source: str) -> str:
    """The one that halves the picture: both branches read all channels, one at once by depth."""
    one = net.conv(depthwise(net, source, (2, 2)), CHANNELS // 2, fused=Fused.RELU)
    inner = net.conv(source, CHANNELS // 2, fused=Fused.RELU)
    other = net.conv(depthwise(net, inner, (2, 2)), CHANNELS // 2, fused=Fused.RELU)
    return net.add(ChannelShuffle, net.add(Concat, one, other), groups=2)


def network(units: int = 6) -> Net:
    net = Net(3, 6, 6)
    made = net.conv("pixels", CHANNELS, fused=Fused.RELU)
    for _ in range(units):
        made = unit(net, made)
    made = smaller(net, made)
    net.conv(unit(net, made), 5)
    return net


def moved(before: Graph, after: Graph) -> float:
    images = pixels_for(before)
    pairs = (
        (Evaluator(one, threads=1).run(image)[one.output] for one in (before, after))
        for image in images
    )
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


def test_a_network_of_units_has_no_shuffle_left() -> None:
    graph = network().graph()
    after, changed = UNSHUFFLE.apply(graph)
    assert changed and moved(graph, after) < 1e-5
    assert ChannelShuffle in kinds(graph) and ChannelShuffle not in kinds(after)
    assert kinds(after).count(Conv) == kinds(graph).count(Conv)
    kept = set(graph.shapes) & set(after.shapes)
    same = [Evaluator(one, list(kept), threads=1) for one in (graph, after)]
    first, second = (one.run(pixels_for(graph)[0]) for one in same)
    for name in kept:  # a name stands for the same values as before
        np.testing.assert_allclose(second[name], first[name], rtol=1e-4, atol=1e-4)
    assert max(len(n.inputs) for n in after.nodes if isinstance(n, Concat)) == 5
    assert not UNSHUFFLE.apply(after)[1]
    model = float_model(standard(graph))
    assert "TRANSPOSE" not in kinds_of(model)
    image = pixels_for(graph)[0]
    wanted = Evaluator(graph, threads=1).run(image)[graph.output]
    np.testing.assert_allclose(run(model, [image])[0], wanted, atol=1e-4 * np.abs(wanted).max())


def test_a_shuffle_that_something_else_reads_stays_and_so_does_the_graph() -> None:
    net = network(1)
    net.add(MaxPool, unit(net, net.nodes[0].output), kernel=(2, 2), strides=(2, 2))
    shuffled = net.nodes[-1].output
    net.conv(shuffled, 4)
    assert not UNSHUFFLE.apply(net.graph())[1]


def test_channels_that_come_twice_stay() -> None:
    net = Net(4, 5, 3)
    twice = net.add(Concat, "pixels", "pixels")
    net.conv(net.add(ChannelShuffle, twice, groups=2), 3)
    assert not UNSHUFFLE.apply(net.graph())[1]


def test_a_depthwise_result_that_is_pooled_stays() -> None:
    net = Net(4, 5, 3)
    deep = depthwise(net, net.add(ChannelShuffle, groups=2))
    net.add(MaxPool, deep, kernel=(2, 2), strides=(1, 1))
    assert not UNSHUFFLE.apply(net.graph())[1]


def test_weights_in_the_wrong_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network(2).graph()
    honest = unshuffle._Moving._gathered

    def swapped(moving: object, node: Conv) -> tuple[str, list[int]]:
        tensor, order = honest(moving, node)  # type: ignore[arg-type]
        order[0], order[1] = order[1], order[0]
        return tensor, order

    monkeypatch.setattr(unshuffle._Moving, "_gathered", swapped)
    assert moved(graph, UNSHUFFLE.apply(graph)[0]) > 1e-3
