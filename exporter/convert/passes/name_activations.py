"""Recognize activations that are written out in smaller operators.

    x -> Add(3) -> Relu6 -> Mul(1/6)                       HardSigmoid(x)
    x -> Add(3) -> Relu6 -> Mul(x) -> Mul(1/6)             HardSwish(x)
    x -> HardSigmoid -> Mul(x)                             HardSwish(x)
    x -> Sigmoid -> Mul(x)                                 Silu(x)

Requires: nothing; it has to come before passes that fold constants into
convolutions, which would take the Add(3). Ensures: none of the patterns is left
whose inner tensors have no other reader; outputs move by rounding only.
"""

from __future__ import annotations

import math

from exporter.convert.graph import (
    Add,
    Graph,
    HardSigmoid,
    HardSwish,
    Mul,
    Node,
    Relu6,
    Sigmoid,
    Silu,
)
from exporter.convert.passes.rewriting import (
    Outcome,
    Rewrite,
    Uses,
    operand_of,
    rebuild,
    scalar_of,
)

_GATES: dict[type[Node], type[Node]] = {Sigmoid: Silu, HardSigmoid: HardSwish}
Found = tuple[Node, list[Node]]  # the new node, and the inner ones that go


def apply(graph: Graph) -> Outcome:
    """Put the activations together, from the inside out."""
    changed = False
    while found := _first(graph):
        new, inner = found
        last = next(node for node in graph.nodes if node.output == new.output)
        gone: dict[str, Node | None] = {node.name: None for node in inner}
        graph = rebuild(graph, {**gone, last.name: new})
        changed = True
    return graph, changed


def _first(graph: Graph) -> Found | None:
    uses = Uses(graph)
    for node in graph.nodes:
        if isinstance(node, Mul) and node.fused == "none":
            found = _gated(node, uses) or _sixth(graph, node, uses)
            if found:
                return found
    return None


def _gated(node: Node, uses: Uses) -> Found | None:
    """x * gate(x)."""
    for x, other in (node.inputs, node.inputs[::-1]):
        gate = uses.producers.get(other)
        kind = _GATES.get(type(gate)) if gate is not None else None
        if gate and kind and gate.inputs == (x,) and uses.only_reader(other) is node:
            return kind(name=node.name, inputs=(x,), output=node.output), [gate]
    return None


def _sixth(graph: Graph, node: Node, uses: Uses) -> Found | None:
    """relu6(x + 3) / 6, or x * relu6(x + 3) / 6."""
    factor, source = scalar_of(graph, node.inputs), operand_of(graph, node)
    if factor is None or source is None or not math.isclose(factor, 1 / 6, rel_tol=1e-5):
        return None
    if uses.only_reader(source) is not node:
        return None
    inside = _shifted_relu6(graph, source, uses)
    if inside:
        x, inner = inside
        return HardSigmoid(name=node.name, inputs=(x,), output=node.output), inner
    product = uses.producers.get(source)
    if not isinstance(product, Mul) or product.fused != "none":
        return None
    for x, other in (product.inputs, product.inputs[::-1]):
        inside = _shifted_relu6(graph, other, uses) if uses.only_reader(other) else None
        if inside and inside[0] == x:
            new = HardSwish(name=node.name, inputs=(x,), output=node.output)
            return new, [*inside[1], product]
    return None


def _shifted_relu6(graph: Graph, tensor: str, uses: Uses) -> tuple[str, list[Node]] | None:
    """x and the two nodes of relu6(x + 3), where `tensor` is its result."""
    relu6 = uses.producers.get(tensor)
    if not isinstance(relu6, Relu6):
        return None
    add = uses.producers.get(relu6.inputs[0])
    if not isinstance(add, Add) or add.fused != "none" or uses.only_reader(add.output) is None:
        return None
    x = operand_of(graph, add)
    return (x, [add, relu6]) if x and scalar_of(graph, add.inputs) == 3.0 else None


def ensures(graph: Graph) -> list[str]:
    """No pattern is left."""
    found = _first(graph)
    return [f"{found[0].name} is a {type(found[0]).__name__} written out"] if found else []


NAME_ACTIVATIONS = Rewrite("name_activations", apply, ensures)
