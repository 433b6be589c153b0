"""What a checkpoint answers on labelled images, read as every artifact reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models import images
from models.checkpoint import build, load_checkpoint
from models.data.labelled import LabelledSet
from models.metrics import multi_label_scores, single_label_scores
from models.thresholds import UNTUNED

EVALUATION_BATCH = 32


def measure(checkpoint: Path, test_set: LabelledSet) -> float:
    """Top-1 accuracy of a checkpoint, see `measure_all`."""
    return measure_all(checkpoint, test_set)["accuracy"]


def measure_all(checkpoint: Path, test_set: LabelledSet) -> dict[str, float]:
    """How good a checkpoint's answers are, on images read as every artifact reads them.

    Args:
        test_set: its classes are in the order of the checkpoint's labels.

    Returns:
        'accuracy' (top-1) and 'macro_f1'; of a multi-label set 'map' and 'macro_f1', a class
        being there from the contract's threshold on, 0.5 where it has none.
    """
    import torch

    from models.classifier import Classifier

    found = load_checkpoint(checkpoint)
    classifier = Classifier(build(found), found.contract).eval()
    answers = []
    with torch.inference_mode():
        rule, paths = found.contract.preprocessing, [item.path for item in test_set.items]
        for pixels in images.load_batches(paths, rule, EVALUATION_BATCH):
            answers.append(classifier(torch.from_numpy(pixels)))
    probabilities = torch.cat(answers).numpy()
    if not test_set.multi_label:
        truth = [item.class_index for item in test_set.items]
        scores = single_label_scores(probabilities, truth)
        return {"accuracy": scores.accuracy, "macro_f1": scores.macro.f1}
    several = np.zeros(probabilities.shape, np.int64)
    for row, item in enumerate(test_set.items):
        several[row, list(item.labels)] = 1
    thresholds = found.contract.thresholds or UNTUNED
    scores = multi_label_scores(probabilities, several, thresholds)
    return {"map": scores.mean_average_precision or 0.0, "macro_f1": scores.macro.f1}


def test_line(found: Mapping[str, float]) -> str:
    """One line for the terminal."""
    if "accuracy" in found:
        return f"test accuracy {found['accuracy']:.2%}, macro F1 {found['macro_f1']:.4f}"
    return f"test mAP {found['map']:.4f}, macro F1 {found['macro_f1']:.4f}"
