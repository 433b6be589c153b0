"""A head learns on features, and ends with the weights of its best epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.training.settings import TrainingError

torch = pytest.importorskip("torch", reason="the head is a torch module")

from models.features import Features  # noqa: E402
from models.training.head import HeadSettings, judge, train_head  # noqa: E402
from models.training.techniques import LossChoice  # noqa: E402

CLASSES, WIDTH = 3, 12


def features_of(values: Any) -> Features:
    return Features(np.asarray(values, np.float32), Path("nowhere"), 0.0, known=True)


def sample(count: int, seed: int) -> tuple[Features, list[int]]:
    """Points around three centres, which a linear layer can tell apart."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(0, 2, (CLASSES, WIDTH))
    targets = [place % CLASSES for place in range(count)]
    return features_of(centres[targets] + rng.normal(0, 1, (count, WIDTH))), targets


def fresh() -> torch.nn.Linear:
    torch.manual_seed(3)
    return torch.nn.Linear(WIDTH, CLASSES)


def test_a_head_learns_what_can_be_told_apart() -> None:
    train, targets = sample(120, 0)
    held, judged = sample(60, 1)
    tail = fresh()
    before, _ = judge(tail, held, torch.tensor(judged))
    seen: list[tuple[int, float]] = []
    found = train_head(tail, [train], targets, held, judged, HeadSettings(8, learning_rate=0.03),
                       lambda epoch, accuracy: seen.append((epoch, accuracy)))  # fmt: skip
    after, loss = judge(tail, held, torch.tensor(judged))
    assert before < 0.8 < 0.95 < after
    assert (found.accuracy, found.loss) == pytest.approx((after, loss))
    assert [epoch for epoch, _ in seen] == list(range(1, 9))
    assert dict(seen)[found.epoch] == found.accuracy == max(accuracy for _, accuracy in seen)


def test_the_best_epoch_is_kept_not_the_last() -> None:
    """The second view has its labels moved by one, so that every other epoch unlearns."""
    train, targets = sample(120, 0)
    held, judged = sample(60, 1)
    order = np.argsort(targets, kind="stable")
    moved = np.array(train.values)
    moved[order] = np.roll(train.values[order], len(targets) // CLASSES, axis=0)
    tail = fresh()
    seen: list[float] = []
    found = train_head(
        tail, [train, features_of(moved)], targets, held, judged,
        HeadSettings(4, learning_rate=0.1), lambda epoch, accuracy: seen.append(accuracy),
    )  # fmt: skip
    assert seen[found.epoch - 1] == max(seen) > seen[-1]
    assert judge(tail, held, torch.tensor(judged))[0] == max(seen)


def test_the_seed_decides_the_order() -> None:
    train, targets = sample(60, 0)
    results = []
    for seed in (0, 0, 1):
        tail = fresh()
        train_head(tail, [train], targets, train, targets, HeadSettings(2, 8, seed=seed))
        results.append(tail.weight.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_two_images_in_one_step_are_enough() -> None:
    train, targets = sample(2, 0)
    tail = fresh()
    before = tail.weight.detach().clone()
    assert train_head(tail, [train], targets, train, targets, HeadSettings(1)).epoch == 1
    assert not torch.equal(tail.weight, before)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    train, targets = sample(12, 0)
    broken = np.array(train.values)
    broken[3] = np.inf
    with pytest.raises(TrainingError, match="diverged in epoch 1"):
        train_head(fresh(), [features_of(broken)], targets, train, targets, HeadSettings(1))


def long_tail(seed: int) -> tuple[Features, list[int]]:
    """60 images of one class, 6 of another, 1 of the third, less far apart."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(0, 0.9, (CLASSES, WIDTH))
    targets = [0] * 60 + [1] * 6 + [2]
    return features_of(3 + centres[targets] + rng.normal(0, 1, (67, WIDTH))), targets


def test_ldam_finds_the_rare_classes_and_leaves_a_plain_layer() -> None:
    rng = np.random.default_rng(5)
    centres = np.random.default_rng(9).normal(0, 0.9, (CLASSES, WIDTH))
    judged = [place % CLASSES for place in range(300)]
    held = features_of(3 + centres[judged] + rng.normal(0, 1, (300, WIDTH)))
    found = {}
    for loss in (LossChoice(), LossChoice("ldam")):
        accuracies = []
        for seed in range(3):
            train, targets = long_tail(seed)
            tail = fresh()
            settings = HeadSettings(60, 16, learning_rate=0.01, loss=loss, seed=seed)
            kept = train_head(tail, [train], targets, held, judged, settings)
            assert judge(tail, held, torch.tensor(judged))[0] == pytest.approx(kept.accuracy)
            assert not tail._forward_hooks
            accuracies.append(kept.accuracy)
        found[loss.name] = sum(accuracies) / 3
    assert found["ldam"] > found[None] + 0.03


def test_a_loss_for_several_classes_is_refused() -> None:
    train, targets = sample(12, 0)
    with pytest.raises(TrainingError, match="does not fit"):
        train_head(fresh(), [train], targets, train, targets,
                   HeadSettings(1, loss=LossChoice("focal")))  # fmt: skip
