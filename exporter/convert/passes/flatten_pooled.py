"""Let a global average pool give its channels flat, where a Reshape alone would do it.

    before: x -> GlobalAveragePool -> [1, C, 1, 1] -> Reshape -> [1, C]
    after:  x -> GlobalAveragePool(keep_dims=False) -> [1, C]

Requires: nothing. Ensures: no Reshape is the only reader of a global average pool; outputs
do not move.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.convert.graph import GlobalAveragePool, Graph, Node, Reshape
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, rebuild


def apply(graph: Graph) -> Outcome:
    """Merge every such pair; the pool makes the tensor that the Reshape made."""
    moved: dict[str, Node | None] = {}
    for pool, reshape in _pairs(graph):
        moved[reshape.name] = None
        moved[pool.name] = replace(pool, output=reshape.output, keep_dims=False)
    return (rebuild(graph, moved), True) if moved else (graph, False)


def _pairs(graph: Graph) -> list[tuple[GlobalAveragePool, Reshape]]:
    uses = Uses(graph)
    return [
        (node, reader)
        for node in graph.nodes
        if isinstance(node, GlobalAveragePool)
        and isinstance(reader := uses.only_reader(node.output), Reshape)
    ]


def ensures(graph: Graph) -> list[str]:
    """No pair is left."""
    return [f"{pool.name} is flattened by {reshape.name}" for pool, reshape in _pairs(graph)]


FLATTEN_POOLED = Rewrite("flatten_pooled", apply, ensures)
