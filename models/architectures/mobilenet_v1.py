"""MobileNet V1."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

# Table 1 of the paper: the output channels and the stride of each separable convolution.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


def scaled(channels: int, width_mult: float) -> int:
    """`channels * width_mult` to the nearest multiple of 8, never down by more than a tenth."""
    wanted = channels * width_mult
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


class ConvNormReLU6(nn.Sequential):
    """A convolution that keeps the size (divided by its stride), batch norm, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        )


class Separable(nn.Sequential):
    """A 3 x 3 convolution a channel, then a 1 x 1 over all of them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            ConvNormReLU6(inputs, inputs, 3, stride, inputs),
            ConvNormReLU6(inputs, outputs, 1, 1, 1),
        )


class MobileNetV1(nn.Module):
    """Depthwise separable convolutions, each a 3 x 3 a channel and a 1 x 1.

    Args:
        classes: the number of classes.
        width_mult: scales the channels of every layer.
    """

    def __init__(self, classes: int, width_mult: float = 1.0) -> None:
        super().__init__()
        channels = scaled(32, width_mult)
        layers: list[nn.Module] = [ConvNormReLU6(3, channels, 3, 2, 1)]
        for width, stride in BLOCKS:
            outputs = scaled(width, width_mult)
            layers.append(Separable(channels, outputs, stride))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.001), nn.Linear(channels, classes))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures `[N, 3, size, size]` to logits `[N, classes]`."""
        x = self.avgpool(self.features(x))
        return cast(Tensor, self.classifier(torch.flatten(x, 1)))
