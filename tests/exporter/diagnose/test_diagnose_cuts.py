"""Copies of files: the same kernels, the same numbers, only other edges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    Add,
    AveragePool,
    Concat,
    Fused,
    GlobalAveragePool,
    Graph,
    HardSwish,
    MaxPool,
    Silu,
    Softmax,
)
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.targets.tflite.writer import to_bytes
from exporter.diagnose.counterparts import Counterparts
from exporter.diagnose.cuts import cut, cut_in_float, dequantized
from exporter.diagnose.impact import Impact, with_noise
from exporter.diagnose.probes import Probe
from exporter.diagnose.tflite_file import TfliteFile
from models.errors import UserError
from support import nets, tflite_files
from support.tflite_files import Net


def many_kinds() -> Graph:
    """One of most operators that int8 files hold."""
    net = Net(3, 16, 16)
    first = net.conv("pixels", 8, (3, 3), padding=(0, 0, 1, 1), strides=(2, 2), fused=Fused.RELU6)
    other = net.conv(first, 8, (3, 3), padding=(1, 1, 1, 1), groups=8)
    joined = net.add(Concat, net.add(HardSwish, other), net.add(Silu, first))
    pooled = net.add(MaxPool, joined, kernel=(2, 2), strides=(2, 2))
    pooled = net.add(AveragePool, pooled, kernel=(2, 2), strides=(2, 2))
    wide = net.conv(pooled, 16)
    summed = net.add(Add, wide, pooled)
    net.dense(net.add(GlobalAveragePool, summed, keep_dims=False), 10)
    net.add(Softmax, net.nodes[-1].output)
    return net.graph()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, QuantizationPlan, TfliteFile]:
    graph = many_kinds()
    plan = tflite_files.plan_for(graph, tflite_files.pixels_for(graph, 4))
    path = tmp_path_factory.mktemp("cuts") / "model.tflite"
    path.write_bytes(to_bytes(graph, tflite_files.CONTRACT, "int8", plan))
    return graph, plan, TfliteFile(path)


def test_what_is_watched_is_what_the_file_computes(
    written: tuple[Graph, QuantizationPlan, TfliteFile],
) -> None:
    graph, _, file = written
    probe = Probe(file.with_all_outputs(), file.path)
    images = tflite_files.pixels_for(graph, 3)
    answers = tflite_files.run(file.path.read_bytes(), images)
    for pixels, answer in zip(images, answers, strict=True):
        probe.run({file.input: pixels[None]})
        np.testing.assert_array_equal(probe.get(file.output), answer)


def test_each_operator_alone_repeats_the_whole_network_bit_for_bit(
    written: tuple[Graph, QuantizationPlan, TfliteFile],
) -> None:
    graph, _, file = written
    whole = Probe(file.with_all_outputs(), file.path)
    model, given = cut(file)
    alone = Probe(model, file.path)
    for pixels in tflite_files.pixels_for(graph, 3):
        whole.run({file.input: pixels[None]})
        made = {o.output: whole.get(o.output) for o in file.operators}
        made[file.input] = pixels[None]
        alone.run({stand_in: made[index] for index, stand_in in given.items()})
        for operator in file.operators:
            np.testing.assert_array_equal(
                alone.get(operator.output), made[operator.output], err_msg=operator.kind
            )


def test_an_operator_alone_does_not_see_the_others(
    written: tuple[Graph, QuantizationPlan, TfliteFile],
) -> None:
    graph, _, file = written
    model, given = cut(file)
    alone = Probe(model, file.path)
    pixels = tflite_files.pixels_for(graph, 1)[0][None]
    zeros = {
        stand_in: np.zeros(file.tensors[index].shape, file.tensors[index].dtype)
        for index, stand_in in given.items()
        if index != file.input
    }
    last = file.operators[-4].output
    alone.run({given[file.input]: pixels, **zeros})
    first = alone.get(last).copy()
    alone.run({given[file.input]: 255 - pixels})
    np.testing.assert_array_equal(alone.get(last), first)


def test_float_arithmetic_on_int8_weights_is_the_evaluators(
    written: tuple[Graph, QuantizationPlan, TfliteFile],
) -> None:
    """onnxruntime on the dequantized weights, against the copy of the file, tensor by tensor."""
    graph, plan, file = written
    rounded = tflite_files.with_rounded_weights(graph, plan)
    names = [node.output for node in graph.nodes]
    pixels = tflite_files.pixels_for(graph, 1)[0]
    wanted = Evaluator(rounded, names, threads=1).run(pixels)
    model, given = cut_in_float(file)
    probe = Probe(model, file.path)
    parts = Counterparts(file, names, {}, channels_first=True)
    source = _Values(wanted)
    feed = {}
    for index, stand_in in given.items():
        if parts.of(index) is None:
            whole = Probe(file.with_all_outputs(), file.path)
            whole.run({file.input: pixels[None]})
            feed[stand_in] = file.tensors[index].real(whole.get(index))
        else:
            feed[stand_in] = np.ascontiguousarray(parts.floats(index, source))
    probe.run(feed)
    compared = 0
    for operator in file.operators:
        known = parts.of(operator.output) is not None
        if not known or operator.kind in ("QUANTIZE", "DEQUANTIZE"):
            continue
        if any(parts.of(i) is None and i not in parts.pixels for i in file.computed(operator)):
            continue  # a gate inside SiLU has no name in the graph
        np.testing.assert_allclose(
            probe.get(operator.output), parts.floats(operator.output, source),
            rtol=1e-4, atol=1e-4, err_msg=operator.kind,
        )  # fmt: skip
        compared += 1
    assert compared >= 9


class _Values:
    """The evaluator's tensors, as `OnnxFloats` gives them."""

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self._values = values

    def get(self, name: str) -> np.ndarray:
        values = self._values[name]
        return values.transpose(0, 2, 3, 1) if values.ndim == 4 else values


