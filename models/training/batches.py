"""Batches for training and validation, the same ones whenever the seed is the same.

Which pictures come in which order and how each is augmented follows from the seed,
the epoch and the picture alone: not from the number of workers, nor from what
happened before. A run that is resumed therefore sees what it would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from models.data.labelled import LabelledSet
from models.training import processes
from models.training.library import torch
from models.training.pictures import Pictures
from models.training.sampling import balanced_order
from models.training.settings import TrainingError, TrainSettings

Place = tuple[int, int]  # epoch, index of the picture


def mixed_seed(*parts: int) -> int:
    """63 bits that depend on every part."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class EpochSampler(Sampler[Place]):
    """Each picture once an epoch, in an order drawn from seed and epoch.

    Lightning calls `set_epoch` before each epoch, also when it resumes.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Place]:
        for index in self.order(mixed_seed(self._seed, self.epoch)):
            yield self.epoch, index

    def order(self, seed: int) -> list[int]:
        """The pictures of an epoch, as many as there are, by a seed that is the epoch's."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(self._count, generator=generator).tolist()


class BalancedSampler(EpochSampler):
    """Each class equally often, see `models.training.sampling`; as many pictures an epoch."""

    def __init__(self, labels: Sequence[Sequence[int]], seed: int) -> None:
        super().__init__(len(labels), seed)
        self._labels = labels

    def order(self, seed: int) -> list[int]:
        return balanced_order(self._labels, seed)


def sampler_of(targets: Sequence[int] | Tensor, settings: TrainSettings) -> EpochSampler:
    """Which pictures an epoch goes through, in which order.

    Args:
        targets: integers `[images]`, or 0 and 1 `[images, classes]`.
    """
    if not settings.techniques.mixing.balanced_sampling:
        return EpochSampler(len(targets), settings.seed)
    found = torch.as_tensor(targets)
    rows = found[:, None] if found.ndim == 1 else [row.nonzero()[:, 0] for row in found]
    return BalancedSampler([row.tolist() for row in rows], settings.seed)


class Share(Sampler[Place]):
    """This process's places of an order: of each batch that one process would take, an equal part.

    Args:
        order: of all; its incomplete last batch is left out.
        batch: pictures of all processes together.
    """

    def __init__(self, order: EpochSampler, batch: int, rank: int, count: int) -> None:
        self._order = order
        self._batch = batch
        self._part = batch // count
        self._begin = rank * self._part

    def set_epoch(self, epoch: int) -> None:
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._order) // self._batch * self._part

    def __iter__(self) -> Iterator[Place]:
        places = list(self._order)
        for start in range(0, len(places) - self._batch + 1, self._batch):
            begin = start + self._begin
            yield from places[begin : begin + self._part]


def shared(order: EpochSampler, batch: int) -> EpochSampler | Share:
    """An order, or this process's share of it where there are others."""
    here = processes.place()
    return order if here.count == 1 else Share(order, batch, here.rank, here.count)


def judged_here(count: int) -> range:
    """The validation images, from 0, that this process judges; all together judge each once.

    Raises:
        TrainingError: there are more processes than images.
    """
    here = processes.place()
    if count < here.count:
        raise TrainingError(
            f"{count} validation image(s) for {here.count} processes.",
            "each judges some of them",
            "give more validation images, or fewer --devices",
        )
    return range(here.rank, count, here.count)


class Augmented(Dataset[tuple[Tensor, int | Tensor]]):
    """Training pictures, uint8 `[3, size, size]`, and their classes."""

    def __init__(
        self,
        pictures: Pictures,
        targets: Sequence[int] | Tensor,
        augment: Callable[[Tensor], Tensor],
        seed: int,
    ) -> None:
        self._pictures = pictures
        self._targets = tuple(targets)
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, place: Place) -> tuple[Tensor, int | Tensor]:
        epoch, index = place
        # torchvision's transforms draw from the global generator. Each training step
        # seeds it anew before the network draws from it.
        torch.default_generator.manual_seed(mixed_seed(self._seed, epoch, index))
        picture = torch.from_numpy(self._pictures[index]).permute(2, 0, 1)
        return self._augment(picture), self._targets[index]


class Plain(Dataset[tuple[Tensor, int | Tensor]]):
    """Validation pictures as the model takes them, uint8 `[3, height, width]`."""

    def __init__(self, pictures: Pictures, targets: Sequence[int] | Tensor) -> None:
        self._pictures = pictures
        self._targets = tuple(targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        return torch.from_numpy(self._pictures[index]).permute(2, 0, 1), self._targets[index]


def targets_of(part: LabelledSet) -> Tensor:
    """What the answers are compared with.

    Returns:
        int64 `[images]`, the class of each; of a multi-label set float32
        `[images, classes]`, 1 for each class that an image has.
    """
    if not part.multi_label:
        return torch.tensor([item.class_index for item in part.items])
    targets = torch.zeros(len(part.items), len(part.classes))
    for row, item in enumerate(part.items):
        targets[row, list(item.labels)] = 1.0
    return targets


def augmentation(settings: TrainSettings) -> Callable[[Tensor], Tensor]:
    """torchvision's transforms from a whole uint8 picture to a training picture."""
    from torchvision.transforms import v2

    size, jitter = settings.picture_size, settings.jitter
    steps: list[torch.nn.Module] = [
        v2.RandomResizedCrop(size, scale=settings.crop_scale, antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if settings.vertical_flip:
        steps.append(v2.RandomVerticalFlip())
    mixing = settings.techniques.mixing
    if mixing.randaugment:  # colours and contrast among its operations, hue is not
        middle = [128, 128, 128]  # beyond the edges of a turned picture: next to zero
        steps.append(
            v2.RandAugment(
                mixing.randaugment,
                mixing.magnitude,
                interpolation=v2.InterpolationMode.BILINEAR,
                fill=middle,
            )
        )
    elif jitter > 0:  # no hue: colour tells species apart
        steps.append(v2.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter))
    return v2.Compose(steps)


def training_loader(
    pictures: Pictures, targets: Sequence[int] | Tensor, settings: TrainSettings
) -> DataLoader[tuple[Tensor, int | Tensor]]:
    """Batches of uint8 `[n, 3, size, size]`; the incomplete last batch is left out.

    Of several processes each gets its share of every batch.
    """
    batch = min(settings.batch_size, len(targets))
    return DataLoader(
        Augmented(pictures, targets, augmentation(settings), settings.seed),
        batch_size=processes.share_of(batch),
        sampler=shared(sampler_of(targets, settings), batch),
        drop_last=True,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        generator=torch.Generator().manual_seed(settings.seed),
    )


def validation_loader(
    pictures: Pictures, targets: Sequence[int] | Tensor, batch_size: int
) -> DataLoader[tuple[Tensor, int | Tensor]]:
    """Batches of uint8 `[n, 3, height, width]` in order, all of them, or this process's share."""
    return DataLoader(
        Plain(pictures, targets),
        batch_size=batch_size,
        sampler=judged_here(len(targets)),
        generator=torch.Generator().manual_seed(0),
    )
