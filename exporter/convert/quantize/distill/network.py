"""A graph as torch modules: the float one that teaches, and the int8 one that learns.

What is learned, and in which unit, so that one learning rate suits all layers:

* a layer's weights, in steps of their channel's scale; they are rounded on the way
* the scales of its output channels, as the logarithm of what they grew by
* its biases, in steps of its result's scale
* the scale of each group of activations, as the logarithm of what it grew by
* its zero point, in steps, unless the range begins at zero

What is given stays: the scales of the pixels and of sigmoids, and the logits', which are
never clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from exporter.convert.graph import (
    ChannelShuffle,
    Conv,
    Dense,
    Fused,
    Graph,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Slice,
)
from exporter.convert.quantize.distill.operators import activate, fused_of, run_node, to_tensors
from exporter.convert.quantize.distill.rounding import LOWEST, RoundActivation, RoundWeight
from exporter.convert.quantize.groups import Group, find_groups, quantized_nodes
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.simulate import dequantized_graph

INSIDE = 0.45  # how far from its whole number a weight may begin
_CAP = 6.0


class FloatNetwork:
    """The float graph; the interface of `LearnedNetwork`, without anything to learn."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._constants = to_tensors(graph.constants)
        self._weights = {
            node.name: (torch.from_numpy(np.array(node.weight)), torch.from_numpy(node.bias.copy()))
            for node in graph.nodes
            if isinstance(node, Conv | Dense)
        }

    @torch.no_grad()
    def run(self, pixels: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        """uint8 `[N, H, W, 3]` to the asked tensors by name."""

        def step(node: Node, sources: Sequence[Tensor]) -> Tensor:
            made = run_node(node, sources, self._weights.get(node.name))
            return activate(made, fused_of(node))

        given = {self._graph.input.name: to_input(self._graph, pixels), **self._constants}
        return walk(self._graph.nodes, given, outputs, step)


class LayerWeights(nn.Module):
    """What is learned of one Conv or Dense."""

    scale: Tensor
    bias: Tensor

    def __init__(self, node: Conv | Dense, start: QuantizedWeights, bias: Tensor, unit: float):
        super().__init__()
        scale = torch.from_numpy(start.scales.copy())
        whole = torch.from_numpy(start.values.astype(np.float32))
        exact = torch.from_numpy(np.array(node.weight)) / _to_rows(scale, whole)
        # as near to the float weight as rounding to the same step lets it be
        self.steps = nn.Parameter(exact.clamp(whole - INSIDE, whole + INSIDE))
        self.gain = nn.Parameter(torch.zeros_like(scale))
        self.shift = nn.Parameter(torch.zeros_like(bias))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self.unit = unit

    def forward(self) -> tuple[Tensor, Tensor]:
        whole: Tensor = RoundWeight.apply(self.steps)
        weight = whole * _to_rows(self.scales(), whole)
        if weight.dim() == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        return weight, self.biases()

    def scales(self) -> Tensor:
        """Float32 `[out]`."""
        return self.scale * self.gain.exp()

    def biases(self) -> Tensor:
        """Float32 `[out]`, in the units of the float bias."""
        return self.bias + self.shift * self.unit


class Rounding(nn.Module):
    """The scale and zero point of one group of tensors."""

    def __init__(self, start: Affine, learns: bool) -> None:
        super().__init__()
        self.growth = nn.Parameter(torch.zeros(()), requires_grad=learns)
        signed = start.zero_point != LOWEST
        self.moved = nn.Parameter(torch.zeros(()), requires_grad=learns and signed)
        self.start = start

    def scale(self) -> Tensor:
        return self.growth.exp() * float(np.float32(self.start.scale))

    def zero_point(self) -> Tensor:
        moved = self.moved + self.start.zero_point
        return (moved + (moved.round() - moved).detach()).clamp(-128, 127)

    def forward(self, values: Tensor, fused: Fused) -> Tensor:
        scale, zero = self.scale(), self.zero_point()
        if not self._clips_like(fused, float(scale.detach()), float(zero.detach())):
            values = activate(values, fused)
        found: Tensor = RoundActivation.apply(values, scale, zero)
        return found

    def _clips_like(self, fused: Fused, scale: float, zero: float) -> bool:
        """Whether clipping to int8 does what the activation would: one pass less."""
        if zero != LOWEST:
            return False
        return fused is Fused.RELU or (fused is Fused.RELU6 and 255 * scale <= _CAP)


class LearnedNetwork(nn.Module):
    """The int8 graph as a plan has it, with all of that to be learned.

    Args:
        graph: what the plan was made for.
        plan: where learning begins.
    """

    def __init__(self, graph: Graph, plan: QuantizationPlan) -> None:
        super().__init__()
        self.graph = graph
        self.nodes = tuple(quantized_nodes(graph))
        self.groups: tuple[Group, ...] = find_groups(graph)
        frozen = dequantized_graph(graph, plan)
        self.constants = to_tensors(frozen.constants)
        self.layers: dict[str, LayerWeights] = {}
        for node in frozen.nodes:
            if isinstance(node, Conv | Dense) and node.name in plan.weights:
                original = next(n for n in graph.nodes if n.name == node.name)
                assert isinstance(original, Conv | Dense)
                self.layers[node.name] = LayerWeights(
                    original,
                    plan.weights[node.name],
                    torch.from_numpy(node.bias.copy()),
                    plan.activations[node.output].scale,
                )
        self.roundings = [
            Rounding(plan.activations[group.tensors[0]], not (group.fixed or group.logits))
            for group in self.groups
        ]
        self.by_tensor = {
            name: rounding
            for group, rounding in zip(self.groups, self.roundings, strict=True)
            for name in group.tensors
        }
        self._all = nn.ModuleList([*self.layers.values(), *self.roundings])

    def forward(self, pixels: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        """uint8 `[N, H, W, 3]` to the asked tensors by name, each rounded."""
        given = {self.graph.input.name: to_input(self.graph, pixels)}
        return self.resume(given, outputs)

    def resume(self, given: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        """From some tensors, already rounded, to others; what is not needed is not run."""
        nodes = needed(self.nodes, set(given), outputs)
        return walk(nodes, {**given, **self.constants}, outputs, self._step)

    def to_steps(self, name: str, values: Tensor) -> Tensor:
        """A tensor whose scale does not learn, already rounded, as int8: a quarter the memory."""
        by = self.by_tensor[name].start
        return ((values / float(np.float32(by.scale))).round() + by.zero_point).to(torch.int8)

    def from_steps(self, name: str, steps: Tensor) -> Tensor:
        """The float32 values that `to_steps` was given, to the last bit."""
        by = self.by_tensor[name].start
        return (steps.float() - by.zero_point) * float(np.float32(by.scale))

    def _step(self, node: Node, sources: Sequence[Tensor]) -> Tensor:
        layer = self.layers.get(node.name)
        made = run_node(node, sources, None if layer is None else layer())
        rounding = self.by_tensor[node.output]
        if _keeps_steps(node) and self.by_tensor[node.inputs[0]] is rounding:
            return made
        found: Tensor = rounding(made, fused_of(node))
        return found


def _keeps_steps(node: Node) -> bool:
    """Whether a node only moves values that are rounded already."""
    moves = isinstance(node, MaxPool | Reshape | Slice | ChannelShuffle)
    return moves or (isinstance(node, Pad) and node.value == 0.0)


def needed(nodes: Sequence[Node], given: set[str], outputs: Sequence[str]) -> tuple[Node, ...]:
    """The nodes between some tensors and others, in order."""
    wanted, found = set(outputs) - given, []
    for node in reversed(nodes):
        if node.output in wanted:
            found.append(node)
            wanted |= set(node.inputs) - given
    return tuple(reversed(found))


def walk(
    nodes: Sequence[Node],
    given: Mapping[str, Tensor],
    outputs: Sequence[str],
    step: Callable[[Node, Sequence[Tensor]], Tensor],
) -> dict[str, Tensor]:
    """Run nodes in order; each tensor is let go after its last reader."""
    last = {name: index for index, node in enumerate(nodes) for name in node.inputs}
    values = dict(given)
    for index, node in enumerate(nodes):
        values[node.output] = step(node, [values[name] for name in node.inputs])
        for name in set(node.inputs):
            if last[name] == index and name not in outputs:
                del values[name]
    return {name: values[name] for name in outputs}


def to_input(graph: Graph, pixels: Tensor) -> Tensor:
    """uint8 `[N, H, W, 3]` to float32 `[N, 3, H, W]`, in memory channels last."""
    values = (pixels.float() - graph.input.zero_point) * float(np.float32(graph.input.scale))
    return values.permute(0, 3, 1, 2)


def _to_rows(scale: Tensor, like: Tensor) -> Tensor:
    return scale.reshape(-1, *(1,) * (like.dim() - 1))
