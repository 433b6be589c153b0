"""Mixed precision: which nodes stay in float, for the least error at a given cost.

A node has one of three modes:

    int8      as in the int8 file
    dynamic   int8 weights; what it reads is rounded by the runtime to each image's own
              range, what it makes is float (Conv that sees all channels, Dense)
    float     float weights; rounds nothing

Where a float tensor meets an int8 node, it is rounded to the plan's scale on the way. The
powers of the errors (`sensitivity`) are added up for a choice of modes; what a choice costs
is the caller's to say, since it has to be measured on files. A border between modes costs
a QUANTIZE or DEQUANTIZE, and the tensor there is rounded all the same, so whole runs of
nodes are moved at a time: always the run that saves the most error for what it costs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import (
    ChannelShuffle,
    Conv,
    Dense,
    Graph,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Slice,
)
from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.groups import quantized_nodes
from exporter.convert.quantize.mixed.sensitivity import Sensitivity, can_be_dynamic, multiply_adds
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.quantize import Images, Quantized
from exporter.convert.quantize.ranges.observe import ImageSample
from exporter.convert.quantize.rounding.bias_correction import correct_biases, image_limit

Mode = Literal["int8", "dynamic", "float"]
Modes = dict[str, Mode]
_MODES: tuple[Mode, ...] = ("float", "dynamic", "int8")
Cost = Callable[[Mapping[str, Mode]], float]
Image = npt.NDArray[np.uint8]
LONGEST_RUN = 16  # nodes that are moved together
_LEAST_COST = 1e-4  # of the int8 file's; what is cheaper counts as this


@dataclass(frozen=True)
class Work:
    """What a choice adds to the int8 file: the quantities that its time depends on.

    Attributes:
        float_products: multiply-adds in float, but for depthwise convolutions.
        float_depthwise: those of depthwise convolutions.
        dynamic_products: multiply-adds of dynamic nodes.
        dynamic_elements: values that dynamic nodes quantize.
        border_elements: values that a QUANTIZE or DEQUANTIZE converts.
        float_elements: values that other nodes make in float (sums, pooling).
        float_dense: weights of dense layers in float.
    """

    float_products: float = 0.0
    float_depthwise: float = 0.0
    dynamic_products: float = 0.0
    dynamic_elements: float = 0.0
    border_elements: float = 0.0
    float_elements: float = 0.0
    float_dense: float = 0.0


def body(graph: Graph) -> tuple[Node, ...]:
    """The nodes that have a mode: all up to the logits."""
    return tuple(quantized_nodes(graph))


def all_int8(graph: Graph) -> Modes:
    return {node.name: "int8" for node in body(graph)}


@dataclass(frozen=True)
class _Facts:
    """What a node's share of the work and the noise depends on."""

    name: str
    kind: str
    products: float
    reads: float
    makes: float
    readers: tuple[str, ...]
    repeats: bool


@functools.lru_cache(maxsize=4)
def _facts(graph: Graph) -> tuple[_Facts, ...]:
    """The body's nodes, after an entry for the pixels."""

    def size(tensor: str) -> float:
        return float(np.prod(graph.shapes[tensor]))

    def readers(tensor: str) -> tuple[str, ...]:
        return tuple(node.name for node in graph.consumers(tensor))

    pixels = graph.input.name
    found = [_Facts("", "pixels", 0.0, 0.0, size(pixels), readers(pixels), False)]
    for node in body(graph):
        kind = "float_elements"
        if isinstance(node, Dense):
            kind = "float_dense"
        elif isinstance(node, Conv):
            kind = "float_products" if node.groups == 1 else "float_depthwise"
        found.append(
            _Facts(
                node.name,
                kind,
                float(multiply_adds(graph, node)),
                size(node.inputs[0]) if node.inputs[0] in graph.shapes else 0.0,
                size(node.output),
                readers(node.output),
                isinstance(node, Reshape | MaxPool | Pad | Slice | ChannelShuffle),
            )
        )
    return tuple(found)


def work(graph: Graph, modes: Mapping[str, Mode]) -> Work:
    """The quantities of `Work` for one choice."""
    found = dict.fromkeys(Work.__dataclass_fields__, 0.0)
    for node in _facts(graph):
        mode = modes.get(node.name, "int8")
        if mode == "dynamic":
            found["dynamic_products"] += node.products
            found["dynamic_elements"] += node.reads
        elif mode == "float":
            found[node.kind] += node.products or node.makes
        if any(
            (modes.get(reader, "float") == "int8") != (mode == "int8") for reader in node.readers
        ):
            found["border_elements"] += node.makes
    return Work(**found)


def predicted_noise(graph: Graph, table: Sensitivity, modes: Mapping[str, Mode]) -> float:
    """The power of the logits' error by that of the logits, if single errors add up."""
    rows, total = table.by_node, 0.0
    for node in _facts(graph)[1:]:
        row, mode = rows[node.name], modes[node.name]
        rounded = mode == "int8" and not node.repeats
        if row.activation and (rounded or any(modes.get(one) == "int8" for one in node.readers)):
            total += row.activation.noise
        if row.weights and mode != "float":
            total += row.weights.noise
        if row.image_wise and mode == "dynamic":
            total += row.image_wise.noise
    return total


