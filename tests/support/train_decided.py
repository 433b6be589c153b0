"""Make tests/data/decided.safetensors again: `python tests/support/train_decided.py`."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from support import nets
from support.bundles import DECIDED, class_image


def train_decided_net() -> Any:
    """Train the small network for a minute to tell `class_image`'s classes apart."""
    pixels = np.stack(
        [class_image(g, 10**6 + i, nets.SIZE) for i in range(20) for g in range(nets.CLASSES)]
    )
    given = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    wanted = torch.arange(nets.CLASSES).repeat(20)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = copy.deepcopy(nets.small_net()).train()
        net.classifier[0].p = 0.0
        optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
        for step in range(60):
            batch = slice(50 * step % 200, 50 * step % 200 + 50)
            loss = torch.nn.functional.cross_entropy(net(given[batch]), wanted[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.reset_running_stats()
            norm.momentum = None
        with torch.no_grad():
            net(given)
    return net.eval()


if __name__ == "__main__":
    state = train_decided_net().state_dict()
    save_file({name: value.half() if value.is_floating_point() else value
               for name, value in state.items()}, DECIDED)  # fmt: skip
