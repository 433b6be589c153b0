"""How large a network is and how much one picture costs, counted rather than quoted.

Parameters are what is exported: weights, biases and the scale and shift of batch norms,
without the heads that exist in training only. Multiply-adds are those of convolutions
and dense layers for one picture in evaluation mode; normalization, activations and
pooling are left out, as the papers do.

Nothing is computed: shapes go through the network on torch's meta device, so VGG16
takes neither memory nor time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.zoo.registry import get

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Counted:
    """The size of a network.

    Attributes:
        parameters: how many numbers training adjusts, without auxiliary heads.
        multiply_adds: of convolutions and dense layers, for one picture.
    """

    parameters: int
    multiply_adds: int


def counted(architecture: str, classes: int, options: Mapping[str, Any] | None = None) -> Counted:
    """The size of a member of the zoo, without building it in memory.

    Raises:
        ZooError: unknown architecture or option, a value out of range, or fewer than
            two classes.
    """
    import torch

    entry = get(architecture)
    size = int(entry.settle(options)["input_size"])
    with torch.device("meta"):
        net = entry.create(classes, options)
    return count(net, size, channels=1 if entry.grayscale else 3, left_out=entry.auxiliary_prefixes)


def count(
    net: nn.Module, size: int, *, channels: int = 3, left_out: tuple[str, ...] = ()
) -> Counted:
    """The size of any network; `net` is left as it was.

    Args:
        net: takes float32 `[N, channels, size, size]`.
        size: the side of the input square in pixels.
        channels: of the input.
        left_out: how the names of parameters begin that are not counted, those of heads
            that exist in training only.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    parameters = sum(
        value.numel() for name, value in net.named_parameters() if not name.startswith(left_out)
    )
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    shapes = {name: value.to("meta") for name, value in state.items()}
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
            picture = torch.zeros(1, channels, size, size)
            torch.func.functional_call(net, shapes, (picture,))
    finally:
        for module in training:
            module.training = True
    return Counted(parameters, counter.get_total_flops() // 2)  # one multiply and one add
