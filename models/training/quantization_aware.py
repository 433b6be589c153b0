"""A network that computes as its int8 file will, while its float weights learn.

The network is traced (torch.fx), and fake quantization put where the int8 file rounds:
the weights of convolutions and linear layers, and each tensor that such a file holds.
A convolution, the batch norm and the activation behind it make one tensor; a sum, a
pooled mean and the logits are rounded too; what only rearranges values is not. The traced
network shares all parameters with the given one, so there is nothing to remove at the end.

    aware = QuantizationAware(net, example)
    aware.measure(batches)     # ranges from some pictures
    logits = aware(pictures)   # as int8 would, with a gradient
    with aware.as_float(): ...
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from models.training.fake_quantization import (
    ALL,
    SIGMOID,
    TANH,
    Bounds,
    QuantizedWeights,
    Range,
    Rounded,
    RoundedSiLU,
)
from models.training.library import torch
from models.training.settings import TrainingError

_F = nn.functional
Kind = type[nn.Module] | Callable[..., Any] | str

# What is computed together with the operator before it.
_ACTIVATIONS: tuple[Kind, ...] = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, _F.relu, _F.relu6, _F.hardtanh, torch.relu, torch.clamp,
    "relu", "relu_", "clamp",
)  # fmt: skip
_SUMS: tuple[Kind, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
# What only picks, moves or repeats values.
_REARRANGING: tuple[Kind, ...] = (
    nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten, nn.MaxPool2d, nn.AdaptiveMaxPool2d,
    _F.dropout, _F.max_pool2d, torch.max_pool2d, torch.flatten, torch.reshape, torch.permute,
    torch.transpose, torch.squeeze, torch.unsqueeze, operator.getitem, getattr,
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "contiguous",
    "chunk", "split",
)  # fmt: skip
_AVERAGES: tuple[Kind, ...] = (nn.AvgPool2d, _F.avg_pool2d)  # they keep their input's scale
_CONCATENATIONS: tuple[Kind, ...] = (torch.cat, torch.concat)
_GLOBAL_OR_NOT: tuple[Kind, ...] = (nn.AdaptiveAvgPool2d, _F.adaptive_avg_pool2d)
_SIGMOIDS: tuple[Kind, ...] = (nn.Sigmoid, torch.sigmoid, _F.sigmoid, "sigmoid")
_GIVEN: tuple[tuple[tuple[Kind, ...], tuple[float, int]], ...] = (
    (_SIGMOIDS, SIGMOID),
    ((nn.Tanh, torch.tanh, _F.tanh, "tanh"), TANH),
)
# What tells no values apart beyond these; a sigmoid's int8 has half a step left there.
_SATURATED = math.log(511.0)
_READ: tuple[tuple[tuple[Kind, ...], Bounds], ...] = (
    ((nn.ReLU6, _F.relu6), (0.0, 6.0)),
    ((nn.ReLU, _F.relu, torch.relu, "relu", "relu_"), (0.0, math.inf)),
    ((nn.Hardswish, _F.hardswish), (-3.0, math.inf)),
    ((nn.Hardsigmoid, _F.hardsigmoid), (-3.0, 3.0)),
    ((nn.SiLU, _F.silu), (-_SATURATED, math.inf)),
    (_SIGMOIDS, (-_SATURATED, _SATURATED)),
)
_SHAPES = (getattr, "size")  # they read no values
# Of the rearranging ones those that read parts or reorder channels: all values count there.
_PARTS: tuple[Kind, ...] = (
    torch.permute, torch.transpose, operator.getitem,
    "permute", "transpose", "chunk", "split",
)  # fmt: skip


class QuantizationAware(nn.Module):
    """A network with fake quantization; it shares the given one's parameters.

    Args:
        net: normalized float32 `[N, 3, height, width]` to logits `[N, classes]`.
        example: one input; it decides what is a tensor and what a number.

    Raises:
        TrainingError: the network cannot be traced, or does not give one tensor.
    """

    def __init__(self, net: nn.Module, example: Tensor) -> None:
        super().__init__()
        self._norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.traced = _trace(net, example)
        self._places = _Insertion(self.traced).run()
        self.freeze_norms()

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Each of them once."""
        return tuple(m for m in self.modules() if isinstance(m, Range))

    @property
    def rounded(self) -> tuple[str, ...]:
        """Names of the traced nodes whose result is rounded."""
        return self._places

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.traced(pictures)
        return logits

    def freeze_norms(self) -> None:
        """Keep batch-norm statistics: what is folded into the int8 weights does not vary."""
        for norm in self._norms:
            norm.eval()

    def train(self, mode: bool = True) -> QuantizationAware:
        """As of any module, but for batch norms."""
        super().train(mode)
        self.freeze_norms()
        return self

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Take all ranges from the float network's tensors on normalized pictures.

        Raises:
            ArithmeticError: an activation is not finite.
        """
        ranges = self.ranges
        with self.as_float(), torch.no_grad():
            for each in ranges:
                each.watching = True
            for pictures in batches:
                self(pictures)
                for each in ranges:
                    each.close_batch()
        for each in ranges:
            each.watching = False
            each.settle()

    @contextlib.contextmanager
    def as_float(self) -> Iterator[None]:
        """Without any rounding, in evaluation mode; afterwards as before."""
        was_training = self.training
        self.eval()
        self._switch(False)
        try:
            yield
        finally:
            self._switch(True)
            self.train(was_training)

    def _switch(self, active: bool) -> None:
        for module in self.modules():
            if isinstance(module, QuantizedWeights | Range):
                module.active = active


class _Tracer(fx.Tracer):
    """Layers with weights stay one node, our own kinds of them too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        weighted = isinstance(m, nn.Conv2d | nn.Linear)
        return weighted or super().is_leaf_module(m, module_qualified_name)


