"""Move a padding with zeros into the window operator behind it.

    before: x -> Pad(0, p) -> Conv(padding q)                    after: x -> Conv(padding p + q)
    before: x -> Pad(0, p) -> AveragePool(q, include_padding)    after: x -> AveragePool(p + q, ...)

Requires: nothing. Ensures: no Pad with zeros is read by Convs alone, or by average
pools alone that can take it; outputs do not move.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.convert.graph import AveragePool, Conv, Graph, Node, Pad, Padding
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, rebuild


def apply(graph: Graph) -> Outcome:
    """Merge every padding that all its readers can take."""
    changed = False
    while found := _first(graph):
        pad, merged = found
        source = pad.inputs[0]
        moved: dict[str, Node | None] = {
            node.name: replace(node, inputs=(source,)) for node in merged
        }
        graph = rebuild(graph, {pad.name: None, **moved})
        changed = True
    return graph, changed


def _first(graph: Graph) -> tuple[Pad, list[Node]] | None:
    uses = Uses(graph)
    for pad in graph.nodes:
        if not isinstance(pad, Pad) or pad.value != 0.0 or pad.output == graph.output:
            continue
        readers = uses.readers[pad.output]
        merged = [_with(node, pad.padding) for node in readers]
        if readers and all(merged):
            return pad, [node for node in merged if node is not None]
    return None


def _with(node: Node, extra: Padding) -> Node | None:
    if not isinstance(node, Conv | AveragePool):
        return None
    top, left, bottom, right = (a + b for a, b in zip(node.padding, extra, strict=True))
    padding = (top, left, bottom, right)
    if isinstance(node, Conv):
        return replace(node, padding=padding)
    counted = node.include_padding or not any(node.padding)
    height, width = node.kernel
    if not counted or max(top, bottom) >= height or max(left, right) >= width:
        return None
    return replace(node, padding=padding, include_padding=True)


def ensures(graph: Graph) -> list[str]:
    """No padding is left that could be merged."""
    found = _first(graph)
    return [f"{found[0].name} could be merged"] if found else []


MERGE_PAD = Rewrite("merge_pad", apply, ensures)
