"""EfficientNets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import input_size_option, register

if TYPE_CHECKING:
    from torch import nn


@register(
    "efficientnet_b0",
    head="classifier.1",
    stem=("features.0.0", "features.0.1"),
    options={"input_size": input_size_option(224, 32)},
    published="EfficientNet_B0_Weights.IMAGENET1K_V1",
)
def efficientnet_b0(classes: int, *, input_size: int) -> nn.Module:
    """EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946), torchvision's."""
    from torchvision.models import efficientnet_b0 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "efficientnet_b1",
    head="classifier.1",
    stem=("features.0.0", "features.0.1"),
    options={"input_size": input_size_option(240, 32)},
    published="EfficientNet_B1_Weights.IMAGENET1K_V2",
)
def efficientnet_b1(classes: int, *, input_size: int) -> nn.Module:
    """EfficientNet-B1 (Tan and Le 2019, arXiv:1905.11946), torchvision's."""
    from torchvision.models import efficientnet_b1 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "efficientnet_b2",
    head="classifier.1",
    stem=("features.0.0", "features.0.1"),
    options={"input_size": input_size_option(260, 32)},
    published="EfficientNet_B2_Weights.IMAGENET1K_V1",
)
def efficientnet_b2(classes: int, *, input_size: int) -> nn.Module:
    """EfficientNet-B2 (Tan and Le 2019, arXiv:1905.11946), torchvision's."""
    from torchvision.models import efficientnet_b2 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "efficientnet_b3",
    head="classifier.1",
    stem=("features.0.0", "features.0.1"),
    options={"input_size": input_size_option(300, 32)},
    published="EfficientNet_B3_Weights.IMAGENET1K_V1",
)
def efficientnet_b3(classes: int, *, input_size: int) -> nn.Module:
    """EfficientNet-B3 (Tan and Le 2019, arXiv:1905.11946), torchvision's."""
    from torchvision.models import efficientnet_b3 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)
