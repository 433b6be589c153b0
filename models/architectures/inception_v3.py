"""What torchvision's Inception v3 lacks."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchvision.models import inception


class Auxiliary(inception.InceptionAux):
    """torchvision's auxiliary head, for pictures of less than 299 pixels too.

    It pools its features 5 x 5 by steps of 3, then convolves 5 x 5, for which they have to
    be 17 x 17 at least. Smaller ones are pooled adaptively to the 5 x 5 that a picture of
    299 pixels has there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features `[N, channels, H, W]` to logits `[N, classes]`."""
        if min(x.shape[-2:]) >= 17:
            return cast(Tensor, super().forward(x))
        x = self.conv1(self.conv0(nn.functional.adaptive_avg_pool2d(x, 5)))
        return cast(Tensor, self.fc(x.flatten(1)))


BLOCKS = [
    inception.BasicConv2d,
    inception.InceptionA,
    inception.InceptionB,
    inception.InceptionC,
    inception.InceptionD,
    inception.InceptionE,
    Auxiliary,
]
