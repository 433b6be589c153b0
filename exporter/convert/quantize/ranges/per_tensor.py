"""A range rule for each late tensor, chosen by what rounding it alone does to the logits.

One rule for all tensors is a compromise. Here each group of tensors that share a scale is rounded
while everything else stays in float, once by the network's rule and once by each of the others, and
the squared error of the logits is compared: alone, since errors of single roundings hardly
interact and add up, while in the network that is rounded throughout any change draws all the
rounding errors after it anew, and a choice would follow that noise.

What is chosen must hold on other images: of two halves of the kept images both must gain at
least `GAIN_DB`, group by group; and all choices together must gain on both, or none is taken.

Only groups in the last `SHARE` of the network's multiply-adds are tried. Theirs is most of the
error that is left after equalization, and what follows them is quickly computed again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from exporter.convert.evaluate import to_feed, to_onnx_model
from exporter.convert.graph import Conv, Dense, Graph, Node
from exporter.convert.held_weights import Weights
from exporter.convert.quantize.groups import Group, quantized_nodes
from exporter.convert.quantize.plan import Affine
from exporter.convert.quantize.ranges.observe import Observation
from exporter.convert.quantize.ranges.rules import (
    Range,
    Rule,
    affine,
    choose_range,
    min_max,
    within,
)
from exporter.convert.quantize.ranges.useful import ALL, Bounds
from exporter.convert.quantize.simulate import open_session

SHARE = 0.25  # of the network's multiply-adds
GAIN_DB = 0.3
RULES: tuple[Rule, ...] = ("least_squared_error", "percentile_99.99", "percentile_99.999")
FACTORS = (0.7, 0.85, 1.15, 1.3)  # of the network's rule's range
_SAME = 0.02  # scales that differ by less are not compared
_MOST_VALUES = 2**27  # float32 values of late tensors in memory: 512 MB
Image = npt.NDArray[np.uint8]
Feed = dict[str, npt.NDArray[Any]]
Halves = tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """Another range for one group.

    Attributes:
        rule: its name for the manifest: a rule, or a rule times a factor.
        wanted: the range.
        gain_db: by how much less its rounding alone moves the logits, on either half.
    """

    rule: str
    wanted: Range
    gain_db: Halves


def choose(
    graph: Graph,
    groups: Sequence[Group],
    seen: Sequence[Observation | None],
    rule: Rule,
    images: Sequence[Image],
) -> dict[str, Choice]:
    """Better ranges for late groups, by the name of a group's first tensor; often none.

    Args:
        graph: in float.
        groups: of the graph, and `seen`, what each held.
        rule: the one that all groups have so far.
        images: uint8 `[H, W, 3]`, at least two; every second one is of the other half.
    """
    nodes = tuple(quantized_nodes(graph))
    late = _Late(graph, nodes, images)
    found: dict[str, Choice] = {}
    for group, observation in zip(groups, seen, strict=True):
        start = late.start_of(group)
        if observation is None or group.logits or start is None:
            continue
        choice = _best(late, start, group, _candidates(observation, rule, group.useful))
        if choice is not None:
            found[group.tensors[0]] = choice
    if not found:
        return {}
    chosen = [group for group in groups if group.tensors[0] in found]
    trial = late.trial(late.cut, chosen)
    usual = [choose_range(_of(group, groups, seen), rule) for group in chosen]
    before = trial(
        [affine(within(each, group.useful)) for each, group in zip(usual, chosen, strict=True)]
    )
    after = trial([affine(found[group.tensors[0]].wanted) for group in chosen])
    return found if all(_gains(before, after, 0.0)) else {}


def _of(group: Group, groups: Sequence[Group], seen: Sequence[Observation | None]) -> Observation:
    observation = seen[groups.index(group)]
    assert observation is not None
    return observation


def _candidates(seen: Observation, rule: Rule, useful: Bounds = ALL) -> dict[str, Range]:
    """The rule's range first, then others that differ from it; none wider than what was seen,
    nor than what is useful."""
    usual, full = within(choose_range(seen, rule), useful), within(min_max(seen), useful)
    found = {str(rule): usual}
    others = {
        str(other): within(choose_range(seen, other), useful) for other in RULES if other != rule
    }
    for factor in FACTORS:
        wide = Range(max(factor * usual.low, full.low), min(factor * usual.high, full.high))
        others[f"{rule} x {factor}"] = wide
    for name, wanted in others.items():
        if all(abs(affine(wanted).scale / affine(r).scale - 1) > _SAME for r in found.values()):
            found[name] = wanted
    return found


def _best(late: _Late, start: int, group: Group, candidates: Mapping[str, Range]) -> Choice | None:
    """The candidate with the least error, if it gains enough on both halves."""
    if len(candidates) < 2:
        return None
    trial = late.trial(start, [group])
    errors = {name: trial([affine(wanted)]) for name, wanted in candidates.items()}
    usual = next(iter(errors.values()))
    best = min(errors, key=lambda name: sum(errors[name]))
    if not all(_gains(usual, errors[best], GAIN_DB)):
        return None
    one, other = (
        10 * math.log10(u / max(b, 1e-30)) for u, b in zip(usual, errors[best], strict=True)
    )
    return Choice(best, candidates[best], (one, other))


def _gains(before: Halves, after: Halves, decibels: float) -> list[bool]:
    limit = 10 ** (-decibels / 10)
    return [new < old * limit for old, new in zip(before, after, strict=True)]


class _Late:
    """The last nodes of a graph over a batch of images, from tensors kept in memory."""

    def __init__(self, graph: Graph, nodes: Sequence[Node], images: Sequence[Image]) -> None:
        self._graph, self._nodes = graph, nodes
        self.cut = _first_late(graph, nodes, len(images))
        kept = [node.output for node in nodes[self.cut :]]
        before = self._read(self.cut, made={graph.input.name, *(n.output for n in nodes)} - {*kept})
        wanted = [name for name in (*before, *kept) if name != graph.input.name]
        held: Weights = {}
        model = self._model(0, [graph.input.name], wanted, held)
        session = open_session(model, held=held)
        self._tensors: Feed = {graph.input.name: np.concatenate(
            [to_feed(graph.input, image) for image in images]
        )}  # fmt: skip
        parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in wanted}
        for index in range(len(images)):  # one at a time: early tensors are large
            feed = {graph.input.name: self._tensors[graph.input.name][index : index + 1]}
            for name, value in zip(wanted, session.run(wanted, feed), strict=True):
                parts[name].append(value)
        self._tensors |= {name: np.concatenate(values) for name, values in parts.items()}
        self._reference = self._tensors[graph.logits].astype(np.float64)

    def start_of(self, group: Group) -> int | None:
        """The index of the first node that makes one of its tensors; None if that is early."""
        made = [i for i, node in enumerate(self._nodes) if node.output in group.tensors]
        return made[0] if made and made[0] >= self.cut else None

    def trial(self, start: int, groups: Sequence[Group]) -> Any:
        """A function from the groups' scales to the logits' squared error on either half.

        Args:
            start: no tensor of the groups is made before that node.
        """
        made = {node.output for node in self._nodes[start:]}
        live = self._read(start, set(self._tensors) - made)
        held: Weights = {}
        model = self._model(start, live, [self._graph.logits], held)
        leaders = {name: str(i) for i, group in enumerate(groups) for name in group.tensors}
        _round(model, leaders, len(groups))
        session = open_session(model, held=held)
        feed: Feed = {name: self._tensors[name] for name in live}

        def errors(scales: Sequence[Affine]) -> Halves:
            for i, by in enumerate(scales):
                feed[f"{i}/step"] = np.asarray(by.scale, np.float32)
                feed[f"{i}/zero"] = np.asarray(by.zero_point, np.int8)
            found = session.run([self._graph.logits], feed)[0]
            each = ((found - self._reference) ** 2).reshape(len(found), -1).sum(axis=1)
            return float(each[::2].sum()), float(each[1::2].sum())

        return errors

    def _read(self, start: int, made: set[str]) -> list[str]:
        """The tensors among `made` that the nodes from `start` on read."""
        read = [name for node in self._nodes[start:] for name in node.inputs]
        return [name for name in dict.fromkeys(read) if name in made]

    def _model(
        self, start: int, live: Sequence[str], outputs: Sequence[str], held: Weights
    ) -> onnx.ModelProto:
        graph = self._graph
        part: Any = SimpleNamespace(
            constants=graph.constants,
            nodes=self._nodes[start:],
            shapes=graph.shapes,
            input=graph.input,
        )
        model = to_onnx_model(part, outputs, held)
        del model.graph.input[:]
        for name in live:
            shape = ["images", *graph.shapes[name][1:]]
            model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        for made in model.graph.output:
            made.type.tensor_type.shape.dim[0].dim_param = "images"
        return model


def _first_late(graph: Graph, nodes: Sequence[Node], images: int) -> int:
    """The first node of the last `SHARE` of the multiply-adds that fit into memory.

    The node that makes the logits is always among them.
    """
    costs = [_multiply_adds(graph, node) for node in nodes]
    left, values, first = SHARE * sum(costs), 0, len(nodes) - 1
    for index in range(len(nodes) - 1, -1, -1):
        left -= costs[index]
        values += images * math.prod(graph.shapes[nodes[index].output])
        if left < 0 or values > _MOST_VALUES:
            break
        first = index
    return first


def _multiply_adds(graph: Graph, node: Node) -> int:
    if not isinstance(node, Conv | Dense):
        return 0
    return math.prod(graph.shapes[node.output]) * node.weight[0].size


def _round(model: onnx.ModelProto, leaders: Mapping[str, str], count: int) -> None:
    """Round tensors by scales that are inputs of the model."""
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        made = node.output[0]
        if made not in leaders:
            continue
        by = [f"{leaders[made]}/step", f"{leaders[made]}/zero"]
        node.output[0] = f"{made}/float"
        nodes.append(helper.make_node("QuantizeLinear", [f"{made}/float", *by], [f"{made}/int8"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{made}/int8", *by], [made]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for i in range(count):
        for name, kind in ((f"{i}/step", TensorProto.FLOAT), (f"{i}/zero", TensorProto.INT8)):
            model.graph.input.append(helper.make_tensor_value_info(name, kind, []))
