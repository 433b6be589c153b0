"""Beyond which values a tensor's readers cannot tell one from another.

A hard-swish makes zero of everything below -3, a ReLU of everything below 0: levels spent on
such values are lost to the others. So a range never reaches further, whatever the rule.

    x in [-12, 5] -> HardSwish        range [-3, 5]: half the step, the same answers
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from exporter.convert.graph import (
    Concat,
    Graph,
    HardSigmoid,
    HardSwish,
    MaxPool,
    Node,
    Pad,
    Relu,
    Relu6,
    Reshape,
    Sigmoid,
    Silu,
)

Bounds = tuple[float, float]
ALL: Bounds = (-math.inf, math.inf)
# int8 LOGISTIC gives 0 or 255 of 256 beyond it: half a step of 1/256 is left
_SATURATED = math.log(511.0)
_READ: dict[type[Node], Bounds] = {
    Relu: (0.0, math.inf),
    Relu6: (0.0, 6.0),
    HardSwish: (-3.0, math.inf),
    HardSigmoid: (-3.0, 3.0),
    Silu: (-_SATURATED, math.inf),
    Sigmoid: (-_SATURATED, _SATURATED),
}
_MOVES = MaxPool | Pad | Reshape | Concat  # largest values and copies: clipping before is after


def useful_bounds(graph: Graph, tensors: Iterable[str]) -> Bounds:
    """The least and the largest value that matter in tensors that share a range.

    Returns:
        `low <= 0 <= high`; infinite where a reader uses every value, or one is an output.
    """
    shared = set(tensors)
    low, high = 0.0, 0.0
    for name in shared:
        readers = graph.consumers(name)
        if name in (graph.logits, graph.output) or not readers:
            return ALL
        for node in readers:
            if node.output in shared and isinstance(node, _MOVES):
                continue
            least, most = _READ.get(type(node), ALL)
            low, high = min(low, least), max(high, most)
    return low, high
