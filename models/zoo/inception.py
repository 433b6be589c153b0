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
    undrawn=True,
)
def googlenet(classes: int, *, input_size: int) -> nn.Module:
    """GoogLeNet, Inception v1 (Szegedy et al. 2014, arXiv:1409.4842), torchvision's.

    Unlike the paper's it has batch norm, and 3 x 3 convolutions where that has 5 x 5.
    """
    from torchvision.models import googlenet as build

    del input_size  # pooled to a fixed size before the head
    # torchvision's first weights take seconds to draw; a training draws better ones
    return build(weights=None, num_classes=classes, aux_logits=True, init_weights=False)


@register(
    "inception_v2",
    head="fc",
    stem=("conv1.conv", "conv1.bn"),
    options={"input_size": input_size_option(224, 32)},
)
def inception_v2(classes: int, *, input_size: int) -> nn.Module:
    """Inception v2, BN-Inception (Ioffe and Szegedy 2015, arXiv:1502.03167, figure 5).

    The first convolution is a plain 7 x 7, as in published ports, where the paper has a
    separable one. There is neither dropout nor an auxiliary head: section 4.2.1 removes
    the first. Poolings pad by one pixel, so that their results fit those of the
    convolutions beside them at every input size.
    """
    from models.architectures.bn_inception import BNInception

    del input_size  # pooled to a fixed size before the head
    return BNInception(classes)


@register(
    "inception_v3",
    head="fc",
    stem=("Conv2d_1a_3x3.conv", "Conv2d_1a_3x3.bn"),
    options={"input_size": input_size_option(299, 75)},
    published="Inception_V3_Weights.IMAGENET1K_V1",
    normalization=Normalization(),  # its weights want pixel / 127.5 - 1
    auxiliary=("AuxLogits.fc",),
    auxiliary_weight=0.4,
    undrawn=True,
)
def inception_v3(classes: int, *, input_size: int) -> nn.Module:
    """Inception v3 (Szegedy et al. 2015, arXiv:1512.00567), torchvision's.

    Its auxiliary head takes smaller pictures too, see `models.architectures.inception_v3`.
    """
    from torchvision.models import inception_v3 as build

    from models.architectures.inception_v3 import BLOCKS

    del input_size  # pooled to a fixed size before the head
    # torchvision's first weights take two seconds to draw; a training draws better ones
    return build(
        weights=None,
        num_classes=classes,
        aux_logits=True,
        init_weights=False,
        inception_blocks=BLOCKS,
    )
