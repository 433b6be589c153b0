"""A plan that must fail: one scale for all of a layer's weights, through LiteRT and the gates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import target_graphs

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Fused, Graph
from exporter.convert.passes import for_channels_last
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.plan import QuantizationPlan, QuantizedWeights
from exporter.convert.targets.tflite.writer import to_bytes
from exporter.prove.compare import Comparison
from exporter.prove.gates import GATES, check
from support import nets, tflite_files

SIZE = 8


def uneven() -> Graph:
    """A layer with one channel whose weights are a hundred times the others' and cancel out.

    Its inputs come in equal pairs, so that what it makes is no larger than the rest.
    """
    sketch = target_graphs.Sketch(SIZE, SIZE, seed=1)
    sketch.input = replace(sketch.input, scale=1 / 64, zero_point=128)
    weight = np.repeat(sketch.numbers(6, 3, 3, 3, scale=0.2), 2, axis=0)
    sketch.add(Conv, weight=weight, bias=np.zeros(12, "f"), fused=Fused.RELU6, strides=(2, 2))
    weight = sketch.numbers(12, 12, 1, 1, scale=0.3)
    weight[0, :2] += np.float32([30, -30]).reshape(2, 1, 1)
    sketch.add(Conv, weight=weight, bias=np.zeros(12, "f"), fused=Fused.RELU6)
    return for_channels_last(sketch.classify())


def one_scale(weights: QuantizedWeights) -> QuantizedWeights:
    shape = (-1,) + (1,) * (weights.values.ndim - 1)
    scale = weights.scales.max()
    ratio = weights.scales.astype(np.float64) / scale
    return QuantizedWeights(
        np.rint(weights.values * ratio.reshape(shape)).astype(np.int8),
        np.full_like(weights.scales, scale),
        np.rint(weights.bias * ratio).astype(np.int32),
    )


def failed(graph: Graph, plan: QuantizationPlan, images: list[np.ndarray]) -> list[str]:
    """The int8 gates that the finished file does not hold."""
    contract = target_graphs.small_contract(SIZE, SIZE)
    found = tflite_files.run(to_bytes(graph, contract, "int8", plan), images)
    reference = Evaluator(graph)
    compared = Comparison("softmax")
    for index, (image, answer) in enumerate(zip(images, found, strict=True)):
        compared.add(str(index), reference.run(image)[graph.output].reshape(-1), answer.reshape(-1))
    gates = check(compared.metrics(), GATES["int8"], "softmax")
    return [gate.name for gate in gates if not gate.passed]


def test_per_tensor_weights_fail_the_gate_that_per_channel_weights_pass() -> None:
    graph = uneven()
    images, others = nets.images(16, size=SIZE), nets.images(60, size=SIZE, seed=1)
    plan = calibrate(graph, images)
    assert failed(graph, plan, others) == []
    mutant = {name: one_scale(weights) for name, weights in plan.weights.items()}
    assert failed(graph, replace(plan, weights=mutant), others) == ["top-1 agreement"]
