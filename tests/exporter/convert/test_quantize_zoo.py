"""Int8 of the zoo's families, on networks that decide (`support.zoo_nets`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    Concat,
    GlobalAveragePool,
    Graph,
    HardSigmoid,
    HardSwish,
    MaxPool,
    Node,
    Relu,
    Relu6,
)
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.ranges.useful import ALL, useful_bounds
from support import zoo_nets
from support.tflite_files import Net


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "resnet18"])
def test_a_network_decides_and_its_weights_matter(name: str) -> None:
    checkpoint = zoo_nets.decided_checkpoint(name)
    assert zoo_nets.accuracy(checkpoint) > 0.6  # of eight classes
    logits, _ = zoo_nets.logits_of(checkpoint, 24)
    spread = (logits - logits.mean(axis=0)).std()
    assert 1.0 < spread < 3.0
    weights = [key for key, value in checkpoint.state.items() if value.ndim == 4]
    state = dict(checkpoint.state)
    middle = state[weights[len(weights) // 2]].clone()
    middle[: len(middle) // 8] = 0
    state[weights[len(weights) // 2]] = middle
    moved, _ = zoo_nets.logits_of(replace(checkpoint, state=state), 24)
    assert np.abs(moved - logits).mean() > 0.02 * spread


def test_the_same_arguments_give_the_same_network() -> None:
    one, other, third = (
        zoo_nets.decided_checkpoint("squeezenet1_1", seed=seed) for seed in (0, 0, 1)
    )
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    assert not all(torch.equal(one.state[key], third.state[key]) for key in one.state)


# What no reader can tell apart gets no levels


def one_reader(*kinds: type[Node], last: bool = False) -> tuple[Graph, str]:
    net = Net(3, 8, 8)
    made = net.conv("pixels", 4, (3, 3))
    read = [net.add(kind, made) for kind in kinds]
    if not last:
        net.add(Concat, *(name for name in read), net.conv("pixels", 4, (3, 3)))
    return net.graph(), made


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ((HardSwish,), (-3.0, np.inf)),
        ((HardSigmoid,), (-3.0, 3.0)),
        ((Relu,), (0.0, np.inf)),
        ((Relu6, HardSigmoid), (-3.0, 6.0)),
        ((HardSwish, GlobalAveragePool), (-np.inf, np.inf)),
    ],
)
def test_values_that_no_reader_tells_apart(
    kinds: tuple[type[Node], ...], wanted: tuple[float, float]
) -> None:
    graph, made = one_reader(*kinds, last=True)
    assert useful_bounds(graph, [made]) == wanted
    assert useful_bounds(graph, [graph.output]) == ALL


def test_what_moves_values_passes_bounds_on() -> None:
    net = Net(3, 8, 8)
    made = net.conv("pixels", 4, (3, 3))
    pooled = net.add(MaxPool, made, kernel=(2, 2), strides=(2, 2))
    net.add(HardSwish, pooled)
    graph = net.graph()
    assert useful_bounds(graph, [made, pooled]) == (-3.0, np.inf)
    assert useful_bounds(graph, [made]) == ALL  # alone it is read by who knows what


def test_the_range_before_a_hard_swish_ends_at_minus_three() -> None:
    graph, made = one_reader(HardSwish)
    pictures = [np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8) for i in range(9)]
    seen = Evaluator(graph, [made], threads=1)
    assert min(seen.run(each)[made].min() for each in pictures) < -4
    for rule in ("min_max", "mean_min_max", "least_squared_error"):
        plan = calibrate(graph, pictures, rule=rule, correct_bias=False)  # type: ignore[arg-type]
        affine = plan.activations[made]
        assert (-128 - affine.zero_point) * affine.scale == pytest.approx(-3, abs=affine.scale)
        assert plan.record["activations"]["tensors"][made]["saturated"] < 0.2
