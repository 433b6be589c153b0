"""What a quantization-aware run needs besides the network: pictures for its ranges, and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.contract import Preprocessing
from models.data.folder import FolderSet
from models.images import content_hash
from models.training.library import torch
from models.training.pictures import decode_squares
from models.training.task import Task

MEASURED = 64  # training pictures that the ranges come from


def calibration_pictures(train: FolderSet, rule: Preprocessing, folder: Path) -> Tensor:
    """Some training pictures as the model takes them, uint8 `[n, 3, height, width]`.

    Those whose content hashes lowest: as good as random, the same in each run.

    Raises:
        DataError: images that cannot be decoded.
    """
    items = sorted(train.items, key=lambda item: (item.digest, item.path.name))[:MEASURED]
    found = decode_squares([item.path for item in items], rule, 2**62, folder)
    pictures = [torch.from_numpy(found[index].copy()) for index in range(len(found))]
    return torch.stack(pictures).permute(0, 3, 1, 2).contiguous()


def origin(weights: str) -> dict[str, Any]:
    """What a checkpoint says about how it was trained."""
    path = Path(weights)
    return {"quantization_aware": {"from": {"name": path.name, "sha256": content_hash(path)}}}


def judged(task: Task, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """Accuracy and cross-entropy of a task's network in float and as int8, five digits each.

    The ranges are measured first; afterwards the task is in the mode it was in.
    """
    assert task.aware is not None
    task.measure_ranges()
    was_training = task.training
    task.eval()
    listed = list(batches)
    try:
        with torch.no_grad():
            rounded = _figures(task, listed)
            with task.aware.as_float():
                exact = _figures(task, listed)
    finally:
        task.train(was_training)
    return {"float": exact, "int8": rounded}


def in_words(when: str, figures: dict[str, dict[str, float]]) -> str:
    """One line for the terminal."""
    exact, rounded = figures["float"]["accuracy"], figures["int8"]["accuracy"]
    return f"{when}: validation accuracy {exact:.2%} in float, {rounded:.2%} as int8"


def _figures(
    run: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    correct = count = 0
    entropy = 0.0
    for pixels, targets in batches:
        logits = run(pixels)
        correct += int((logits.argmax(1) == targets).sum())
        entropy += float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
        count += len(targets)
    return {"accuracy": round(correct / count, 5), "loss": round(entropy / count, 5)}
