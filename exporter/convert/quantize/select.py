"""Choose among plans by what they do to the logits, simulated on a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Graph
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.simulate import Simulator

_IMAGES = 16


def best_plan(
    graph: Graph, plans: Mapping[str, QuantizationPlan], images: Sequence[npt.NDArray[np.uint8]]
) -> tuple[str, dict[str, float]]:
    """The name of the plan whose logits are nearest to the float graph's.

    Nearest is the largest signal-to-noise ratio, `10 log10(sum y^2 / sum (y' - y)^2)` in
    dB over all logits of the images; of equal ones the first.

    Args:
        graph: what the plans were made for.
        plans: at least one.
        images: uint8 `[H, W, 3]`, at least one; the first 16 are used.

    Returns:
        The name, and the ratio of every plan by name.
    """
    used = images[:_IMAGES]
    reference = _logits(Evaluator(graph, [graph.logits]), graph, used)
    power = float((reference**2).sum())
    ratios = {}
    for name, plan in plans.items():
        error = _logits(Simulator(graph, plan, [graph.logits]), graph, used) - reference
        noise = float((error**2).sum())
        ratios[name] = float(10 * np.log10(max(power, 1e-30) / max(noise, 1e-30)))
    return max(ratios, key=lambda name: ratios[name]), ratios


def _logits(
    runner: Evaluator | Simulator, graph: Graph, images: Sequence[npt.NDArray[np.uint8]]
) -> npt.NDArray[np.float64]:
    return np.stack([runner.run(image)[graph.logits] for image in images]).astype(np.float64)
