"""AlexNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import input_size_option, register

if TYPE_CHECKING:
    from torch import nn


@register(
    "alexnet",
    head="classifier.6",
    stem=("features.0", None),
    options={"input_size": input_size_option(224, 63)},
    published="AlexNet_Weights.IMAGENET1K_V1",
)
def alexnet(classes: int, *, input_size: int) -> nn.Module:
    """AlexNet (Krizhevsky 2014, arXiv:1404.5997: one tower), torchvision's."""
    from torchvision.models import alexnet as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)
