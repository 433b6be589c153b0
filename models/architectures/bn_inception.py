"""BN-Inception, also called Inception v2."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn


class Filters(NamedTuple):
    """One row of the table: how many filters each convolution of a block has.

    Attributes:
        one: of the 1 x 1 convolution; 0 where the block halves the picture and has none.
        reduce, three: of the 1 x 1 and of the 3 x 3 behind it.
        double_reduce, double: of the 1 x 1 and of each of the two 3 x 3 behind it.
        pool: which pooling the last branch begins with.
        projected: of the 1 x 1 behind that pooling; 0 where its result passes through.
    """

    one: int
    reduce: int
    three: int
    double_reduce: int
    double: int
    pool: Literal["mean", "max"]
    projected: int

    def outputs(self, channels: int) -> int:
        """How many channels a block gives from `channels`."""
        return self.one + self.three + self.double + (self.projected or channels)


# Figure 5 of the paper. Its column of output sizes says 576 for 4c and 4d and 1024 for 4e,
# but the filters of 4c and 4d add up to 608, and 4e passes those through: 1056.
BLOCKS = {
    "3a": Filters(64, 64, 64, 64, 96, "mean", 32),
    "3b": Filters(64, 64, 96, 64, 96, "mean", 64),
    "3c": Filters(0, 128, 160, 64, 96, "max", 0),
    "4a": Filters(224, 64, 96, 96, 128, "mean", 128),
    "4b": Filters(192, 96, 128, 96, 128, "mean", 128),
    "4c": Filters(160, 128, 160, 128, 160, "mean", 128),
    "4d": Filters(96, 128, 192, 160, 192, "mean", 128),
    "4e": Filters(0, 128, 192, 192, 256, "max", 0),
    "5a": Filters(352, 192, 320, 160, 224, "mean", 128),
    "5b": Filters(352, 192, 320, 192, 224, "max", 128),
}


class ConvNormReLU(nn.Sequential):
    """A convolution that keeps the size (divided by its stride), batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        norm = nn.BatchNorm2d(outputs, eps=0.001)
        super().__init__(OrderedDict(conv=conv, bn=norm, relu=nn.ReLU(inplace=True)))


class Block(nn.Module):
    """Branches side by side, their results concatenated: 1x1, 3x3, double 3x3, pooling."""

    def __init__(self, inputs: int, filters: Filters) -> None:
        super().__init__()
        stride = 1 if filters.one else 2
        self.branch1x1 = ConvNormReLU(inputs, filters.one, 1) if filters.one else None
        self.branch3x3 = nn.Sequential(
            ConvNormReLU(inputs, filters.reduce, 1),
            ConvNormReLU(filters.reduce, filters.three, 3, stride),
        )
        self.branch3x3dbl = nn.Sequential(
            ConvNormReLU(inputs, filters.double_reduce, 1),
            ConvNormReLU(filters.double_reduce, filters.double, 3),
            ConvNormReLU(filters.double, filters.double, 3, stride),
        )
        kind = nn.AvgPool2d if filters.pool == "mean" else nn.MaxPool2d
        pool: list[nn.Module] = [kind(3, stride, padding=1)]
        if filters.projected:
            pool.append(ConvNormReLU(inputs, filters.projected, 1))
        self.branch_pool = nn.Sequential(*pool)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.branch3x3(x), self.branch3x3dbl(x), self.branch_pool(x)]
        if self.branch1x1 is not None:
            branches.insert(0, self.branch1x1(x))
        return torch.cat(branches, 1)


class BNInception(nn.Module):
    """Inception with batch norm; see `models.zoo.inception.inception_v2`.

    Args:
        classes: the number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = ConvNormReLU(3, 64, 7, stride=2)
        self.pool1 = nn.MaxPool2d(3, 2, padding=1)
        self.conv2 = nn.Sequential(ConvNormReLU(64, 64, 1), ConvNormReLU(64, 192, 3))
        self.pool2 = nn.MaxPool2d(3, 2, padding=1)
        blocks: list[tuple[str, nn.Module]] = []
        channels = 192
        for name, filters in BLOCKS.items():
            blocks.append((f"inception{name}", Block(channels, filters)))
            channels = filters.outputs(channels)
        self.blocks = nn.Sequential(OrderedDict(blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(self.fc.weight, 0.0, 0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures `[N, 3, size, size]` to logits `[N, classes]`."""
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.conv2(x))
        x = self.avgpool(self.blocks(x))
        return cast(Tensor, self.fc(torch.flatten(x, 1)))
