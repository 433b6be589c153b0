"""ResNet and ResNeXt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import input_size_option, register

if TYPE_CHECKING:
    from torch import nn


@register(
    "resnet18",
    head="fc",
    stem=("conv1", "bn1"),
    options={"input_size": input_size_option(224, 32)},
    published="ResNet18_Weights.IMAGENET1K_V1",
    undrawn=True,
)
def resnet18(classes: int, *, input_size: int) -> nn.Module:
    """ResNet-18 (He et al. 2015, arXiv:1512.03385), torchvision's."""
    from torchvision.models import resnet18 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "resnet50",
    head="fc",
    stem=("conv1", "bn1"),
    options={"input_size": input_size_option(224, 32)},
    published="ResNet50_Weights.IMAGENET1K_V2",
    undrawn=True,
)
def resnet50(classes: int, *, input_size: int) -> nn.Module:
    """ResNet-50 (He et al. 2015, arXiv:1512.03385), torchvision's."""
    from torchvision.models import resnet50 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "resnet152",
    head="fc",
    stem=("conv1", "bn1"),
    options={"input_size": input_size_option(224, 32)},
    published="ResNet152_Weights.IMAGENET1K_V2",
    undrawn=True,
)
def resnet152(classes: int, *, input_size: int) -> nn.Module:
    """ResNet-152 (He et al. 2015, arXiv:1512.03385), torchvision's."""
    from torchvision.models import resnet152 as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "resnext50_32x4d",
    head="fc",
    stem=("conv1", "bn1"),
    options={"input_size": input_size_option(224, 32)},
    published="ResNeXt50_32X4D_Weights.IMAGENET1K_V2",
    undrawn=True,
)
def resnext50_32x4d(classes: int, *, input_size: int) -> nn.Module:
    """ResNeXt-50 32x4d (Xie et al. 2016, arXiv:1611.05431), torchvision's."""
    from torchvision.models import resnext50_32x4d as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "resnext101_32x8d",
    head="fc",
    stem=("conv1", "bn1"),
    options={"input_size": input_size_option(224, 32)},
    published="ResNeXt101_32X8D_Weights.IMAGENET1K_V2",
    undrawn=True,
)
def resnext101_32x8d(classes: int, *, input_size: int) -> nn.Module:
    """ResNeXt-101 32x8d (Xie et al. 2016, arXiv:1611.05431), torchvision's."""
    from torchvision.models import resnext101_32x8d as build

    del input_size  # pooled to a fixed size before the head
    return build(weights=None, num_classes=classes)


@register(
    "resnext152_32x4d",
    head="fc",
    stem=("conv1", "bn1"),
    options={"input_size": input_size_option(224, 32)},
    undrawn=True,
)
def resnext152_32x4d(classes: int, *, input_size: int) -> nn.Module:
    """ResNeXt-152 32x4d: ResNet-152's 3, 8, 36 and 3 blocks with ResNeXt's 32 groups of 4.

    The paper (Xie et al. 2016, arXiv:1611.05431) stops at 101 layers; nobody publishes
    weights of this one in torchvision's layout.
    """
    from torchvision.models.resnet import Bottleneck, ResNet

    del input_size  # pooled to a fixed size before the head
    return ResNet(Bottleneck, [3, 8, 36, 3], num_classes=classes, groups=32, width_per_group=4)
