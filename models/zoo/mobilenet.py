"""MobileNets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import WIDTH_MULT, input_size_option, register

if TYPE_CHECKING:
    from torch import nn


@register(
    "mobilenet_v2",
    head="classifier.1",
    stem=("features.0.0", "features.0.1"),
    options={"width_mult": WIDTH_MULT, "input_size": input_size_option(224)},
    published="MobileNet_V2_Weights.IMAGENET1K_V2",
    published_options={"width_mult": 1.0},
)
def mobilenet_v2(classes: int, *, width_mult: float, input_size: int) -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), torchvision's."""
    from torchvision.models import mobilenet_v2 as build

    del input_size  # fully convolutional up to its global pooling
    return build(weights=None, num_classes=classes, width_mult=width_mult)


@register(
    "mobilenet_v3_small",
    head="classifier.3",
    stem=("features.0.0", "features.0.1"),
    options={"input_size": input_size_option(224, 32)},
    published="MobileNet_V3_Small_Weights.IMAGENET1K_V1",
)
def mobilenet_v3_small(classes: int, *, input_size: int) -> nn.Module:
    """MobileNetV3 small (Howard et al. 2019, arXiv:1905.02244), torchvision's."""
    from torchvision.models import mobilenet_v3_small as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "mobilenet_v3_large",
    head="classifier.3",
    stem=("features.0.0", "features.0.1"),
    options={"input_size": input_size_option(224, 32)},
    published="MobileNet_V3_Large_Weights.IMAGENET1K_V2",
)
def mobilenet_v3_large(classes: int, *, input_size: int) -> nn.Module:
    """MobileNetV3 large (Howard et al. 2019, arXiv:1905.02244), torchvision's."""
    from torchvision.models import mobilenet_v3_large as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)
