"""What is fitted on the validation images when the weights are settled.

A temperature, by which logits are divided so that probabilities say how often the answer
is right (Guo et al. 2017, arXiv:1706.04599, section 4.2), and, where an image may have
several classes, a threshold for each class. Both stand in the checkpoint beside weights
that stay as they were trained, so that doing it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.calibration import activate, cross_validated, fit
from models.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint
from models.data.labelled import LabelledSet
from models.images import load_batches
from models.thresholds import tune_thresholds
from models.training.measuring import EVALUATION_BATCH

Say = Callable[[str], None]


def calibrate(
    path: Path, validation: LabelledSet, on_message: Say, temperature: bool = True
) -> dict[str, Any]:
    """Fit the temperature and the thresholds of a checkpoint, and store them in it.

    Args:
        path: the checkpoint; replaced.
        validation: its classes are in the order of the checkpoint's labels.
        temperature: whether to fit one; else it is 1.

    Returns:
        For the run's history: 'temperature', and 'thresholds' of a multi-label set.
    """
    found = load_checkpoint(path)
    activation, multi_label = found.contract.activation, validation.multi_label
    if not (temperature or multi_label):
        return {}
    logits, targets = _answers(replace(found, temperature=1.0), validation)
    fitted: dict[str, Any] = {}
    value = 1.0
    if temperature:
        result = fit(logits, targets, activation)
        value = fitted["temperature"] = round(result.temperature, 6)
        on_message(f"temperature {value:.3f}" + _gain(logits, targets, activation, result.note))
    contract = found.contract
    if multi_label:
        tuned = tune_thresholds(activate(logits, activation, value), targets)
        fitted["thresholds"] = [round(each, 6) for each in tuned]
        contract = replace(contract, thresholds=tuple(fitted["thresholds"]))
        low, high = min(tuned), max(tuned)
        on_message(f"thresholds of best F1 for {len(tuned)} classes, {low:.2f} to {high:.2f}")
    save_checkpoint(replace(found, contract=contract, temperature=value), path)
    return fitted


def _gain(logits: Any, targets: Any, activation: Any, note: str) -> str:
    """What the temperature is good for, measured on images that it was not fitted on."""
    if note:
        return f" ({note})"
    crossed = cross_validated(logits, targets, activation)
    if crossed is None:
        return ""
    return (
        f": calibration error {crossed.before:.1%} -> {crossed.after:.1%} on the halves of the "
        "validation images that it was not fitted on"
    )


def _answers(checkpoint: Checkpoint, part: LabelledSet) -> tuple[Any, Any]:
    """Logits `[images, classes]` and targets, both NumPy."""
    import torch

    from models.classifier import Classifier
    from models.training.batches import targets_of

    classifier = Classifier(build(checkpoint), checkpoint.contract).eval()
    paths = [item.path for item in part.items]
    rows = []
    with torch.inference_mode():
        for pixels in load_batches(paths, checkpoint.contract.preprocessing, EVALUATION_BATCH):
            rows.append(classifier.logits(torch.from_numpy(pixels)))
    return torch.cat(rows).numpy(), targets_of(part).numpy()
