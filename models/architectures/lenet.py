"""LeNet-5: that of 1998 and a modern one."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.architectures import initial

# Table I of the paper: a row is one of the 6 maps of S2, a column one of the 16 of C3.
C3_TABLE = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)


class TableConvolution(nn.Conv2d):
    """A convolution in which an output map sees only some of the input maps.

    Weights between maps that are not connected count as zero, whatever they hold.

    Args:
        table: one string an input map with one letter an output map, 'X' where connected.
    """

    mask: Tensor

    def __init__(self, table: tuple[str, ...], kernel_size: int) -> None:
        super().__init__(len(table), len(table[0]), kernel_size)
        rows = [[float(letter == "X") for letter in row] for row in table]
        mask = torch.tensor(rows, device=self.weight.device).T[:, :, None, None]
        self.register_buffer("mask", mask.contiguous(), persistent=False)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight * self.mask, bias)


class Subsampling(nn.Module):
    """Means of 2 x 2 pixels, times one trainable coefficient a map, plus one bias a map."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.scale = nn.Conv2d(maps, maps, kernel_size=1, groups=maps)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.scale(self.pool(x)))


class LeNet5(nn.Module):
    """LeNet-5 as of 1998; see `models.zoo.lenet.lenet5` for what differs.

    Args:
        classes: the number of classes.
        input_size: 32, or 28 where the first convolution pads by 2.
    """

    def __init__(self, classes: int, input_size: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5, padding=(32 - input_size) // 2)
        self.s2 = Subsampling(6)
        self.c3 = TableConvolution(C3_TABLE, 5)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.head = nn.Linear(84, classes)
        self._initialize()

    def forward(self, x: Tensor) -> Tensor:
        """Pictures `[N, 1, size, size]` to logits `[N, classes]`."""
        for layer in (self.c1, self.s2, self.c3, self.s4, self.c5):
            x = torch.tanh(layer(x))
        x = torch.tanh(self.f6(torch.flatten(x, 1)))
        return cast(Tensor, self.head(x))

    @torch.no_grad()
    def _initialize(self) -> None:
        """Glorot and Bengio's uniform weights; the coefficients are one, biases zero."""
        gain = nn.init.calculate_gain("tanh")
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for pooled in (self.s2, self.s4):
            nn.init.ones_(pooled.scale.weight)
        nn.init.xavier_uniform_(self.head.weight)
        # 60 of its 96 kernels count; the others stay zero, as no gradient reaches them
        self.c3.weight.mul_(self.c3.mask * (96 / 60) ** 0.5)


class LeNet5ReLU(nn.Module):
    """LeNet-5's layers with ReLU, max pooling and every map connected.

    Args:
        classes: the number of classes.
        input_size: 32, or 28 where the first convolution pads by 2.
    """

    def __init__(self, classes: int, input_size: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=(32 - input_size) // 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        head = nn.Linear(84, classes)
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
            head,
        )
        initial.draw(self, head)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures `[N, 1, size, size]` to logits `[N, classes]`."""
        return cast(Tensor, self.classifier(torch.flatten(self.features(x), 1)))
