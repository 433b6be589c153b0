"""Order and augmentation follow from seed, epoch and picture, and from nothing else."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)

from models.training.batches import (  # noqa: E402 - needs lightning
    EpochSampler,
    augmentation,
    mixed_seed,
    training_loader,
    validation_loader,
)
from models.training.pictures import Pictures  # noqa: E402
from models.training.settings import TrainSettings  # noqa: E402

SETTINGS = TrainSettings(out=Path("nowhere"), options={"input_size": 32}, batch_size=4, seed=3)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    rng = np.random.default_rng(0)
    shapes = [(40, 40 + 3 * i) for i in range(10)]
    made = Pictures(shapes, 10**9, tmp_path)
    for index in range(len(shapes)):
        made[index][:] = rng.integers(0, 256, made[index].shape)
    return made


def epoch_of(pictures: Pictures, settings: TrainSettings, epoch: int) -> list[Any]:
    loader = training_loader(pictures, list(range(10)), settings)
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def test_an_epoch_is_the_same_whatever_happened_before(pictures: Pictures) -> None:
    first = epoch_of(pictures, SETTINGS, 5)
    torch.manual_seed(99)
    torch.rand(7)
    again = epoch_of(pictures, SETTINGS, 5)
    for (x, targets), (y, others) in zip(first, again, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(targets, others)


def test_workers_do_not_change_the_batches(pictures: Pictures) -> None:
    alone = epoch_of(pictures, SETTINGS, 1)
    helped = epoch_of(pictures, dataclasses.replace(SETTINGS, workers=2), 1)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(alone, helped, strict=True))


def test_epochs_and_seeds_differ(pictures: Pictures) -> None:
    def first(settings: TrainSettings, epoch: int) -> Any:
        return epoch_of(pictures, settings, epoch)[0][0]

    other = dataclasses.replace(SETTINGS, seed=4)
    assert not torch.equal(first(SETTINGS, 0), first(SETTINGS, 1))
    assert not torch.equal(first(SETTINGS, 0), first(other, 0))


def test_each_picture_once_an_epoch() -> None:
    sampler = EpochSampler(20, seed=1)
    sampler.set_epoch(4)
    places = list(sampler)
    assert {epoch for epoch, _ in places} == {4}
    order = [index for _, index in places]
    assert sorted(order) == list(range(20))
    assert order != list(range(20))


def test_seeds_do_not_collide() -> None:
    seeds = {mixed_seed(s, e, i) for s in range(3) for e in range(30) for i in range(100)}
    assert len(seeds) == 9000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_training_batches_are_uint8_and_whole(pictures: Pictures) -> None:
    batches = epoch_of(pictures, SETTINGS, 0)
    assert [len(targets) for _, targets in batches] == [4, 4], "the last two are left out"
    for pixels, _ in batches:
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (4, 3, SETTINGS.picture_size, SETTINGS.picture_size)
    few = epoch_of(pictures, dataclasses.replace(SETTINGS, batch_size=64), 0)
    assert [len(targets) for _, targets in few] == [10]


def test_augmentation_does_what_is_asked() -> None:
    torch.manual_seed(0)
    whole = {"crop_scale": (1.0, 1.0), "jitter": 0.0, "train_size": 40}
    settings = dataclasses.replace(SETTINGS, **whole)  # type: ignore[arg-type]
    picture = torch.zeros(3, 40, 40, dtype=torch.uint8)
    picture[:, :20, :10] = 200  # top left
    seen = {
        (int(out[0, 2, 2]) > 100, int(out[0, 2, -3]) > 100, int(out[0, -3, 2]) > 100)
        for out in (augmentation(settings)(picture) for _ in range(40))
    }
    assert seen == {(True, False, False), (False, True, False)}, "left to right only"
    turned = dataclasses.replace(settings, vertical_flip=True)
    assert any(int(augmentation(turned)(picture)[0, -3, 2]) > 100 for _ in range(40))
    dimmed = dataclasses.replace(settings, jitter=0.5)
    assert len({int(augmentation(dimmed)(picture).max()) for _ in range(10)}) > 3


def test_validation_batches_are_all_of_them_in_order(tmp_path: Path) -> None:
    squares = Pictures([(4, 5)] * 5, 10**9, tmp_path)
    for index in range(5):
        squares[index][:] = index * 10
        squares[index][0, 1, 2] = 7
    batches = list(validation_loader(squares, [0, 1, 2, 3, 4], 2))
    assert [len(targets) for _, targets in batches] == [2, 2, 1]
    pixels = torch.cat([x for x, _ in batches])
    assert pixels.shape == (5, 3, 4, 5)
    assert pixels[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert pixels[:, 2, 0, 1].tolist() == [7] * 5
