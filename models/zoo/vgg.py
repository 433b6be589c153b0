"""VGG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import input_size_option, register

if TYPE_CHECKING:
    from torch import nn


@register(
    "vgg16",
    head="classifier.6",
    stem=("features.0", None),
    options={"input_size": input_size_option(224, 32)},
    published="VGG16_Weights.IMAGENET1K_V1",
)
def vgg16(classes: int, *, input_size: int) -> nn.Module:
    """VGG16 (Simonyan and Zisserman 2014, arXiv:1409.1556), torchvision's."""
    from torchvision.models import vgg16 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "vgg16_bn",
    head="classifier.6",
    stem=("features.0", "features.1"),
    options={"input_size": input_size_option(224, 32)},
    published="VGG16_BN_Weights.IMAGENET1K_V1",
)
def vgg16_bn(classes: int, *, input_size: int) -> nn.Module:
    """VGG16 with batch norm (Simonyan and Zisserman 2014, arXiv:1409.1556), torchvision's."""
    from torchvision.models import vgg16_bn as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)
