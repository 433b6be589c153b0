"""Prepare a flattened feature map for targets that hold it channels last.

    before: x [1, C, H, W] -> Reshape (C, H, W order) -> Dense(w)
    after:  x [1, C, H, W] -> Reshape (H, W, C order) -> Dense(w with its columns moved)

A target that holds x as NHWC can then flatten it as it lies, without a transpose.
Where C or H * W is 1 both orders are the same and nothing is done.

Requires: nothing. Ensures: every Reshape whose order matters is channels last;
outputs move by rounding only (the sums run in another order).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exporter.convert.graph import (
    Dense,
    Graph,
    HardSigmoid,
    HardSwish,
    Node,
    Relu,
    Relu6,
    Reshape,
    Shape,
    Sigmoid,
    Silu,
    Tanh,
)
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, rebuild
from exporter.convert.unsupported import Offender, UnsupportedOperatorsError

_ELEMENTWISE = (Relu, Relu6, Sigmoid, HardSigmoid, HardSwish, Silu, Tanh)


def apply(graph: Graph) -> Outcome:
    """Move the columns of every Dense behind a Reshape whose order matters.

    Raises:
        UnsupportedOperatorsError: something else reads the flattened tensor; all
            such nodes are listed.
    """
    waiting = _waiting(graph)
    if not waiting:
        return graph, False
    uses = Uses(graph)
    nodes: dict[str, Node | None] = {}
    offenders: list[Offender] = []
    for reshape in waiting:
        shape = graph.shapes[reshape.inputs[0]]
        nodes[reshape.name] = replace(reshape, channels_last=True)
        for reader in _readers(graph, reshape.output, uses):
            if isinstance(reader, Dense):
                nodes[reader.name] = _columns_moved(reader, shape)
            else:
                kind = type(reader).__name__
                reason = f"it reads {reshape.name!r}, which flattens {list(shape)}; only Dense can"
                offenders.append(Offender(reader.name, kind, reason))
        if graph.output == reshape.output:
            reason = "its result is the output of the graph"
            offenders.append(Offender(reshape.name, "Reshape", reason))
    if offenders:
        raise UnsupportedOperatorsError("The model (in the NHWC layout)", tuple(offenders))
    return rebuild(graph, nodes), True


def _waiting(graph: Graph) -> list[Reshape]:
    return [
        node
        for node in graph.nodes
        if isinstance(node, Reshape)
        and not node.channels_last
        and _matters(graph.shapes[node.inputs[0]])
    ]


def _matters(shape: Shape) -> bool:
    return len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1


def _readers(graph: Graph, tensor: str, uses: Uses) -> list[Node]:
    """Who reads a tensor, looking through operators that treat each value alike."""
    found: list[Node] = []
    for node in uses.readers[tensor]:
        if isinstance(node, _ELEMENTWISE) and node.output != graph.output:
            found += _readers(graph, node.output, uses)
        else:
            found.append(node)
    return found


def _columns_moved(node: Dense, shape: Shape) -> Dense:
    _, channels, height, width = shape
    moved = node.weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return replace(node, weight=np.ascontiguousarray(moved).reshape(node.weight.shape))


def ensures(graph: Graph) -> list[str]:
    """No Reshape is left whose order matters and is NCHW."""
    return [f"{node.name} flattens channels first" for node in _waiting(graph)]


FLATTEN_CHANNELS_LAST = Rewrite("flatten_channels_last", apply, ensures)
