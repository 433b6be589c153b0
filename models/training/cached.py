"""The head's own training: on features of the frozen backbone, kept on disk.

The backbone runs once for each image and view (`models.features`); an epoch then goes over
rows of a file. Epoch e takes view e modulo their number, the plain one first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from models.data.labelled import Item, LabelledSet
from models.features import Backbone, Features, differing, frozen_features, key_parts
from models.training import processes
from models.training.batches import Place, judged_here, sampler_of, shared
from models.training.judging import Goal
from models.training.library import torch
from models.training.progress import bar
from models.training.settings import TrainSettings
from models.training.task import Task
from models.views import View

FOLDER = ".features"
_EVALUATION_BATCH = 256
_WORDS = {
    "weights": "weights", "images": "images", "rule": "the rule for pictures",
    "view": "the augmentation", "seed": "the seed", "versions": "versions of the libraries",
    "architecture": "architecture", "options": "options", "dtype": "number format",
}  # fmt: skip
Say = Callable[[str], None]


class HeadTask(Task):
    """Trains the layers from the head on; batches are features instead of pictures.

    Args:
        net: the whole network, whose head learns in place.
        tail: its layers from the head on, sharing their parameters.
    """

    def __init__(
        self,
        net: nn.Module,
        tail: nn.Module,
        settings: TrainSettings,
        steps: int,
        goal: Goal | None = None,
    ) -> None:
        super().__init__(tail, settings, steps, goal=goal)
        whole = net.state_dict(keep_vars=True)
        names = {id(value): name for name, value in whole.items()}
        own = tail.state_dict(keep_vars=True)
        self._names = {name: names[id(value)] for name, value in own.items()}
        self._whole = (net,)  # in a tuple it is no part of this module, nor of its checkpoints

    def last_layers(self) -> tuple[str, ...]:
        layers = (nn.Linear, nn.Conv2d)
        return tuple(path for path, each in self.net.named_modules() if isinstance(each, layers))

    def mixed(self, pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As they are: pictures are mixed, features are not."""
        return pixels, targets

    def _normalized(self, pixels: Tensor) -> Tensor:
        return pixels

    def kept_state(self) -> Mapping[str, Tensor]:
        state = dict(self._whole[0].state_dict())
        own = super().kept_state()
        return state | {whole: own[name] for name, whole in self._names.items()}


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """Features and classes of training images, whole batches at a time.

    Args:
        views: of the same images in the same order.
        targets: `[images]` or `[images, classes]`.
    """

    def __init__(self, views: Sequence[Features], targets: Tensor) -> None:
        self._views = tuple(views)
        self._targets = targets

    def __len__(self) -> int:
        return len(self._targets)

    def __getitems__(self, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
        """Rows of epoch e come from its view; all places are of one epoch."""
        epoch, indices = places[0][0], [index for _, index in places]
        values = self._views[epoch % len(self._views)].values[indices]
        return torch.from_numpy(np.asarray(values, np.float32)), self._targets[indices]


def loaders(
    views: Sequence[Features],
    targets: Tensor,
    judging: Features,
    judging_targets: Tensor,
    settings: TrainSettings,
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Batches of float32 `[n, *shape]` with their targets, for training and validation."""
    batch = min(settings.batch_size, len(targets))
    learned, judged = Rows(views, targets), Rows([judging], judging_targets)
    return (
        DataLoader(
            learned,
            batch_size=processes.share_of(batch),
            sampler=shared(sampler_of(targets, settings), batch),
            drop_last=True,
            collate_fn=_as_is,
        ),
        DataLoader(
            judged,
            batch_size=_EVALUATION_BATCH,
            sampler=[(0, index) for index in judged_here(len(judging_targets))],
            collate_fn=_as_is,
        ),
    )


def compute(
    backbone: Backbone,
    sets: tuple[LabelledSet, LabelledSet],
    settings: TrainSettings,
    on_message: Say,
) -> tuple[list[Features], Features]:
    """The features of the training images in each view, and of the validation images.

    Says whether they were there, and why not where others are.

    Raises:
        ImageError: an image cannot be decoded.
        DataError: no room on the disk; nothing half written is left.
    """
    root = folder_of(settings)
    wanted = [(sets[0].items, view) for view in views_of(settings)] + [(sets[1].items, View())]
    lacking = _lacking(backbone, wanted, root, settings.seed)
    if lacking:
        on_message(
            f"The features kept in {root} are of other {' and '.join(lacking)}; computed anew."
        )
    started, made = time.perf_counter(), []
    total = sum(len(items) for items, _ in wanted)
    with bar(total, settings.progress) as shown:
        for items, view in wanted:
            one = partial(shown.advance, f"Features of the frozen backbone, view {view.number}")
            found = frozen_features(
                backbone, items, root, view=view, seed=settings.seed, number=backbone.number,
                on_image=one,
            )  # fmt: skip
            made.append(found)
            if found.known:
                for _ in items:
                    one()
    spent = time.perf_counter() - started
    whence = f"from {root}" if all(each.known for each in made) else f"in {spent:.0f} s"
    views = len(made) - 1
    on_message(
        f"features of the frozen backbone {whence}: {len(sets[0])} training images in "
        f"{views} view{'s' if views > 1 else ''}, {len(sets[1])} validation images"
    )
    return made[:-1], made[-1]


def folder_of(settings: TrainSettings) -> Path:
    """Where features are kept."""
    given = settings.techniques.stages.cache
    return Path(given) if given else Path(settings.out).resolve().parent / FOLDER


def views_of(settings: TrainSettings) -> list[View]:
    """How each training image is shown to the frozen backbone: plain, and as often as asked."""
    drawn = [
        View(number, settings.crop_scale, settings.jitter, settings.vertical_flip)
        for number in range(1, settings.techniques.stages.views + 1)
    ]
    return [View(), *drawn]


def _lacking(
    backbone: Backbone, wanted: Sequence[tuple[tuple[Item, ...], View]], root: Path, seed: int
) -> tuple[str, ...]:
    """In words, what the features that are kept are other in; none where nothing is to be said."""
    if not root.is_dir():
        return ()
    names: dict[str, None] = {}
    for items, view in wanted:
        parts = key_parts(backbone, items, view=view, seed=seed, number=backbone.number)
        names |= dict.fromkeys(differing(parts, root))
    return tuple(word for name, word in _WORDS.items() if name in names)


def _as_is(batch: Any) -> Any:
    return batch
