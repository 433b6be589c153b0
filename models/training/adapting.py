"""What a quantization-aware run needs besides the network: pictures for its ranges, and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.checkpoint import load_checkpoint
from models.contract import Contract, Preprocessing
from models.data.labelled import LabelledSet
from models.images import content_hash
from models.training.keeper import Keeper
from models.training.library import torch
from models.training.pictures import decode_squares
from models.training.task import Task

MEASURED = 64  # training pictures that the ranges come from


def calibration_pictures(train: LabelledSet, rule: Preprocessing, folder: Path) -> Tensor:
    """Some training pictures as the model takes them, uint8 `[n, 3, height, width]`.

    Those whose content hashes lowest: as good as random, the same in each run.

    Raises:
        DataError: images that cannot be decoded.
    """
    items = sorted(train.items, key=lambda item: (item.digest, item.path.name))[:MEASURED]
    found = decode_squares([item.path for item in items], rule, 2**62, folder)
    pictures = [torch.from_numpy(found[index].copy()) for index in range(len(found))]
    return torch.stack(pictures).permute(0, 3, 1, 2).contiguous()


def inherited(weights: str, contract: Contract) -> tuple[Contract, dict[str, Any]]:
    """What a run keeps of the checkpoint it goes on from, and what it notes about it.

    Args:
        weights: path of the checkpoint.
        contract: of the run; it gets the checkpoint's threshold.

    Raises:
        CheckpointError: the file cannot be used.
    """
    path = Path(weights)
    threshold = load_checkpoint(path).contract.not_sure_threshold
    source = {"name": path.name, "sha256": content_hash(path)}
    return replace(contract, not_sure_threshold=threshold), {"quantization_aware": {"from": source}}


class Adaptation:
    """Of a run that goes on with int8's rounding: its figures before and after.

    Args:
        pictures: that the ranges come from, see `calibration_pictures`.
    """

    def __init__(self, pictures: Tensor, on_message: Callable[[str], None]) -> None:
        self.pictures = pictures
        self.figures: dict[str, dict[str, dict[str, float]]] = {}
        self._say = on_message

    def before(
        self, task: Task, batches: Iterable[tuple[Tensor, Tensor]], keeper: Keeper, anew: bool
    ) -> None:
        """Judge what the run begins with; where it begins `anew`, that is the best so far."""
        found = self.figures["before"] = judged(task, batches)
        self._say(in_words("before", found))
        if anew:
            keeper.begin_with(task, found["int8"]["accuracy"], found["int8"]["loss"])

    def after(self, task: Task, batches: Iterable[tuple[Tensor, Tensor]], keeper: Keeper) -> None:
        """Judge the weights that were kept."""
        task.net.load_state_dict(dict(load_checkpoint(keeper.folder.checkpoint).state))
        found = self.figures["after"] = judged(task, batches)
        self._say(in_words("after", found, keeper.best))


def judged(task: Task, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """Accuracy and cross-entropy of a task's network in float and as int8, five digits each.

    The ranges are measured first; afterwards the task is in the mode it was in.

    Args:
        batches: pictures and classes, the same each time they are gone through.
    """
    assert task.aware is not None
    task.measure_ranges()
    was_training = task.training
    task.eval()
    try:
        with torch.no_grad():
            rounded = _figures(task, batches)
            with task.aware.as_float():
                exact = _figures(task, batches)
    finally:
        task.train(was_training)
    return {"float": exact, "int8": rounded}


def in_words(
    when: str, figures: dict[str, dict[str, float]], best: Mapping[str, Any] | None = None
) -> str:
    """One line for the terminal.

    Args:
        best: the row of the epoch whose weights were kept; 0 is the beginning.
    """
    exact, rounded = figures["float"]["accuracy"], figures["int8"]["accuracy"]
    text = f"{when}: validation accuracy {exact:.2%} in float, {rounded:.2%} as int8"
    if best is not None and best["epoch"] == 0:
        text += "; no epoch was better, so the weights are those it began with"
    return text


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
