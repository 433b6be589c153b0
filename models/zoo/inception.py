"""GoogLeNet and its successors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.contract import Normalization
from models.zoo.registry import input_size_option, register

if TYPE_CHECKING:
    from torch import nn


@register(
    "googlenet",
    head="fc",
    stem=("conv1.conv", "conv1.bn"),
    options={"input_size": input_size_option(224, 32)},
    published="GoogLeNet_Weights.IMAGENET1K_V1",
    normalization=Normalization(),  # its weights want pixel / 127.5 - 1
    auxiliary=("aux1.fc2", "aux2.fc2"),
)
def googlenet(classes: int, *, input_size: int) -> nn.Module:
    """GoogLeNet, Inception v1 (Szegedy et al. 2014, arXiv:1409.4842), torchvision's."""
    from torchvision.models import googlenet as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes, aux_logits=True, init_weights=False)


@register(
    "inception_v3",
    head="fc",
    stem=("Conv2d_1a_3x3.conv", "Conv2d_1a_3x3.bn"),
    options={"input_size": input_size_option(299, 107)},
    published="Inception_V3_Weights.IMAGENET1K_V1",
    normalization=Normalization(),  # its weights want pixel / 127.5 - 1
    auxiliary=("AuxLogits.fc",),
    auxiliary_weight=0.4,
)
def inception_v3(classes: int, *, input_size: int) -> nn.Module:
    """Inception v3 (Szegedy et al. 2015, arXiv:1512.00567), torchvision's."""
    from torchvision.models import inception_v3 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes, aux_logits=True, init_weights=False)
