"""Choose among plans by what they do to the logits, simulated on a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Graph
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.simulate import Simulator

SAME_DB = 30.0  # float logits that differ less than this count as the same network's
_IMAGES = 16
Image = npt.NDArray[np.uint8]


def best_plan(
    graph: Graph, plans: Mapping[str, QuantizationPlan], images: Sequence[Image]
) -> tuple[str, dict[str, float]]:
    """The name of the plan whose logits are nearest to the float graph's; see `best_of`."""
    return best_of(graph, {name: (graph, plan) for name, plan in plans.items()}, images)


def best_of(
    graph: Graph,
    candidates: Mapping[str, tuple[Graph, QuantizationPlan]],
    images: Sequence[Image],
) -> tuple[str, dict[str, float]]:
    """The name of the candidate whose logits are nearest to the float graph's.

    Nearest is the largest signal-to-noise ratio, `10 log10(sum y^2 / sum (y' - y)^2)` in
    dB over all logits of the images; of equal ones the first.

    Args:
        graph: the float graph to be near to.
        candidates: at least one; a graph of the same shapes, and its plan.
        images: uint8 `[H, W, 3]`, at least one; the first 16 are used.

    Returns:
        The name, and the ratio of every candidate by name.
    """
    used = images[:_IMAGES]
    reference = _logits(Evaluator(graph, [graph.logits]), graph, used)
    ratios = {}
    for name, (own, plan) in candidates.items():
        found = _logits(Simulator(own, plan, [own.logits]), own, used)
        ratios[name] = _decibels(reference, found)
    return max(ratios, key=lambda name: ratios[name]), ratios


def logit_sqnr(graph: Graph, other: Graph, images: Sequence[Image]) -> float:
    """How near another float graph's logits are, in dB; at most 200."""
    used = images[:_IMAGES]
    reference = _logits(Evaluator(graph, [graph.logits]), graph, used)
    return _decibels(reference, _logits(Evaluator(other, [other.logits]), other, used))


def _decibels(reference: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> float:
    power, noise = float((reference**2).sum()), float(((found - reference) ** 2).sum())
    return min(float(10 * np.log10(max(power, 1e-30) / max(noise, 1e-30))), 200.0)


def _logits(
    runner: Evaluator | Simulator, graph: Graph, images: Sequence[Image]
) -> npt.NDArray[np.float64]:
    return np.stack([runner.run(image)[graph.logits] for image in images]).astype(np.float64)
