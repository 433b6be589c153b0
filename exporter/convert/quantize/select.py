"""Choose among plans by what they do to the logits, simulated on a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Graph, GraphError
from exporter.convert.quantize.exact import ExactSimulator
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.simulate import Simulator

SAME_DB = 30.0  # float logits that differ less than this count as the same network's
_IMAGES = 16
Image = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float64]


class FloatLogits:
    """The logits that all candidates are compared with: computed once, when first needed.

    Args:
        graph: in float, as it was given.
        images: uint8 `[H, W, 3]`, at least one; the first 16 are used.
    """

    def __init__(self, graph: Graph, images: Sequence[Image]) -> None:
        self.images = tuple(images[:_IMAGES])
        self._graph = graph

    @cached_property
    def values(self) -> Logits:
        """Float64 `[images, 1, classes]`."""
        return _logits(Evaluator(self._graph, [self._graph.logits]), self._graph, self.images)


def best_of(
    reference: FloatLogits, candidates: Mapping[str, tuple[Graph, QuantizationPlan]]
) -> tuple[str, dict[str, float]]:
    """The name of the candidate whose logits are nearest to the float graph's.

    Nearest is the largest signal-to-noise ratio, `10 log10(sum y^2 / sum (y' - y)^2)` in
    dB over all logits of the images; of equal ones the first.

    Args:
        reference: what to be near to.
        candidates: at least one; a graph of the same shapes, and its plan.

    Returns:
        The name, and the ratio of every candidate by name.
    """
    ratios = {}
    for name, (own, plan) in candidates.items():
        found = _logits(_simulator(own, plan), own, reference.images)
        ratios[name] = decibels(reference.values, found)
    return max(ratios, key=lambda name: ratios[name]), ratios


def _simulator(graph: Graph, plan: QuantizationPlan) -> Simulator | ExactSimulator:
    """LiteRT's integers; in float where an operator or a scale has no exact form."""
    try:
        return ExactSimulator(graph, plan, [graph.logits])
    except GraphError:
        return Simulator(graph, plan, [graph.logits])


def logit_sqnr(reference: FloatLogits, other: Graph) -> float:
    """How near another float graph's logits are, in dB; at most 200."""
    found = _logits(Evaluator(other, [other.logits]), other, reference.images)
    return decibels(reference.values, found)


def decibels(reference: Logits, found: Logits) -> float:
    """The signal-to-noise ratio of logits, in dB; at most 200."""
    power, noise = float((reference**2).sum()), float(((found - reference) ** 2).sum())
    return min(float(10 * np.log10(max(power, 1e-30) / max(noise, 1e-30))), 200.0)


def _logits(
    runner: Evaluator | Simulator | ExactSimulator, graph: Graph, images: Sequence[Image]
) -> Logits:
    return np.stack([runner.run(image)[graph.logits] for image in images]).astype(np.float64)
