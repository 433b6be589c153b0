"""MobileNets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import WIDTH_MULT, Option, input_size_option, register

if TYPE_CHECKING:
    from torch import nn


_OUTPUT_STRIDE = Option(
    32,
    8,
    32,
    "the output stride (the input's side over that of the last features)",
    choices=(8, 16, 32),
)


@register(
    "mobilenet_v1",
    head="classifier.1",
    stem=("features.0.0", "features.0.1"),
    options={"width_mult": WIDTH_MULT, "input_size": input_size_option(224)},
)
def mobilenet_v1(classes: int, *, width_mult: float, input_size: int) -> nn.Module:
    """MobileNet V1 (Howard et al. 2017, arXiv:1704.04861).

    With the ReLU6 and the dropout of 0.001 of its authors' code. Channels are rounded to
    multiples of 8 as in MobileNetV2, which changes none of the paper's four widths.
    """
    from models.architectures.mobilenet_v1 import MobileNetV1

    del input_size  # fully convolutional up to its global pooling
    return MobileNetV1(classes, width_mult)


@register(
    "mobilenet_v2",
    head="classifier.1",
    stem=("features.0.0", "features.0.1"),
    options={
        "width_mult": WIDTH_MULT,
        "input_size": input_size_option(224),
        "output_stride": _OUTPUT_STRIDE,
    },
    published="MobileNet_V2_Weights.IMAGENET1K_V2",
    published_options={"width_mult": 1.0},
)
def mobilenet_v2(
    classes: int, *, width_mult: float, input_size: int, output_stride: int
) -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), torchvision's.

    An output stride of 16 or 8 keeps the parameters, and the weights that fit them, and
    doubles or quadruples the side of the last features by dilation.
    """
    from torchvision.models import mobilenet_v2 as build

    from models.architectures.dilation import dilate

    del input_size  # fully convolutional up to its global pooling
    net = build(weights=None, num_classes=classes, width_mult=width_mult)
    dilate(net.features, output_stride)
    return net


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
