"""Which layer costs how much: the logits when only one thing is quantized, or left in float.

One row a node. What a row says is measured on a few images, against the float graph:

    activation   only what the node makes is rounded, to the plan's 256 steps
    weights      only its weights are rounded
    alone        both, and nothing else
    image_wise   only what it reads is rounded, to steps of each image's own range
    left_float   all is quantized but this node

Errors of single roundings are small and nearly independent, so their powers add up; that
is what `mixed` builds on. Each layer's mean shift does not add up like noise, and is taken
out of the biases later: `noise` therefore leaves the mean over images of each logit's error
out, the other figures do not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from exporter.convert.evaluate import Evaluator, to_feed, to_onnx_model
from exporter.convert.graph import Conv, Dense, Graph, Node
from exporter.convert.quantize.answers import gives_several, same_answers
from exporter.convert.quantize.groups import quantized_nodes
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.rounding.weights import dequantize_weights
from exporter.convert.quantize.simulate import dequantized_graph, insert_rounding, open_session

IMAGES = 16
_MOST_DB = 200.0
Logits = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Effect:
    """What one change does to the logits.

    Attributes:
        logit_sqnr_db: `10 log10(sum y^2 / sum (y' - y)^2)`, at most 200.
        mean_abs_logit_error: in units of the logits.
        agreement: share of images with the same answer as float, see `answers`.
        noise: power of the error about its mean over the images, by that of the logits.
    """

    logit_sqnr_db: float
    mean_abs_logit_error: float
    agreement: float
    noise: float


@dataclass(frozen=True)
class Row:
    """One node; an effect is None where there is nothing to round, or it was not asked for."""

    node: str
    kind: str
    tensor: str
    multiply_adds: int
    activation: Effect | None = None
    weights: Effect | None = None
    alone: Effect | None = None
    image_wise: Effect | None = None
    left_float: Effect | None = None


@dataclass(frozen=True)
class Sensitivity:
    """The table, in the graph's order.

    Attributes:
        rows: one for each node up to the logits.
        quantized: all of the plan at once.
        images: how many it was measured on.
    """

    rows: tuple[Row, ...]
    quantized: Effect
    images: int

    def as_json(self) -> dict[str, Any]:
        """Plain lists, dictionaries and numbers."""
        return asdict(self)

    @functools.cached_property
    def by_node(self) -> dict[str, Row]:
        """The rows by their nodes' names."""
        return {row.node: row for row in self.rows}


def measure_sensitivity(
    graph: Graph,
    plan: QuantizationPlan,
    images: Sequence[Image],
    on_step: Callable[[], None] | None = None,
    complete: bool = True,
) -> Sensitivity:
    """Measure every node of a plan in the simulator.

    Args:
        graph: what the plan was made for.
        plan: an int8 plan without float nodes.
        images: uint8 `[H, W, 3]`, all run at once; the first 16 are used.
        on_step: called after each node.
        complete: whether `alone` and `left_float`, which the search does without, are
            measured too.
    """
    probe = _Probe(graph, plan, images[:IMAGES])
    rows = []
    for node in quantized_nodes(graph):
        rows.append(probe.row(node, complete))
        if on_step is not None:
            on_step()
    return Sensitivity(tuple(rows), probe.planned(plan), len(images[:IMAGES]))


def multiply_adds(graph: Graph, node: Node) -> int:
    """Products that a Conv or Dense sums up; 0 for any other node."""
    if not isinstance(node, Conv | Dense):
        return 0
    return math.prod(graph.shapes[node.output][2:]) * node.weight.size


def effect(reference: Logits, found: Logits, several: bool = False) -> Effect:
    """Compare logits `[images, classes]` with those of the float graph.

    Args:
        several: whether each class stands for itself, see `answers.gives_several`.
    """
    error = found - reference
    power = max(float((reference**2).sum()), 1e-30)
    noise = float((error**2).sum())
    spread = error - error.mean(axis=0) if len(error) > 1 else error
    return Effect(
        min(10 * math.log10(power / max(noise, 1e-30)), _MOST_DB),
        float(np.abs(error).mean()),
        float(same_answers(reference, found, several).mean()),
        float((spread**2).sum()) / power,
    )


