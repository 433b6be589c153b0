"""Slices, channel shuffles, local response normalization and tanh: torch, onnxruntime, LiteRT.

Sizes are drawn; each is written at every precision and run with and without XNNPACK.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    ChannelShuffle,
    Concat,
    Fused,
    GlobalAveragePool,
    Graph,
    GraphError,
    LocalResponseNorm,
    MaxPool,
    Slice,
    Softmax,
    Tanh,
)
from exporter.convert.quantize import select
from exporter.convert.quantize.exact import ExactSimulator
from exporter.convert.quantize.groups import TANH, find_groups
from exporter.convert.quantize.quantize import quantize_fast
from exporter.convert.quantize.simulate import Simulator
from exporter.convert.targets.tflite.operators import activations, shapes
from exporter.convert.targets.tflite.writer import minimum_runtime
from support.tflite_files import (
    CONTRACT,
    DELEGATED,
    PLAIN,
    Net,
    pixels_for,
    plan_for,
    run,
    to_bytes,
)

lengths = st.integers(1, 9)
sizes = st.tuples(st.integers(2, 12), lengths, lengths)
few = settings(max_examples=8, deadline=None)
Reference = Callable[[Tensor], Tensor]


def check(graph: Graph, reference: Reference, steps: float = 1.01) -> None:
    """The graph of one operator in onnxruntime and LiteRT against torch.

    Args:
        steps: how far int8 may be from float, in steps of the larger scale.
    """
    images = pixels_for(graph)
    source = graph.input
    values = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) - source.zero_point
    with torch.no_grad():
        wanted = reference(torch.from_numpy(values * np.float32(source.scale))).numpy()
    evaluator, plan = Evaluator(graph, threads=1), plan_for(graph, images)
    coarsest = max(affine.scale for affine in plan.activations.values())
    bounds = {"float32": 2e-6, "float16": 2e-6, "int8": steps * coarsest}
    for image, row in zip(images, wanted, strict=True):
        np.testing.assert_allclose(evaluator.run(image)[graph.output][0], row, atol=2e-6)
    for precision, bound in bounds.items():
        model = to_bytes(graph, CONTRACT, precision, plan if precision == "int8" else None)
        for resolver in (DELEGATED, PLAIN):
            for found, row in zip(run(model, images, resolver), wanted, strict=True):
                assert found[0].shape == row.shape
                assert np.abs(found[0] - row).max() <= bound, precision


def one(kind: type[Any], picture: tuple[int, int, int], **fields: Any) -> Graph:
    net = Net(*picture)
    net.add(kind, **fields)
    return net.graph()


@few
@given(sizes, st.integers(1, 3), st.data())
def test_slice(size: tuple[int, int, int], axis: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size[axis - 1] - 1))
    stop = data.draw(st.integers(start + 1, size[axis - 1]))
    graph = one(Slice, size, axis=axis, start=start, stop=stop)
    check(graph, lambda x: x.narrow(axis, start, stop - start), 1e-3)


@few
@given(st.integers(2, 5), st.integers(1, 5), lengths, lengths)
def test_channel_shuffle(groups: int, each: int, height: int, width: int) -> None:
    graph = one(ChannelShuffle, (groups * each, height, width), groups=groups)
    check(graph, nn.ChannelShuffle(groups), 1e-3)


@few
@given(sizes, st.sampled_from([1, 3, 5, 7]), st.floats(0.01, 1), st.floats(0.3, 1))
def test_local_response_norm(
    size: tuple[int, int, int], window: int, alpha: float, beta: float
) -> None:
    graph = one(LocalResponseNorm, size, size=window, alpha=alpha, beta=beta, bias=1.5)
    check(graph, nn.LocalResponseNorm(window, alpha, beta, 1.5))


@few
@given(sizes)
def test_tanh(size: tuple[int, int, int]) -> None:
    check(one(Tanh, size), nn.Tanh(), 0.51)


# the files' own numbers changed: each has to be noticed


@pytest.mark.parametrize("wrong", [{"alpha": 0.5}, {"radius": 1}, {"beta": 0.5}, {"bias": 2.0}])
def test_a_wrong_normalization_is_noticed(
    wrong: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alpha that was not divided by the size, a window that is too small ..."""
    graph = one(LocalResponseNorm, (7, 3, 4), size=5, alpha=0.5, beta=0.75)
    reference = nn.LocalResponseNorm(5, 0.5, 0.75, 1.0)
    check(graph, reference)
    honest = activations.schema.LocalResponseNormalizationOptionsT.Pack

    def pack(options: Any, builder: Any) -> Any:
        for field, value in wrong.items():
            assert getattr(options, field) != value
            setattr(options, field, value)
        return honest(options, builder)

    monkeypatch.setattr(activations.schema.LocalResponseNormalizationOptionsT, "Pack", pack)
    with pytest.raises(AssertionError):
        check(graph, reference)


