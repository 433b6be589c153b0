"""The int8 graph in float: what a plan does to the answers, without writing a file.

Weights, biases and constants are the plan's integers times their scales, and every
tensor up to the logits is rounded to the plan's 256 values. Two things are not
simulated: the kernels' own rounding (a float32 sum of products that lies within about
1e-6 of the middle between two steps may go the other way; some kernels use fixed-point
multipliers), and saturation inside an operator before its fused activation, which
cannot occur with 32-bit sums. So a tensor may differ from LiteRT's by single steps.

A tensor that a float node makes is rounded only for the int8 nodes that read it, and a
dynamic node rounds what it reads to 256 steps of that image's own range. int16
activations are not rounded: their steps are 256 times finer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from exporter.convert.evaluate import run_session, to_onnx_model
from exporter.convert.graph import Conv, Dense, Graph, Node
from exporter.convert.held_weights import Weights, open_model
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.rounding.weights import dequantize_weights


def dequantized_graph(graph: Graph, plan: QuantizationPlan) -> Graph:
    """The graph with the plan's rounded weights, biases and constants, in float.

    Float nodes stay as they are where the plan does not store their weights as integers.
    """
    operands = {name for node in graph.nodes if node.name not in plan.float_nodes
                for name in node.inputs}  # fmt: skip

    def rewrite(node: Node) -> Node:
        if not isinstance(node, Conv | Dense) or node.name not in plan.weights:
            return node
        if plan.keeps_int8_weights(node.name):
            source = plan.activations[node.inputs[0]]
            weight, bias = dequantize_weights(plan.weights[node.name], source)
            return replace(node, weight=weight, bias=bias)
        return node

    constants = {
        name: _constant(plan, name) if name in plan.constants and name in operands else value
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
        held: Weights = {}
        model = to_onnx_model(dequantized_graph(graph, plan), self.outputs, held)
        insert_rounding(model, plan, {graph.input.name}, graph)
        self._session = open_session(model, threads, held=held)

    def run(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """One image, uint8 `[H, W, 3]`, to the asked tensors (float32, NCHW) by name."""
        return run_session(self._session, self._input, pixels, self.outputs)


def open_session(
    model: onnx.ModelProto, threads: int = 0, optimized: bool = True, held: Weights | None = None
) -> Any:
    """An onnxruntime session in which the rounding steps stay what they are.

    Args:
        threads: onnxruntime's intra-op threads; 0 lets it choose.
        optimized: whether nodes may be rewritten where float32 rounding may differ.
        held: the weights that the model does not hold itself.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # else they are merged with the convolutions into int8 kernels that make errors of
    # their own (16-bit intermediate sums on processors without VNNI: 7 dB on MobileNetV2)
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    levels = onnxruntime.GraphOptimizationLevel
    level = levels.ORT_ENABLE_BASIC if optimized else levels.ORT_DISABLE_ALL
    options.graph_optimization_level = level
    return open_model(model, options, held)


