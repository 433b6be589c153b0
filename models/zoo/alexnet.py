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
    undrawn=True,
)
def alexnet(classes: int, *, input_size: int) -> nn.Module:
    """AlexNet (Krizhevsky 2014, arXiv:1404.5997: one tower), torchvision's."""
    from torchvision.models import alexnet as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "alexnet_lrn",
    head="classifier.6",
    stem=("features.0", None),
    options={"input_size": input_size_option(227, 67)},
)
def alexnet_lrn(classes: int, *, input_size: int) -> nn.Module:
    """AlexNet with local response normalization (Krizhevsky et al. 2012).

    The paper's two towers are two groups of convolutions 2, 4 and 5; its constants are
    those of section 3.3, dropout stands before the first two linear layers. Weights are
    drawn after He et al. (2015): the paper's N(0, 0.01) is for pixels of 0 to 255. At 227
    pixels nothing is pooled before the linear layers; at others, adaptively to 6 x 6.
    """
    from models.architectures.alexnet import AlexNetLRN

    del input_size  # pooled to a fixed size before the head
    return AlexNetLRN(classes)