def test_a_slice_off_by_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = shapes.layout.axis
    monkeypatch.setattr(shapes.layout, "axis", lambda axis, rank: honest(axis, rank) - 1)
    graph = one(Slice, (4, 4, 4), axis=1, start=1, stop=3)
    with pytest.raises(AssertionError):
        check(graph, lambda x: x.narrow(1, 1, 2), 1e-3)


def test_groups_exchanged_with_their_size_are_noticed() -> None:
    graph = one(ChannelShuffle, (6, 3, 5), groups=2)
    with pytest.raises(AssertionError):
        check(graph, nn.ChannelShuffle(3), 1e-3)


def test_another_scale_of_tanh_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels give 1/128 whatever the file says."""
    wrong = replace(activations.TANH_OUTPUT, scale=1 / 256)
    monkeypatch.setattr(activations, "TANH_OUTPUT", wrong)
    with pytest.raises((AssertionError, RuntimeError)):
        check(one(Tanh, (4, 5, 3)), nn.Tanh(), 0.51)


# a network with all of them


def mixture() -> Graph:
    net = Net(3, 9, 7)
    start = net.add(Tanh, net.conv("pixels", 8, (3, 3), padding=(1, 1, 1, 1)))
    kept = net.add(Slice, start, axis=1, start=0, stop=4)
    given_ = net.add(Slice, start, axis=1, start=4, stop=8)
    net.add(Concat, kept, net.conv(given_, 4, fused=Fused.RELU))
    shuffled = net.add(ChannelShuffle, net.nodes[-1].output, groups=2)
    norm = net.add(LocalResponseNorm, shuffled, size=5, alpha=0.3, beta=0.75, bias=2.0)
    pooled = net.add(MaxPool, norm, kernel=(3, 3), strides=(2, 2))
    net.dense(net.add(GlobalAveragePool, pooled, keep_dims=False), 5)
    net.add(Softmax, net.nodes[-1].output)
    return net.graph()


def test_which_tensors_share_a_scale() -> None:
    graph = mixture()
    nodes = {type(node): node for node in graph.nodes}
    groups = find_groups(graph)
    of = {name: group for group in groups for name in group.tensors}
    tanh = of[nodes[Tanh].output]
    assert tanh.fixed == TANH
    slices = [node.output for node in graph.nodes if isinstance(node, Slice)]
    assert all(of[name] is tanh for name in slices)
    assert of[nodes[ChannelShuffle].output] is of[nodes[Concat].output]
    assert of[nodes[LocalResponseNorm].output] is of[nodes[MaxPool].output]
    assert of[nodes[LocalResponseNorm].output] is not of[nodes[ChannelShuffle].output]


def test_the_simulator_computes_what_the_int8_file_does(tmp_path: Any) -> None:
    graph = mixture()
    images = pixels_for(graph, 12)
    plan = quantize_fast(graph, lambda: iter(images)).plan
    model = to_bytes(graph, CONTRACT, "int8", plan)
    simulator = Simulator(graph, plan, threads=1)
    for image, found in zip(images, run(model, images), strict=True):
        step = plan.activations[graph.logits].scale
        assert np.abs(simulator.run(image)[graph.output] - found).max() <= 1.01 * step
    path = tmp_path / "model.tflite"
    path.write_bytes(model)
    assert minimum_runtime(path) == "2.12.0"  # of a dense layer with a scale per channel


def test_a_normalization_has_no_exact_form_and_the_quantizer_does_without() -> None:
    graph = mixture()
    plan = plan_for(graph, pixels_for(graph))
    with pytest.raises(GraphError, match="no exact form of LocalResponseNorm"):
        ExactSimulator(graph, plan)
    assert isinstance(select._simulator(graph, plan), Simulator)
