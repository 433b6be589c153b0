"""Take out nodes that do nothing or that nobody reads.

    x -> Relu6 -> Relu -> y        x -> Relu6 -> y
    x -> Add(0) -> y               x -> y
    x -> Concat -> y               x -> y           (of one tensor)

Requires: nothing. Ensures: every node is needed for the output and changes its
input; the graph's output keeps its name; outputs do not move.
"""

from __future__ import annotations

from exporter.convert.graph import (
    Add,
    AveragePool,
    Concat,
    Fused,
    Graph,
    MaxPool,
    Mul,
    Node,
    Pad,
    Relu,
    Relu6,
    Sub,
)
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, rebuild, trimmed


def apply(graph: Graph) -> Outcome:
    """Take out idle nodes, then dead ones."""
    idle = _idle(graph)
    after = graph
    if idle:
        after = rebuild(graph, dict.fromkeys(idle), {n.output: s for n, s in idle.values()})
    dead = _dead(after)
    if dead:
        after = rebuild(after, dict.fromkeys(dead))
    return after, after is not graph


def _idle(graph: Graph) -> dict[str, tuple[Node, str]]:
    """By name, nodes that give what they take, with the tensor that they take."""
    uses = Uses(graph)
    found = {}
    for node in graph.nodes:
        source = _passed_on(graph, node, uses)
        if source is not None and node.output != graph.output:
            found[node.name] = (node, source)
    return found


def _passed_on(graph: Graph, node: Node, uses: Uses) -> str | None:
    source = node.inputs[0]
    if isinstance(node, Add | Sub | Mul) and node.fused is Fused.NONE:
        return _neutral(graph, node)
    if isinstance(node, Concat) and len(node.inputs) == 1:
        return source
    if isinstance(node, Pad) and not any(node.padding):
        return source
    if isinstance(node, MaxPool | AveragePool):
        trivial = node.kernel == (1, 1) and node.strides == (1, 1) and not any(node.padding)
        return source if trivial else None
    if isinstance(node, Relu | Relu6):
        before = uses.producers.get(source)
        bounds = {Relu: (Relu, Relu6), Relu6: (Relu6,)}[type(node)]
        known = {Relu: (Fused.RELU, Fused.RELU6), Relu6: (Fused.RELU6,)}[type(node)]
        if isinstance(before, bounds) or getattr(before, "fused", None) in known:
            return source
    return None


def _neutral(graph: Graph, node: Node) -> str | None:
    """x of x + 0, x - 0 and x * 1."""
    for position, name in enumerate(node.inputs):
        constant = graph.constants.get(name)
        neutral = 1.0 if isinstance(node, Mul) else 0.0
        if constant is None or not (constant == neutral).all():
            continue
        if isinstance(node, Sub) and position == 0:
            return None
        source = node.inputs[1 - position]
        return source if graph.shapes.get(source) == graph.shapes[node.output] else None
    return None


def _dead(graph: Graph) -> list[str]:
    needed = {graph.output}
    dead = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
        else:
            dead.append(node.name)
    return dead


def ensures(graph: Graph) -> list[str]:
    """Every node is needed, and so is every constant."""
    wrong = [f"{name} does nothing" for name in _idle(graph)]
    wrong += [f"nobody reads {name}" for name in _dead(graph)]
    if len(trimmed(graph).constants) != len(graph.constants):
        wrong.append("constants are left that nobody reads")
    return wrong


CLEAN_UP = Rewrite("clean_up", apply, ensures)
