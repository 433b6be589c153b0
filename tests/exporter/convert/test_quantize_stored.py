"""A quantized network on disk: what is read is what was written, to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import target_graphs

from exporter.convert.graph import Add, Conv, Fused, GlobalAveragePool, Graph
from exporter.convert.passes import for_channels_last
from exporter.convert.quantize import stored
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.quantize import Quantized
from exporter.convert.quantize.rounding.equalize import rescaled
from exporter.convert.targets.tflite.writer import to_bytes
from support import nets

SIZE = 8


@pytest.fixture(scope="module")
def given() -> Graph:
    to = target_graphs.Sketch(SIZE, SIZE)
    to.input = replace(to.input, scale=1 / 64, zero_point=128)
    to.conv(6, 3, 3, 3, fused=Fused.RELU6)
    to.conv(5, 6)
    to.add(Add, to.last, to.constant(-3.0))
    to.add(GlobalAveragePool)
    return for_channels_last(to.classify())


@pytest.fixture(scope="module")
def made(given: Graph) -> Quantized:
    """With a constant operand, and channels scaled by hand."""
    scales = {given.nodes[0].output: np.array([1.0, 4.0, 1.7, 1 / 3, 1.0, 2.0])}
    graph = rescaled(given, scales)
    return Quantized(graph, calibrate(graph, nets.images(12, SIZE)), scales)


def same(one: QuantizationPlan, other: QuantizationPlan) -> None:
    assert list(one.activations.items()) == list(other.activations.items())
    assert list(one.weights) == list(other.weights)
    assert list(one.constants) == list(other.constants)
    for name, weights in one.weights.items():
        for part in ("values", "scales", "bias"):
            array, found = getattr(weights, part), getattr(other.weights[name], part)
            assert array.dtype == found.dtype and np.array_equal(array, found)
    for name, (values, by) in one.constants.items():
        assert np.array_equal(values, other.constants[name][0]) and by == other.constants[name][1]
    assert one.record == other.record
    assert one.activation_type == other.activation_type


def test_what_is_read_is_what_was_written(given: Graph, made: Quantized, tmp_path: Path) -> None:
    assert made.plan.constants and made.scales
    stored.save(made, tmp_path)
    found = stored.load(given, tmp_path)
    same(made.plan, found.plan)
    assert {name: scale.tolist() for name, scale in found.scales.items()} == {
        name: scale.tolist() for name, scale in made.scales.items()
    }
    for one, other in zip(made.graph.nodes, found.graph.nodes, strict=True):
        if isinstance(one, Conv):
            assert np.array_equal(one.weight, other.weight)  # type: ignore[attr-defined]
            assert np.array_equal(one.bias, other.bias)  # type: ignore[attr-defined]
    contract = target_graphs.small_contract(SIZE, SIZE)
    files = [to_bytes(each.graph, contract, "int8", each.plan) for each in (made, found)]
    assert files[0] == files[1]


def test_sixteen_bit_activations_keep_their_long_biases(
    given: Graph, made: Quantized, tmp_path: Path
) -> None:
    wide = {
        name: replace(weights, bias=weights.bias.astype(np.int64) * 2**20)
        for name, weights in made.plan.weights.items()
    }
    plan = replace(made.plan, weights=wide, activation_type="int16")
    stored.save(replace(made, plan=plan), tmp_path)
    same(plan, stored.load(given, tmp_path).plan)


def test_the_same_network_is_the_same_bytes(made: Quantized, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
        stored.save(made, folder)
    for name in (stored.ARRAYS, stored.NOTES):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_without_scales_the_graph_is_the_given_one(given: Graph, tmp_path: Path) -> None:
    plain = Quantized(given, calibrate(given, nets.images(8, SIZE)))
    stored.save(plain, tmp_path)
    assert stored.load(given, tmp_path).graph is given
