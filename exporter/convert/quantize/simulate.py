"""The int8 graph in float: what a plan does to the answers, without writing a file.

Weights, biases and constants are the plan's integers times their scales, and every
tensor up to the logits is rounded to the plan's 256 values. Two things are not
simulated: the kernels' own rounding (a float32 sum of products that lies within about
1e-6 of the middle between two steps may go the other way; some kernels use fixed-point
multipliers), and saturation inside an operator before its fused activation, which
cannot occur with 32-bit sums. So a tensor may differ from LiteRT's by single steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from exporter.convert.evaluate import run_session, to_onnx_model
from exporter.convert.graph import Conv, Dense, Graph, Node
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.quantize.weights import dequantize_weights


def fake_quantize(values: npt.NDArray[np.float32], by: Affine) -> npt.NDArray[np.float32]:
    """Round to what int8 can represent: `scale * (clip(rint(x / scale) + zp) - zp)`."""
    steps = np.rint(values / np.float32(by.scale)) + by.zero_point
    return ((np.clip(steps, -128, 127) - by.zero_point) * np.float32(by.scale)).astype(np.float32)


def dequantized_graph(graph: Graph, plan: QuantizationPlan) -> Graph:
    """The graph with the plan's rounded weights, biases and constants, in float."""

    def rewrite(node: Node) -> Node:
        if isinstance(node, Conv | Dense) and node.name in plan.weights:
            source = plan.activations[node.inputs[0]]
            weight, bias = dequantize_weights(plan.weights[node.name], source)
            return replace(node, weight=weight, bias=bias)
        return node

    constants = {
        name: _constant(plan, name) if name in plan.constants else value
        for name, value in graph.constants.items()
    }
    return replace(graph, nodes=tuple(map(rewrite, graph.nodes)), constants=constants)


def _constant(plan: QuantizationPlan, name: str) -> npt.NDArray[np.float32]:
    values, by = plan.constants[name]
    return ((values.astype(np.float32) - by.zero_point) * np.float32(by.scale)).astype(np.float32)


class Simulator:
    """A plan ready to run; the interface of `exporter.convert.evaluate.Evaluator`.

    Args:
        graph: what the plan was made for.
        plan: what to simulate.
        outputs: the tensors to give, the graph's output unless told otherwise.
        threads: onnxruntime's intra-op threads; 0 lets it choose.
    """

    def __init__(
        self,
        graph: Graph,
        plan: QuantizationPlan,
        outputs: Sequence[str] | None = None,
        threads: int = 0,
    ) -> None:
        self.outputs = tuple(outputs if outputs is not None else (graph.output,))
        self._input = graph.input
        model = to_onnx_model(dequantized_graph(graph, plan), self.outputs)
        insert_rounding(model, plan, {graph.input.name})
        self._session = open_session(model, threads)

    def run(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """One image, uint8 `[H, W, 3]`, to the asked tensors (float32, NCHW) by name."""
        return run_session(self._session, self._input, pixels, self.outputs)


def open_session(model: onnx.ModelProto, threads: int = 0) -> Any:
    """An onnxruntime session in which the rounding steps stay what they are."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # else they are merged with the convolutions into int8 kernels that make errors of
    # their own (16-bit intermediate sums on processors without VNNI: 7 dB on MobileNetV2)
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def insert_rounding(model: onnx.ModelProto, plan: QuantizationPlan, exact: set[str]) -> None:
    """Round each planned tensor where it is made; `exact` ones lie on the steps already."""
    nodes = []
    for node in model.graph.node:
        made = node.output[0]
        nodes.append(node)
        if made not in plan.activations or made in exact:
            continue
        by = plan.activations[made]
        node.output[0] = f"{made}/float"
        scale, zero, steps = (f"{made}/{what}" for what in ("step", "zero", "int8"))
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.asarray(by.scale, np.float32), scale),
                numpy_helper.from_array(np.asarray(by.zero_point, np.int8), zero),
            ]
        )
        nodes.append(helper.make_node("QuantizeLinear", [f"{made}/float", scale, zero], [steps]))
        nodes.append(helper.make_node("DequantizeLinear", [steps, scale, zero], [made]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