def choose(graph: Graph, table: Sensitivity, cost: Cost, budget: float) -> Modes:
    """The modes with little noise whose cost stays within a budget.

    Args:
        table: measured on the int8 plan.
        cost: of a choice, in the budget's unit.
        budget: the most it may cost.
    """
    modes, noise = all_int8(graph), predicted_noise(graph, table, all_int8(graph))
    spent = cost(modes)
    while True:
        best: tuple[float, Modes, float, float] | None = None
        for changed in _moves(graph, modes):
            price = cost(changed)
            left = predicted_noise(graph, table, changed)
            if price > budget or left >= noise:
                continue
            gain = (noise - left) / max(price - spent, _LEAST_COST)
            if best is None or gain > best[0]:
                best = gain, changed, left, price
        if best is None:
            return modes
        _, modes, noise, spent = best


def _moves(graph: Graph, modes: Modes) -> Iterator[Modes]:
    """Every run of up to `LONGEST_RUN` nodes in every other mode."""
    nodes = body(graph)
    for first in range(len(nodes)):
        for count in range(1, min(LONGEST_RUN, len(nodes) - first) + 1):
            run = nodes[first : first + count]
            for mode in _MODES:
                wanted = as_mode(graph, run, mode)
                if any(modes[name] != one for name, one in wanted.items()):
                    yield {**modes, **wanted}


def as_mode(graph: Graph, nodes: Sequence[Node], mode: Mode) -> Modes:
    """A mode for several nodes; where they cannot be dynamic, float stands for it."""
    return {
        node.name: "float" if mode == "dynamic" and not can_be_dynamic(graph, node) else mode
        for node in nodes
    }


def apply(quantized: Quantized, modes: Mapping[str, Mode], images: Sequence[Image]) -> Quantized:
    """A network with these modes, its biases corrected for them.

    Args:
        quantized: without float nodes.
        modes: by node name; nodes that it leaves out are int8.
        images: for the biases, uint8 `[H, W, 3]`, all in memory at once; with none the
            biases stay as they are.

    Raises:
        QuantizationError: a name is no node's, or a node cannot have its mode.
    """
    graph = quantized.graph
    nodes = {node.name: node for node in body(graph)}
    for name, mode in modes.items():
        if name not in nodes:
            raise QuantizationError(
                f"There is no node {name!r} whose precision could be chosen.",
                f"the network has {', '.join([*nodes][:3])} and {len(nodes) - 3} more",
                "take the names from quantize-report, or from the manifest or the "
                "sensitivity.json of an export of this very network",
            )
        if mode == "dynamic" and not can_be_dynamic(graph, nodes[name]):
            raise QuantizationError(
                f"The node {name!r} cannot be dynamic.",
                "only dense layers, and convolutions that see all channels, "
                "can quantize what they read",
                "give it as a float node",
            )
    plan = replace(
        quantized.plan,
        float_nodes=frozenset(name for name, mode in modes.items() if mode != "int8"),
        dynamic_nodes=frozenset(name for name, mode in modes.items() if mode == "dynamic"),
    )
    return with_corrected_biases(replace(quantized, plan=plan), images)


def kept_images(graph: Graph, images: Images) -> list[Image]:
    """Up to 32 of the calibration images, for the biases: those whose bytes hash lowest."""
    kept = ImageSample(image_limit(graph))
    for image in images():
        kept.update(image)
    return list(kept.images())


def with_corrected_biases(quantized: Quantized, images: Sequence[Image]) -> Quantized:
    """Take each layer's typical error out of its bias, in whatever precision it has it."""
    graph, plan = quantized.graph, quantized.plan
    if not images:
        return quantized
    fixed = correct_biases(graph, plan, images)

    def moved(node: Node) -> Node:
        if not isinstance(node, Conv | Dense) or plan.keeps_int8_weights(node.name):
            return node
        old, new = plan.weights[node.name], fixed.weights[node.name]
        step = old.scales.astype(np.float64) * plan.activations[node.inputs[0]].scale
        shift = (new.bias.astype(np.float64) - old.bias) * step
        return replace(node, bias=(node.bias + shift).astype(np.float32))

    kept = {
        name: weights if plan.keeps_int8_weights(name) else plan.weights[name]
        for name, weights in fixed.weights.items()
    }
    nodes = tuple(moved(node) for node in graph.nodes)
    return replace(quantized, graph=replace(graph, nodes=nodes), plan=replace(plan, weights=kept))


def record_of(plan: QuantizationPlan) -> dict[str, Any]:
    """For the manifest: the names, as `apply` takes them back."""
    return {
        "float_nodes": sorted(plan.float_nodes - plan.dynamic_nodes),
        "dynamic_nodes": sorted(plan.dynamic_nodes),
    }