class _Probe:
    """The images, their float logits, and runs of changed graphs over them."""

    def __init__(self, graph: Graph, plan: QuantizationPlan, images: Sequence[Image]) -> None:
        self._graph, self._plan, self._images = graph, plan, images
        self._feed = np.concatenate([to_feed(graph.input, image) for image in images])
        self._reference = self._run(to_onnx_model(graph, [graph.logits]))
        self._means = self._channel_means()

    def _channel_means(self) -> dict[str, npt.NDArray[np.float64]]:
        """The mean of each channel of what layers read, over images and pixels."""
        layers = [node for node in self._graph.nodes if isinstance(node, Conv | Dense)]
        read = dict.fromkeys(node.inputs[0] for node in layers)
        evaluator = Evaluator(self._graph, list(read))
        sums: dict[str, npt.NDArray[np.float64]] = {}
        for image in self._images:
            for name, value in evaluator.run(image).items():
                each = value.reshape(value.shape[1], -1).mean(axis=1, dtype=np.float64)
                sums[name] = sums.get(name, 0.0) + each
        return {name: total / len(self._images) for name, total in sums.items()}

    def row(self, node: Node, complete: bool) -> Row:
        row = Row(node.name, type(node).__name__, node.output, multiply_adds(self._graph, node))
        tensor = self._only({node.output: self._plan.activations[node.output]})
        activation = self._compare(*tensor)
        row = replace(row, activation=activation)
        if isinstance(node, Conv | Dense):
            rounded = self._with_rounded_weights(node)
            row = replace(row, weights=self._compare(rounded, replace(self._plan, activations={})))
            if can_be_dynamic(self._graph, node):
                row = replace(row, image_wise=self._image_wise(node))
            if complete:
                row = replace(row, alone=self._compare(rounded, tensor[1]))
        elif complete:
            row = replace(row, alone=activation)
        if complete:
            alone_float = replace(self._plan, float_nodes=frozenset((node.name,)))
            row = replace(row, left_float=self.planned(alone_float))
        return row

    def planned(self, plan: QuantizationPlan) -> Effect:
        """A whole plan."""
        rounded = dequantized_graph(self._graph, plan)
        return self._compare(rounded, plan, {self._graph.input.name})

    def _only(self, activations: Mapping[str, Any]) -> tuple[Graph, QuantizationPlan]:
        return self._graph, replace(self._plan, activations=activations)

    def _image_wise(self, node: Node) -> Effect:
        every = frozenset(one.name for one in self._graph.nodes)
        dynamic = frozenset((node.name,))
        plan = replace(self._plan, activations={}, float_nodes=every, dynamic_nodes=dynamic)
        return self._compare(self._graph, plan)

    def _with_rounded_weights(self, node: Conv | Dense) -> Graph:
        """The rounded weights, with the shift of the mean that they cause taken out."""
        source = self._plan.activations[node.inputs[0]]
        weight, _ = dequantize_weights(self._plan.weights[node.name], source)
        moved = (node.weight - weight).astype(np.float64)
        taps = moved.reshape(*moved.shape[:2], -1).sum(axis=2)  # [out, in / groups]
        groups = node.groups if isinstance(node, Conv) else 1
        means = np.repeat(
            self._means[node.inputs[0]].reshape(groups, 1, -1), len(taps) // groups, axis=1
        )
        shift = (taps.reshape(groups, -1, taps.shape[1]) * means).sum(axis=2).reshape(-1)
        changed = replace(node, weight=weight, bias=(node.bias + shift).astype(np.float32))
        nodes = tuple(changed if one is node else one for one in self._graph.nodes)
        return replace(self._graph, nodes=nodes)

    def _compare(
        self, graph: Graph, plan: QuantizationPlan, exact: frozenset[str] | set[str] = frozenset()
    ) -> Effect:
        model = to_onnx_model(graph, [graph.logits])
        insert_rounding(model, plan, set(exact), graph)
        return effect(self._reference, self._run(model), gives_several(self._graph))

    def _run(self, model: onnx.ModelProto) -> Logits:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "images"
        session = open_session(model)
        (found,) = session.run([self._graph.logits], {self._graph.input.name: self._feed})
        return np.asarray(found, np.float64).reshape(len(self._feed), -1)


def can_be_dynamic(graph: Graph, node: Node) -> bool:
    """Whether runtimes can quantize what a node reads: dense layers, convolutions that see
    all channels."""
    if isinstance(node, Dense):
        return True
    return isinstance(node, Conv) and node.groups == 1
