"""Optimizers and schedules of the learning rate."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from models.training.library import torch
from models.training.techniques import Descent

MOMENTUM = 0.9


def optimizer_of(descent: Descent, groups: list[dict[str, Any]]) -> Any:
    """AdamW, or SGD with Nesterov momentum (Sutskever et al. 2013), over groups of parameters.

    Args:
        groups: as torch's optimizers take them, with `lr` and `weight_decay`.
    """
    if descent.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups)


def schedule_of(descent: Descent, optimizer: Any, steps: int, warm_up: float) -> Any:
    """The schedule of an optimizer whose groups have their peak rates; stepped after each step.

    'one-cycle' is torch's: from a 25th of the peak up and down again, both along half a
    cosine, to nearly nothing (Smith and Topin 2017, arXiv:1708.07120). The others rise in a
    straight line, see `factor`.

    Args:
        steps: of the optimizer, in all.
        warm_up: share of them in which the rate rises.
    """
    if descent.schedule == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=steps,
            pct_start=warm_up_share(warm_up, steps),
            cycle_momentum=False,
        )
    rising = round(warm_up * steps)
    shape = partial(factor, descent.schedule == "cosine", steps, rising)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, shape)


def factor(falls: bool, steps: int, rising: int, step: int) -> float:
    """The share of the peak rate that a step learns with.

    The k-th of the steps that rise has k / (rising + 1) of it, and the next one all of it.
    Then it stays, or falls along half a cosine that would be zero after the last step
    (Loshchilov and Hutter 2016, arXiv:1608.03983, eq. 5, without restarts).

    Args:
        falls: whether it falls at all.
        steps: in all.
        rising: how many of them rise.
        step: from 0.
    """
    if step < rising:
        return (step + 1) / (rising + 1)
    if not falls:
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def warm_up_share(wanted: float, steps: int) -> float:
    """The share of the steps in which the learning rate rises, as OneCycleLR takes it.

    It divides by zero where exactly one step is to rise; then it is one and a half.
    """
    return 1.5 / steps if abs(wanted * steps - 1.0) < 1e-6 else wanted