def _trace(net: nn.Module, example: Tensor) -> fx.GraphModule:
    """The network as a graph of calls, with the shape of what each of them gives."""
    was_training = net.training
    net.eval()  # else a functional dropout would be written down as one that drops
    try:
        traced = fx.GraphModule(net, _Tracer().trace(net))
        with torch.no_grad():
            ShapeProp(traced).propagate(example)
    except (fx.proxy.TraceError, TypeError, RuntimeError, NotImplementedError) as error:
        raise TrainingError(
            f"{type(net).__name__} cannot be trained with quantization.",
            f"torch.fx cannot trace it: {str(error).splitlines()[0]}",
            "train it without; exporter export --quantizer distill needs no tracing",
        ) from error
    finally:
        net.train(was_training)
    return traced


class _Insertion:
    """Puts fake quantization into a traced network."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self._traced = traced
        self._ranges: dict[fx.Node, Range] = {}  # of each tensor that is rounded
        self._nodes = list(traced.graph.nodes)

    def run(self) -> tuple[str, ...]:
        """Do it; the names of the nodes that are rounded now."""
        output = self._nodes[-1].args[0]
        if not isinstance(output, fx.Node):
            raise TrainingError(
                "The network cannot be trained with quantization.",
                "it gives several tensors, where a classifier gives its logits",
                "train it without",
            )
        logits = self._origin(output)
        for node in self._nodes:
            if self._is_rounded(node):
                given = (own for kinds, own in _GIVEN if self._is(node, kinds))
                self._ranges[node] = Range(whole=node is logits, given=next(given, None))
        self._share()
        self._bound()
        for index, (node, used) in enumerate(self._ranges.items()):
            self._insert(node, used, f"rounded_{index}")
        for node in self._nodes:
            if node.op == "call_module":
                self._wrap(str(node.target))
        self._traced.graph.lint()
        self._traced.recompile()
        return tuple(node.name for node in self._ranges)

    def _is_rounded(self, node: fx.Node) -> bool:
        """Whether an int8 file holds the node's result as a tensor with a scale."""
        if node.op not in ("call_module", "call_function", "call_method"):
            return False
        if not _is_tensor(node) or self._is(node, _REARRANGING):
            return False
        return not self._is_fused(node)

    def _is_fused(self, node: fx.Node) -> bool:
        """Whether the next operator is computed together with this one, unrounded between."""
        users = list(node.users)
        if len(users) != 1:
            return False
        weighted = self._is(node, (nn.Conv2d, nn.Linear))
        if weighted and self._is(users[0], (nn.BatchNorm2d,)):
            return True
        source = weighted or self._is(node, (nn.BatchNorm2d, *_SUMS))
        return source and self._is(users[0], _ACTIVATIONS)

    def _share(self) -> None:
        """One range for all that a concatenation reads and makes, and for averages their input's.

        TFLite's AVERAGE_POOL_2D and CONCATENATION do not rescale. A concatenation leaves
        out what has a given scale, an average takes that too.
        """
        for node in list(self._ranges):
            if self._is(node, _CONCATENATIONS) or self._is_average(node):
                self._join(node)

    def _is_average(self, node: fx.Node) -> bool:
        """Whether a node is an average over parts of the picture; a global mean rescales."""
        if self._is(node, _GLOBAL_OR_NOT):
            return any(side > 1 for side in node.meta["tensor_meta"].shape[2:])
        return self._is(node, _AVERAGES)

    def _join(self, node: fx.Node) -> None:
        origins = [self._origin(each) for each in node.all_input_nodes]
        read = [self._ranges[origin] for origin in origins if origin in self._ranges]
        if self._is_average(node) and any(each.given for each in read):
            self._ranges[node] = read[0]
            return
        found = {self._ranges[node], *(each for each in read if not each.given)}
        kept = Range(whole=any(each.whole for each in found))
        for other, used in self._ranges.items():
            if used in found:
                self._ranges[other] = kept

    def _bound(self) -> None:
        """Let no range reach further than what reads its tensors can tell values apart."""
        for used in set(self._ranges.values()):
            tied = [node for node, each in self._ranges.items() if each is used]
            used.useful = self._read_by_all((u for node in tied for u in node.users), used) or ALL

    def _read_by_all(self, users: Iterable[fx.Node], used: Range) -> Bounds | None:
        bounds = [self._read_by(user, used) for user in users]
        found = [each for each in bounds if each is not None]
        if not found:
            return None
        return min(low for low, _ in found), max(high for _, high in found)

    def _read_by(self, user: fx.Node, used: Range) -> Bounds | None:
        """The values that matter to a reader; None for one that hands them on in the same range."""
        if self._is(user, _CONCATENATIONS) and self._ranges.get(user) is used:
            return None
        if user.target in _SHAPES:
            return None
        if self._is(user, _REARRANGING) and not self._is(user, _PARTS):
            return self._read_by_all(user.users, used)
        return next((bounds for kinds, bounds in _READ if self._is(user, kinds)), ALL)

    def _origin(self, node: fx.Node) -> fx.Node:
        """The operator whose values a node only rearranges."""
        while self._is(node, _REARRANGING) and node.all_input_nodes:
            node = node.all_input_nodes[0]
        return node

    def _insert(self, node: fx.Node, used: Range, name: str) -> None:
        self._traced.add_submodule(name, Rounded(used))
        with self._traced.graph.inserting_after(node):
            rounded = self._traced.graph.call_module(name, (node,))
        node.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)

    def _wrap(self, path: str) -> None:
        """Let a layer compute with rounded weights or gates; once, however often it is called."""
        layer = self._traced.get_submodule(path)
        rounded: nn.Module
        if isinstance(layer, nn.Conv2d | nn.Linear):
            rounded = QuantizedWeights(layer)
        elif isinstance(layer, nn.SiLU):
            rounded = RoundedSiLU()
        else:
            return
        parent, _, leaf = path.rpartition(".")
        setattr(self._traced.get_submodule(parent), leaf, rounded)

    def _is(self, node: fx.Node, kinds: tuple[Kind, ...]) -> bool:
        if node.op == "call_module":
            module = self._traced.get_submodule(str(node.target))
            types = tuple(kind for kind in kinds if isinstance(kind, type))
            return isinstance(module, types)
        return node.op in ("call_function", "call_method") and node.target in kinds


def _is_tensor(node: fx.Node) -> bool:
    """Whether a node's result is a tensor of floats, as its shape tells."""
    found: Any = node.meta.get("tensor_meta")
    return getattr(found, "dtype", None) is torch.float32
