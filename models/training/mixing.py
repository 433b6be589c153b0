"""Mixup and cutmix: two pictures in one, and their classes with them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.torchvision_shim import import_torchvision
from models.training.techniques import Mixing


class Mixer:
    """Mixes each picture of a batch with the one before it, as torchvision does.

    Mixup (Zhang et al. 2017, arXiv:1710.09412) adds a share of the other picture to all of
    it, cutmix (Yun et al. 2019, arXiv:1905.04899) pastes a rectangle of it. The classes are
    mixed in the same shares, also where an image may have several. With both, each batch
    draws one of the two.

    Args:
        mixing: alphas of the beta distributions; 0 leaves one out.
        classes: how many there are.
    """

    def __init__(self, mixing: Mixing, classes: int) -> None:
        self._alphas = {"MixUp": mixing.mixup, "CutMix": mixing.cutmix}
        self._kinds = [kind for kind, alpha in self._alphas.items() if alpha > 0]
        self._classes = classes

    def __bool__(self) -> bool:
        """Whether there is anything to mix."""
        return bool(self._kinds)

    def __call__(self, pixels: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Mix a batch; the same batch and seed give the same mixture.

        Args:
            pixels: uint8 `[n, channels, height, width]`, in the order of a shuffled set.
            targets: int64 `[n]`, or float `[n, classes]`.
            seed: everything random follows from it; no generator is left changed.

        Returns:
            Pictures, float32 `[n, channels, height, width]` in the same units, and shares of
            the classes, float32 `[n, classes]`.
        """
        shares = targets
        if not targets.is_floating_point():
            shares = nn.functional.one_hot(targets, self._classes)
        shares = shares.float()
        if not self:
            return pixels.float(), shares
        places = torch.arange(len(pixels), device=pixels.device)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            kind = self._kinds[int(torch.randint(len(self._kinds), ()))]
            # Each place is a class of its own here: what becomes of them is who was mixed
            # with whom in what shares, `[n, n]`, which goes for targets of any kind.
            mixed, weights = self._transform(kind, len(pixels))(pixels.float(), places)
        return mixed, weights.float() @ shares

    def _transform(self, kind: str, count: int) -> Any:
        import_torchvision()
        from torchvision.transforms import v2

        return getattr(v2, kind)(alpha=self._alphas[kind], num_classes=count)
