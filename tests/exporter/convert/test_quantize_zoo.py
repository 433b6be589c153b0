"""Int8 of the zoo's families, on networks that decide (`support.zoo_nets`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support import zoo_nets


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "resnet18"])
def test_a_network_decides_and_its_weights_matter(name: str) -> None:
    checkpoint = zoo_nets.decided_checkpoint(name)
    assert zoo_nets.accuracy(checkpoint) > 0.6  # of eight classes
    logits, _ = zoo_nets.logits_of(checkpoint, 24)
    spread = (logits - logits.mean(axis=0)).std()
    assert 1.0 < spread < 3.0
    weights = [key for key, value in checkpoint.state.items() if value.ndim == 4]
    state = dict(checkpoint.state)
    middle = state[weights[len(weights) // 2]].clone()
    middle[: len(middle) // 8] = 0
    state[weights[len(weights) // 2]] = middle
    moved, _ = zoo_nets.logits_of(replace(checkpoint, state=state), 24)
    assert np.abs(moved - logits).mean() > 0.02 * spread


def test_the_same_arguments_give_the_same_network() -> None:
    one, other, third = (
        zoo_nets.decided_checkpoint("squeezenet1_1", seed=seed) for seed in (0, 0, 1)
    )
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    assert not all(torch.equal(one.state[key], third.state[key]) for key in one.state)
