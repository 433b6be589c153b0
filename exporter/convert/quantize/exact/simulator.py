"""A plan's integers as LiteRT computes them, in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from exporter.convert.graph import Graph, GraphError, Node, Sigmoid, Softmax
from exporter.convert.quantize.exact import (  # noqa: F401 - each registers its kernels
    activations,
    elementwise,
    linear,
    shapes,
)
from exporter.convert.quantize.exact.writer import Writer, integer_name
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.simulate import open_session


class ExactSimulator:
    """A plan ready to run; the interface of `exporter.convert.quantize.simulate.Simulator`.

    Every int8 tensor equals LiteRT's on x86, integer by integer. The softmax or sigmoid
    that follows the logits is float on both sides and agrees to 2e-6.

    Args:
        graph: what the plan was made for.
        plan: what to simulate; all of it int8.
        outputs: the tensors to give, the graph's output unless told otherwise.
        threads: onnxruntime's intra-op threads; 0 lets it choose.

    Raises:
        GraphError: an operator has no exact form, or the plan is not int8 throughout.
    """

    def __init__(
        self,
        graph: Graph,
        plan: QuantizationPlan,
        outputs: Sequence[str] | None = None,
        threads: int = 0,
    ) -> None:
        if plan.activation_type != "int8" or plan.float_nodes:
            raise GraphError("only plans that are int8 throughout are simulated exactly")
        self.outputs = tuple(outputs if outputs is not None else (graph.output,))
        self._input = graph.input
        self._affines = {
            name: plan.activations[name] for name in self.outputs if name in plan.activations
        }
        self._floats = [name for name in self.outputs if name not in plan.activations]
        self._made = [name for name in self._affines if name != graph.input.name]
        writer = Writer(graph, plan)
        model = _model(writer, self._made, self._floats)
        self._session = open_session(model, threads, optimized=False, held=writer.held)

    def run(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """One image, uint8 `[H, W, 3]`, to the asked tensors (float32, NCHW) by name."""
        found = self._run(pixels)
        for name, by in self._affines.items():
            steps = found[name].astype(np.float32) - np.float32(by.zero_point)
            found[name] = steps * np.float32(by.scale)
        return {name: found[name] for name in self.outputs}

    def integers(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.int8]]:
        """One image, uint8 `[H, W, 3]`, to the asked tensors (int8, NCHW) by name.

        Those that are float, the probabilities, are left out.
        """
        found = self._run(pixels)
        return {name: found[name] for name in self.outputs if name in self._affines}

    def _run(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        levels = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]).astype(np.float32)
        feed = {self._input.name: levels - np.float32(self._input.zero_point)}
        names = [integer_name(name) for name in self._made] + self._floats
        found = self._session.run(names, feed) if names else []
        results = dict(zip([*self._made, *self._floats], found, strict=True))
        if self._input.name in self._affines:
            results[self._input.name] = (levels - 128).astype(np.int8)
        return results


def _model(writer: Writer, made: Sequence[str], floats: Sequence[str]) -> onnx.ModelProto:
    """The ONNX model of what leads to the asked tensors, and of nothing else."""
    tail: list[onnx.NodeProto] = []
    for node in _needed(writer.graph, {*made, *floats}):
        if node.output in writer.plan.activations:
            writer.add(node)
        else:
            tail += _float_tail(node, writer)
    return writer.model(made, floats, tail)


def _needed(graph: Graph, wanted: Iterable[str]) -> list[Node]:
    needed = set(wanted)
    found = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed |= set(node.inputs)
            found.append(node)
    return found[::-1]


def _float_tail(node: Node, writer: Writer) -> list[onnx.NodeProto]:
    """DEQUANTIZE and the softmax or sigmoid that ends the model."""
    if not isinstance(node, Softmax | Sigmoid):
        raise GraphError(f"the plan has no quantization for {node.output!r}")
    steps = writer.made[node.inputs[0]]
    real = writer.op("Mul", [steps.name, writer.constant(steps.affine.scale)])
    return [helper.make_node(type(node).__name__, [real], [node.output])]
