"""What is mixed with what in which shares, read off pictures that say who they are."""

from __future__ import annotations

from typing import Any

import pytest

from models.training.techniques import Mixing

torch = pytest.importorskip("torch")

from models.training.mixing import Mixer  # noqa: E402 - needs torch

CLASSES = 3
VALUES = torch.tensor([0.0, 50.0, 100.0, 250.0])
TARGETS = torch.tensor([0, 1, 2, 1])
PIXELS = VALUES.to(torch.uint8).reshape(4, 1, 1, 1).expand(4, 3, 20, 30)
MULTI = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


def shares_seen(pixels: Any) -> Any:
    """How much of each picture is its own, from its mean brightness."""
    before = VALUES.roll(1)
    return (pixels.mean(dim=(1, 2, 3)) - before) / (VALUES - before)


def expected(own: Any, targets: Any) -> Any:
    return own[:, None] * targets + (1 - own[:, None]) * targets.roll(1, 0)


@pytest.mark.parametrize("mixing", [Mixing(mixup=1.0), Mixing(cutmix=1.0), Mixing(1.0, 1.0)])
def test_classes_are_mixed_as_the_pictures_are(mixing: Mixing) -> None:
    mixer = Mixer(mixing, CLASSES)
    one_hot = torch.nn.functional.one_hot(TARGETS, CLASSES).float()
    for seed in range(20):
        pixels, targets = mixer(PIXELS, TARGETS, seed)
        assert pixels.shape == PIXELS.shape
        assert pixels.dtype == targets.dtype == torch.float32
        own = shares_seen(pixels)
        torch.testing.assert_close(targets, expected(own, one_hot), atol=1e-4, rtol=0)
        torch.testing.assert_close(targets.sum(1), torch.ones(4))
        same, several = mixer(PIXELS, MULTI, seed)
        assert torch.equal(same, pixels)
        torch.testing.assert_close(several, expected(own, MULTI), atol=1e-4, rtol=0)


def test_mixup_adds_and_cutmix_pastes() -> None:
    added, _ = Mixer(Mixing(mixup=1.0), CLASSES)(PIXELS, TARGETS, 1)
    assert all(picture.unique().numel() == 1 for picture in added)
    pasted, _ = Mixer(Mixing(cutmix=1.0), CLASSES)(PIXELS, TARGETS, 1)
    assert all(set(picture.unique().tolist()) <= set(VALUES.tolist()) for picture in pasted)
    assert any(picture.unique().numel() == 2 for picture in pasted)


def test_both_draw_one_of_the_two() -> None:
    mixer = Mixer(Mixing(1.0, 1.0), CLASSES)
    pasted = 0
    for seed in range(100):
        pixels, _ = mixer(PIXELS, TARGETS, seed)
        pasted += any(picture.unique().numel() == 2 for picture in pixels)
    assert 30 <= pasted <= 60  # half of them; a rectangle may be empty or all


def test_the_seed_decides_and_nothing_else_is_touched() -> None:
    mixer = Mixer(Mixing(0.4, 0.4), CLASSES)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = mixer(PIXELS, TARGETS, 7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(9)
    again, other = mixer(PIXELS, TARGETS, 7), mixer(PIXELS, TARGETS, 8)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_a_small_alpha_mixes_little() -> None:
    def mixed(alpha: float) -> float:
        mixer = Mixer(Mixing(mixup=alpha), CLASSES)
        return sum(float(mixer(PIXELS, TARGETS, s)[1][0].max() < 0.9) for s in range(60)) / 60

    assert mixed(0.1) < 0.4 < 0.6 < mixed(4.0)


def test_nothing_to_mix() -> None:
    mixer = Mixer(Mixing(), CLASSES)
    assert not mixer
    pixels, targets = mixer(PIXELS, TARGETS, 0)
    assert torch.equal(pixels, PIXELS.float())
    assert targets.argmax(1).tolist() == TARGETS.tolist()
    assert not PIXELS.is_floating_point(), "the batch itself is as it was"
