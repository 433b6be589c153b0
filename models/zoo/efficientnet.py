"""EfficientNets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import WIDTH_MULT, Option, input_size_option, register

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
    return _calm(build(weights=None, num_classes=classes))


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
    return _calm(build(weights=None, num_classes=classes))


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
    return _calm(build(weights=None, num_classes=classes))


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
    return _calm(build(weights=None, num_classes=classes))


@register(
    "efficientnet",
    head="classifier.1",
    stem=("features.0.0", "features.0.1"),
    options={
        "depth_mult": Option(
            1.0, 0.1, 4.0, "the depth multiplier (scales every stage's number of blocks)"
        ),
        "width_mult": WIDTH_MULT,
        "input_size": input_size_option(224, 32),
    },
)
def efficientnet(
    classes: int, *, depth_mult: float, width_mult: float, input_size: int
) -> nn.Module:
    """EfficientNet by compound scaling (Tan and Le 2019, arXiv:1905.11946, section 3.3).

    The multipliers scale table 1: channels to the nearest multiple of 8, blocks rounded up.
    The paper's depth is 1.2^phi, its width 1.1^phi and its resolution 224 * 1.15^phi. B0 to
    B3 are (depth, width, input size) = (1.0, 1.0, 224), (1.1, 1.0, 240), (1.2, 1.1, 260) and
    (1.4, 1.2, 300); their own entries load published weights, and B2 and B3 have more
    dropout than the 0.2 here.
    """
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    del input_size  # pooled to a fixed size before the head
    table = (
        # expansion, kernel, stride, input channels, output channels, blocks
        (1, 3, 1, 32, 16, 1),
        (6, 3, 2, 16, 24, 2),
        (6, 5, 2, 24, 40, 2),
        (6, 3, 2, 40, 80, 3),
        (6, 5, 1, 80, 112, 3),
        (6, 5, 2, 112, 192, 4),
        (6, 3, 1, 192, 320, 1),
    )
    stages = [MBConvConfig(*row, width_mult=width_mult, depth_mult=depth_mult) for row in table]
    return _calm(EfficientNet(stages, dropout=0.2, num_classes=classes))


def _calm(net: nn.Module) -> nn.Module:
    """Draw the head's weights anew, from N(0, 0.01); returns `net`.

    torchvision draws them from +-1 / sqrt(classes), which for a handful of classes gives
    first logits of several units: a loss of 4 where guessing has 1.6.
    """
    from torch.nn import init

    init.normal_(net.get_parameter("classifier.1.weight"), 0.0, 0.01)
    return net
