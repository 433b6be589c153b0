"""SqueezeNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import input_size_option, register

if TYPE_CHECKING:
    from torch import nn


@register(
    "squeezenet1_0",
    head="classifier.1",
    stem=("features.0", None),
    options={"input_size": input_size_option(224, 32)},
    published="SqueezeNet1_0_Weights.IMAGENET1K_V1",
)
def squeezenet1_0(classes: int, *, input_size: int) -> nn.Module:
    """SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360), torchvision's."""
    from torchvision.models import squeezenet1_0 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "squeezenet1_1",
    head="classifier.1",
    stem=("features.0", None),
    options={"input_size": input_size_option(224, 32)},
    published="SqueezeNet1_1_Weights.IMAGENET1K_V1",
)
def squeezenet1_1(classes: int, *, input_size: int) -> nn.Module:
    """SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360), torchvision's."""
    from torchvision.models import squeezenet1_1 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)
