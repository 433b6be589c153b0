"""The same short training for every candidate: equal images, equal passes over them.

With published weights the backbone stays as it is: its features are computed once
(`models.features`) and a new head is trained on them. From nothing the whole network is
trained, by `models.finetune`, for as many passes. Both keep the epoch that is best on the
validation images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.cache import digest, versions
from exporter.choose.candidates import Candidate
from exporter.choose.photographs import Photographs
from exporter.choose.starts import Origin
from exporter.pipeline.request import Progress
from models import features
from models.training.settings import FROM_SCRATCH, NO_WEIGHTS, TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from models.features import Features

VIEWS = 2  # of each training image, for a head: the plain one and one drawn
RUN, HEAD = "run", "checkpoint.safetensors"
_BATCH, _SMALLEST_BATCH, _STEPS = 32, 8, 16  # few images: smaller batches, not fewer steps
_HEAD_RATE = 5e-3  # on flowers, 3e-3 to 1e-2 do alike; 1e-3 is not through in two epochs
# The peak rate from nothing where no batch norm holds the activations: SqueezeNet 1.1 at 96
# pixels on 270 flowers learns with it (50 % of five classes in 8 epochs), not with 1.5e-3.
_WITHOUT_NORM = 5e-4
_PACKAGES = ("torch", "torchvision", "lightning", "safetensors", "pillow")


@dataclass(frozen=True)
class Learned:
    """What training left behind.

    Attributes:
        checkpoint: `models.checkpoint.Checkpoint` on disk.
        seconds: wall time of features and training; features from the cache count with
            what they took when they were made.
    """

    checkpoint: Path
    seconds: float


def key_of(
    candidate: Candidate, origin: Origin, photographs: Photographs, epochs: int, seed: int
) -> str:
    """sha256 (hex) over all that decides what a candidate learns."""
    return digest(
        "learn", _source_hash(), candidate.architecture, dict(candidate.options), origin.sha256,
        photographs.identity, epochs, seed, VIEWS, versions(*_PACKAGES),
    )  # fmt: skip


def learn(
    candidate: Candidate,
    origin: Origin,
    photographs: Photographs,
    folder: Path,
    cache_folder: Path,
    epochs: int,
    seed: int,
    progress: Progress,
) -> Learned:
    """Train one candidate.

    Args:
        folder: the candidate's; what an earlier, interrupted run with the same key left
            there is gone on with.
        cache_folder: of the features.

    Raises:
        UserError: the training diverged, or the disk is full.
    """
    settings = TrainSettings(
        out=folder / RUN, architecture=candidate.architecture, options=dict(candidate.options),
        weights=NO_WEIGHTS if origin.path is None else str(origin.path), epochs=epochs, seed=seed,
        patience=epochs, name=candidate.slug, progress=False,
        batch_size=min(_BATCH, max(_SMALLEST_BATCH, len(photographs.train) // _STEPS)),
    )  # fmt: skip
    if origin.path is None:
        return _from_nothing(settings, photographs, progress)
    return _head_only(settings, origin, photographs, folder, cache_folder, progress)


def _from_nothing(settings: TrainSettings, photographs: Photographs, progress: Progress) -> Learned:
    from models import finetune
    from models.training.record import RunFolder

    run = RunFolder(settings.out)
    before = _seconds_in(run)
    settings = dataclasses.replace(
        settings,
        resume=run.description.is_file(),
        force=not run.description.is_file(),
        learning_rate=_rate(settings),
    )
    epochs = settings.recipe.epochs
    progress.start(f"training from nothing, {epochs} epochs", epochs)
    for _ in range(_epochs_in(run)):
        progress.advance()

    def told(text: str) -> None:
        if text.startswith("epoch "):
            progress.advance()

    started = time.perf_counter()
    checkpoint = finetune.train(settings, (photographs.train, photographs.validation), told)
    seconds = before + time.perf_counter() - started
    progress.done(_best_in_words(run))
    return Learned(checkpoint, seconds)


def _head_only(
    settings: TrainSettings,
    origin: Origin,
    photographs: Photographs,
    folder: Path,
    cache_folder: Path,
    progress: Progress,
) -> Learned:
    from models.checkpoint import Checkpoint, save_checkpoint
    from models.classifier import Classifier
    from models.contract import Contract, Label
    from models.training.head import HeadSettings, train_head
    from models.training.start import starting_network

    started = time.perf_counter()
    labels = tuple(Label(name) for name in photographs.train.classes)
    net = starting_network(settings, labels, lambda text: None)
    contract = Contract(labels, settings.preprocessing, name=settings.name or "")
    backbone = features.Backbone(
        settings.architecture, dict(settings.options), Classifier(net, contract)
    )
    spent = time.perf_counter() - started
    made = _all_features(backbone, photographs, cache_folder, settings.seed, progress)
    epochs = settings.recipe.epochs
    progress.start(f"training the head, {epochs} epochs", epochs)
    targets = [
        [item.class_index for item in part.items]
        for part in (photographs.train, photographs.validation)
    ]
    trained = train_head(
        backbone.tail, made[1:], targets[0], made[0], targets[1],
        HeadSettings(
            epochs, settings.batch_size, _HEAD_RATE, settings.decay,
            settings.techniques.loss, settings.warm_up, settings.seed,
        ),
        lambda epoch, accuracy: progress.advance(),
    )  # fmt: skip
    notes = {
        "frozen_backbone": {
            "weights": origin.name,
            "sha256": origin.sha256,
            "epoch": trained.epoch,
            "epochs": epochs,
            "validation_accuracy": round(trained.accuracy, 5),
        }
    }
    checkpoint = Checkpoint(
        settings.architecture, settings.options, net.state_dict(), contract, notes
    )
    save_checkpoint(checkpoint, folder / HEAD)
    progress.done(f"validation accuracy {trained.accuracy:.2%}")
    return Learned(folder / HEAD, spent + trained.seconds + sum(each.seconds for each in made))


def _all_features(
    backbone: features.Backbone,
    photographs: Photographs,
    root: Path,
    seed: int,
    progress: Progress,
) -> list[Features]:
    """Of the validation images, then of the training images in each view."""
    wanted = [(photographs.validation.items, 0)]
    wanted += [(photographs.train.items, number) for number in range(VIEWS)]
    progress.start("features of the frozen backbone", sum(len(items) for items, _ in wanted))
    made = []
    for items, view in wanted:
        found = features.frozen_features(
            backbone, items, root, view=features.View(view), seed=seed, number=backbone.number,
            on_image=progress.advance,
        )  # fmt: skip
        made.append(found)
        if found.known:
            for _ in items:
                progress.advance()
    progress.done("from the cache" if all(each.known for each in made) else "")
    return made


def _rate(settings: TrainSettings) -> float:
    """The peak learning rate of a network that is trained from nothing."""
    import torch

    from models import zoo

    with torch.device("meta"):
        net = zoo.get(settings.architecture).create(2, settings.options)
    return FROM_SCRATCH.learning_rate if _has_batch_norm(net) else _WITHOUT_NORM


def _has_batch_norm(net: nn.Module) -> bool:
    from torch.nn import BatchNorm2d

    return any(isinstance(module, BatchNorm2d) for module in net.modules())


def _history(run: Any) -> dict[str, Any]:
    try:
        found = json.loads(run.history.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _epochs_in(run: Any) -> int:
    return len(_history(run).get("epochs", []))


def _seconds_in(run: Any) -> float:
    """What the epochs took that an interrupted run has finished."""
    return sum(float(row.get("seconds", 0.0)) for row in _history(run).get("epochs", []))


def _best_in_words(run: Any) -> str:
    best = _history(run).get("best") or {}
    accuracy = best.get("validation_accuracy")
    return "" if accuracy is None else f"validation accuracy {accuracy:.2%}"


@cache
def _source_hash() -> str:
    """A hash over the source of what trains: a change elsewhere does not train anew."""
    import models

    root = Path(str(models.__file__)).parent
    total = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(root.rglob("*.py")):
        total.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()
