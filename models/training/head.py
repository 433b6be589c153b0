"""Train a head on features that a frozen backbone has made, see `models.features`.

The same loss, optimizer and schedule as `models.training.task`, and the same rule of
which epoch is kept; only that the pictures are gone through by their features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.features import Features
from models.losses import LDAM, make_loss
from models.training.even_rows import EvenRows
from models.training.settings import TrainingError
from models.training.techniques import LossChoice

_EVALUATION_BATCH = 256
_LAYERS = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained.

    Attributes:
        epochs: passes over the training images; epoch e takes view e modulo their number.
        batch_size: at most; never more than there are training images.
        learning_rate: peak of the one-cycle schedule, AdamW.
        weight_decay: AdamW's, on weights of two or more dimensions.
        loss: what is made small, one for a single class an image.
        warm_up: share of the steps in which the learning rate rises.
        seed: decides the order of the images; the head's first weights are the caller's.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    loss: LossChoice = field(default_factory=LossChoice)
    warm_up: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        epoch: whose weights the head has now, from 1.
        accuracy: top-1 on the validation images after that epoch, 0..1.
        loss: cross-entropy there.
        seconds: wall time.
    """

    epoch: int
    accuracy: float
    loss: float
    seconds: float


def train_head(
    tail: nn.Module,
    views: Sequence[Features],
    targets: Sequence[int],
    validation: Features,
    validation_targets: Sequence[int],
    settings: HeadSettings,
    on_epoch: Callable[[int, float], None] = lambda epoch, accuracy: None,
) -> Trained:
    """Train `tail` in place; it ends with the weights of its best epoch.

    The best epoch has the highest validation accuracy, of several the lowest loss.

    Args:
        tail: features to logits `[n, classes]`; see `models.zoo.Architecture.tail`.
        views: of the training images, all in the same order.
        targets: their classes.
        on_epoch: told the number of each finished epoch, from 1, and its accuracy.

    Raises:
        TrainingError: the loss is no longer finite, or is one for several classes an image.
    """
    started = time.perf_counter()
    classes = torch.tensor(list(targets))
    judged = torch.tensor(list(validation_targets))
    batch = min(settings.batch_size, len(classes))
    steps = len(classes) // batch
    optimizer, schedule = _optimizer(tail, settings, steps)
    last = [path for path, each in tail.named_modules() if isinstance(each, _LAYERS)]
    outputs = len(tail.get_parameter(f"{last[0]}.weight".lstrip(".")))
    counts = torch.bincount(classes, minlength=outputs).tolist()
    loss_of = make_loss(settings.loss, counts, multi_label=False, epochs=settings.epochs)
    rows = EvenRows(tail, last, settings.loss.scale) if isinstance(loss_of, LDAM) else None
    order = torch.Generator().manual_seed(settings.seed)

    def learn(epoch: int) -> None:
        values = views[epoch % len(views)].values
        tail.train()
        loss_of.set_epoch(epoch)
        places = torch.randperm(len(classes), generator=order)
        for step in range(steps):
            chosen = places[step * batch : (step + 1) * batch]
            loss = loss_of(tail(_rows(values, chosen.numpy())), classes[chosen])
            if not bool(torch.isfinite(loss)):
                raise _diverged(epoch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    best: tuple[float, float] | None = None
    kept: dict[str, Tensor] = {}
    kept_epoch = 0
    for epoch in range(settings.epochs):
        learn(epoch)
        accuracy, entropy = judge(tail, validation, judged)
        on_epoch(epoch + 1, accuracy)
        if best is None or (accuracy, -entropy) > best:
            best, kept_epoch = (accuracy, -entropy), epoch + 1
            kept = {name: value.clone() for name, value in tail.state_dict().items()}
    tail.load_state_dict(kept)
    if rows is not None:
        rows.finish()
    tail.eval()
    assert best is not None
    return Trained(kept_epoch, best[0], -best[1], time.perf_counter() - started)


def _diverged(epoch: int) -> TrainingError:
    return TrainingError(
        f"The training of the head diverged in epoch {epoch + 1}.",
        "the training loss is not finite",
        "take other weights, or leave this candidate out",
    )


def judge(tail: nn.Module, features: Features, targets: Tensor) -> tuple[float, float]:
    """Top-1 accuracy, 0..1, and mean cross-entropy of a tail on features."""
    tail.eval()
    correct, entropy = 0, 0.0
    with torch.inference_mode():
        for start in range(0, len(targets), _EVALUATION_BATCH):
            places = np.arange(start, min(start + _EVALUATION_BATCH, len(targets)))
            logits, wanted = tail(_rows(features.values, places)), targets[places]
            correct += int((logits.argmax(1) == wanted).sum())
            entropy += float(nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    return correct / len(targets), entropy / len(targets)


def _rows(values: Any, places: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values[places], dtype=np.float32))


def _optimizer(tail: nn.Module, settings: HeadSettings, steps: int) -> tuple[Any, Any]:
    parameters = list(tail.parameters())
    groups = [
        {
            "params": [p for p in parameters if (p.ndim > 1) is decayed],
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for decayed in (True, False)
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=settings.learning_rate,
        total_steps=max(1, steps * settings.epochs),
        pct_start=settings.warm_up,
        cycle_momentum=False,
    )
    return optimizer, schedule
