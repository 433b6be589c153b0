"""int8 activations that stand on their own: near the exact function, and all delegated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.convert.graph import (
    Graph,
    GraphInput,
    HardSigmoid,
    HardSwish,
    Mul,
    Node,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
)
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.targets.tflite.writer import to_bytes
from support.tflite_files import CONTRACT, DELEGATED, PLAIN, Net, pixels_for, plan_for, run

SIDE = 16
Doubles = np.ndarray
FUNCTIONS: dict[type[Node], Callable[[Doubles], Doubles]] = {
    HardSwish: lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    HardSigmoid: lambda x: np.clip(x / 6 + 0.5, 0, 1),
    Silu: lambda x: x / (1 + np.exp(-x)),
    Relu: lambda x: np.maximum(x, 0),
    Relu6: lambda x: np.clip(x, 0, 6),
}
BOUNDS = ((-3.0, 2.0), (-3.0, 6.0), (-6.0, 3.0), (-8.0, 8.0), (-3.0, 14.0), (-20.0, 20.0))
# of how many levels the result may be a step beside the exact one rounded once
MISSED = {HardSwish: 0.0, Relu: 0.05, Relu6: 0.05, HardSigmoid: 0.1, Silu: 0.25}


def affine(low: float, high: float) -> Affine:
    scale = float(np.float32((high - low) / 255))
    return Affine(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


@pytest.mark.parametrize("resolver", [DELEGATED, PLAIN], ids=["xnnpack", "plain"])
@pytest.mark.parametrize("kind", sorted(FUNCTIONS, key=lambda kind: kind.__name__))
def test_every_level_becomes_what_the_function_says(kind: type[Node], resolver: object) -> None:
    levels = np.arange(256, dtype=np.uint8)
    missed = []
    for low, high in BOUNDS:
        source = affine(low, high)
        values = (levels - 128.0 - source.zero_point) * np.float64(np.float32(source.scale))
        exact = FUNCTIONS[kind](values)
        made = affine(min(exact.min(), 0.0), exact.max())
        given = GraphInput("p", (1, 3, SIDE, SIDE), source.scale, source.zero_point + 128)
        node = kind(name="n", inputs=("p",), output="o")
        graph = Graph(given, "o", (node,), {"p": given.shape, "o": given.shape})
        plan = QuantizationPlan({"p": source, "o": made}, {})
        pixels = np.repeat(levels.reshape(SIDE, SIDE, 1), 3, axis=2)
        (found,) = run(to_bytes(graph, CONTRACT, "int8", plan), [pixels], resolver)  # type: ignore
        steps = found[0, 0].reshape(-1) / made.scale
        wanted = np.clip(np.rint(exact / made.scale), -128 - made.zero_point, 127 - made.zero_point)
        missed.append(np.abs(np.rint(steps) - wanted))
    off = np.concatenate(missed)
    assert off.max() <= 1
    assert (off > 0).mean() <= MISSED[kind]


def test_a_network_of_all_of_them_is_one_partition() -> None:
    """Plain int8 HARD_SWISH, RELU and RELU6 would each cut it in two."""
    net = Net(3, 16, 16)
    made = net.add(HardSwish, net.conv("pixels", 4, (3, 3)))
    made = net.add(Silu, net.conv(made, 4))
    made = net.add(Relu, net.conv(made, 4))
    made = net.add(Relu6, net.conv(made, 4))
    made = net.add(Mul, made, net.add(HardSigmoid, net.conv(made, 4)))
    made = net.add(Tanh, net.conv(net.add(Sigmoid, net.conv(made, 4)), 4))
    net.conv(made, 2)
    graph = net.graph()
    data = to_bytes(graph, CONTRACT, "int8", plan_for(graph, pixels_for(graph)))
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    operators = [one["op_name"] for one in interpreter._get_ops_details()]
    assert operators.count("DELEGATE") == 1