def test_noise_on_the_logits_costs_its_own_power(
    written: tuple[Graph, QuantizationPlan, TfliteFile],
) -> None:
    graph, plan, file = written
    logits = file.by_name[graph.logits].index
    pixels = tflite_files.pixels_for(graph, 1)[0]
    rounded = tflite_files.with_rounded_weights(graph, plan)
    clean = Evaluator(rounded, [graph.logits], threads=1).run(pixels)[graph.logits][0]
    noise = np.linspace(-1, 1, 10, dtype=np.float32) ** 3 + 5  # a softmax never sees the 5
    impact = Impact(file)
    impact.add(pixels, {logits: noise[None]})
    signal = np.square(clean - clean.mean()).sum()
    wanted = 10 * np.log10(signal / np.square(noise - noise.mean()).sum())
    assert impact.decibels(logits) == pytest.approx(wanted, abs=1e-3)


def test_noise_early_in_the_network_is_that_of_a_network_with_it(
    written: tuple[Graph, QuantizationPlan, TfliteFile],
) -> None:
    """Adding 0.25 to every value of a bias-only layer's result is the same as a larger bias."""
    graph, plan, file = written
    name = graph.nodes[1].output  # the depthwise convolution: no activation behind it
    pixels = tflite_files.pixels_for(graph, 1)[0]
    rounded = tflite_files.with_rounded_weights(graph, plan)
    node = rounded.nodes[1]
    shifted = replace(node, bias=node.bias + np.float32(0.25))  # type: ignore[attr-defined]
    moved = replace(rounded, nodes=(rounded.nodes[0], shifted, *rounded.nodes[2:]))
    answers = [
        Evaluator(one, [graph.logits], threads=1).run(pixels)[graph.logits][0]
        for one in (rounded, moved)
    ]
    centred = [answer - answer.mean() for answer in answers]
    wanted = 10 * np.log10(np.square(centred[0]).sum() / np.square(centred[1] - centred[0]).sum())
    tensor = file.by_name[name]
    impact = Impact(file)
    impact.add(pixels, {tensor.index: np.full(tensor.shape, 0.25, np.float32)})
    assert impact.decibels(tensor.index) == pytest.approx(wanted, abs=0.05)


def test_one_layers_noise_does_not_stay_for_the_next(
    written: tuple[Graph, QuantizationPlan, TfliteFile],
) -> None:
    graph, _, file = written
    pixels = tflite_files.pixels_for(graph, 1)[0]
    early, late = file.by_name[graph.nodes[0].output], file.by_name[graph.logits]
    noises = {t.index: np.random.default_rng(1).normal(size=t.shape).astype("f")
              for t in (early, late)}  # fmt: skip
    both, one = Impact(file), Impact(file)
    both.add(pixels, noises)
    one.add(pixels, {late.index: noises[late.index]})
    assert both.decibels(late.index) == one.decibels(late.index)
    assert one.decibels(early.index) is None


def test_a_network_in_parts_float_still_has_all_its_noise_inputs(
    graph: Graph, plan: QuantizationPlan, tmp_path: Path
) -> None:
    path = tmp_path / "mixed.tflite"
    mixed = replace(plan, float_nodes=frozenset({"conv2"}))
    path.write_bytes(to_bytes(graph, nets.small_contract(size=32), "int8", mixed))
    file = TfliteFile(path)
    model, noises = with_noise(file, file.by_name[graph.logits].index)
    names = {file.tensors[index].name for index in noises}
    assert {"conv2/out", "conv2/out/rounded"} <= names  # the float result, and its rounding
    probe = Probe(model, path)
    zeros = {noises[i]: np.zeros(file.tensors[i].shape, np.float32) for i in noises}
    pixels = nets.image(3, 32)
    probe.run({file.input: file.tensors[file.input].real(pixels[None]), **zeros})
    rounded = tflite_files.with_rounded_weights(graph, plan)
    wanted = Evaluator(rounded, [graph.logits], threads=1).run(pixels)[graph.logits]
    found = probe.get(file.by_name[graph.logits].index)
    assert 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()) > 30


def test_a_file_is_read_as_its_flatbuffer_says(
    written: tuple[Graph, QuantizationPlan, TfliteFile],
) -> None:
    graph, plan, file = written
    node = graph.nodes[0]
    tensor, affine = file.by_name[node.output], plan.activations[node.output]
    assert (tensor.int8, tensor.zero_point) == (True, affine.zero_point)
    assert tensor.scale == np.float32(affine.scale)
    assert tensor.low == pytest.approx(affine.scale * (-128 - affine.zero_point))
    producer = file.producers[tensor.index]
    assert (producer.kind, producer.cap) == ("CONV_2D", 6.0)
    weight = file.tensors[producer.inputs[1]]
    stored = plan.weights[node.name]
    wanted = (stored.values * stored.scales.reshape(-1, 1, 1, 1)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(dequantized(weight), wanted, rtol=1e-6)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no flatbuffer at all")
    with pytest.raises(UserError, match="no TFLite file"):
        TfliteFile(path)
