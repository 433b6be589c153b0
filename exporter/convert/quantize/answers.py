"""Whether two networks give the same answers, as far as logits alone can say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Graph, Sigmoid


def gives_several(graph: Graph) -> bool:
    """Whether each class stands for itself: the network ends in a sigmoid."""
    return isinstance(graph.producer(graph.output), Sigmoid)


def same_answers(
    reference: npt.NDArray[Any], found: npt.NDArray[Any], several: bool
) -> npt.NDArray[np.bool_]:
    """For each image, whether the answer is the same.

    Args:
        reference, found: logits `[images, classes]`.
        several: the same set of positive logits, which is probabilities of 0.5 and more (the
            thresholds of the contract are not known here); else the same largest logit.

    Returns:
        bool `[images]`.
    """
    if several:
        same: npt.NDArray[np.bool_] = ((reference >= 0) == (found >= 0)).all(axis=1)
        return same
    first: npt.NDArray[np.bool_] = found.argmax(axis=1) == reference.argmax(axis=1)
    return first