def insert_rounding(
    model: onnx.ModelProto,
    plan: QuantizationPlan,
    exact: set[str],
    graph: Graph | None = None,
) -> None:
    """Round each planned tensor where it is made; `exact` ones lie on the steps already.

    Args:
        graph: what `model` was written from; wanted where the plan has float nodes.
    """
    if plan.activation_type == "int16":
        return
    rounding = _Rounding(model, plan, exact, graph)
    nodes = [made for node in model.graph.node for made in rounding.around(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Rounding:
    """The ONNX nodes that round, beside those of one model."""

    def __init__(
        self, model: onnx.ModelProto, plan: QuantizationPlan, exact: set[str], graph: Graph | None
    ) -> None:
        if plan.float_nodes and graph is None:
            raise ValueError("a plan with float nodes cannot be placed without its graph")
        self._model, self._plan, self._exact = model, plan, exact
        self._shapes = graph.shapes if graph is not None else {}
        nodes = graph.nodes if graph is not None else ()
        self._float = {node.output for node in nodes if node.name in plan.float_nodes}
        self._image_wise = {node.output: node for node in nodes if node.name in plan.dynamic_nodes}
        self._tensors = {node.output for node in nodes}
        self._rounded: dict[str, str] = {}

    def around(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """One node with the rounding of what it reads before it, of what it makes behind it."""
        made = node.output[0]
        before = self._before(node) if self._float else []
        planned = made in self._plan.activations and made not in self._exact
        if not planned or made in self._float:
            return [*before, node]
        node.output[0] = f"{made}/float"
        return [*before, node, *self._rounding(f"{made}/float", made)]

    def _before(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        owner = self._owner(node.output[0])
        if owner in self._image_wise:
            source = self._image_wise[owner].inputs[0]
            if source in node.input:
                rank = len(self._shapes[source])
                made = f"{owner}/dynamic"
                return self._read_as(
                    node, source, made, lambda old, new: self._dynamic(old, new, rank)
                )
        if owner not in self._plan.activations or owner in self._float:
            return []
        added = []
        for source in dict.fromkeys(node.input):
            if source in self._float and source in self._plan.activations:
                added += self._read_as(node, source, f"{source}/rounded", self._rounding)
        return added

    def _read_as(
        self,
        node: onnx.NodeProto,
        source: str,
        wanted: str,
        make: Callable[[str, str], list[onnx.NodeProto]],
    ) -> list[onnx.NodeProto]:
        """Let a node read `wanted` instead of `source`; gives the nodes that make it, once."""
        for index, name in enumerate(node.input):
            if name == source:
                node.input[index] = wanted
        if wanted in self._rounded:
            return []
        self._rounded[wanted] = source
        return make(source, wanted)

    def _owner(self, name: str) -> str | None:
        """The graph's tensor for which an ONNX tensor was made; emitters append '/...'."""
        while name not in self._tensors:
            name, slash, _ = name.rpartition("/")
            if not slash:
                return None
        return name

    def _rounding(self, source: str, made: str) -> list[onnx.NodeProto]:
        known = self._plan.activations
        by = known[made] if made in known else known[source]
        scale, zero, steps = (f"{made}/{what}" for what in ("step", "zero", "int8"))
        self._model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.asarray(by.scale, np.float32), scale),
                numpy_helper.from_array(np.asarray(by.zero_point, np.int8), zero),
            ]
        )
        return [
            helper.make_node("QuantizeLinear", [source, scale, zero], [steps]),
            helper.make_node("DequantizeLinear", [steps, scale, zero], [made]),
        ]

    def _dynamic(self, source: str, made: str, rank: int) -> list[onnx.NodeProto]:
        """Round to 255 steps from min(x, 0) to max(x, 0) of each image."""
        initializers = self._model.graph.initializer
        zero, levels, least = (f"dynamic/{what}" for what in ("zero", "levels", "least"))
        if all(one.name != zero for one in initializers):
            initializers.extend(
                numpy_helper.from_array(np.asarray(value, np.float32), name)
                for name, value in ((zero, 0.0), (levels, 255.0), (least, 1e-30))
            )
        top, bottom, high, low, width, exact, step, ratio, whole = (
            f"{made}/{what}"
            for what in ("top", "bottom", "high", "low", "width", "exact", "step", "ratio", "whole")
        )
        axes = list(range(1, rank))
        make = helper.make_node
        return [
            make("ReduceMax", [source], [top], axes=axes, keepdims=1),
            make("ReduceMin", [source], [bottom], axes=axes, keepdims=1),
            make("Max", [top, zero], [high]),
            make("Min", [bottom, zero], [low]),
            make("Sub", [high, low], [width]),
            make("Div", [width, levels], [exact]),
            make("Max", [exact, least], [step]),
            make("Div", [source, step], [ratio]),
            make("Round", [ratio], [whole]),
            make("Mul", [whole, step], [made]),
        ]
