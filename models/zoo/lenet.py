"""LeNet-5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.zoo.registry import Option, register

if TYPE_CHECKING:
    from torch import nn

_SIZE = Option(32, 28, 32, "the side of the input square in pixels", choices=(28, 32))


@register(
    "lenet5",
    head="head",
    stem=("c1", None),
    options={"input_size": _SIZE},
    grayscale=True,
)
def lenet5(classes: int, *, input_size: int) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998, Gradient-based learning applied to document recognition).

    As in the paper: C3 sees the maps of S2 that table I names (its weights are a full
    tensor of which 60 of 96 kernels count), subsampling is the mean of four pixels times a
    trainable coefficient plus a bias, and every layer up to F6 ends with a squashing. These
    layers have the paper's 60,000 weights. What differs:

    - plain tanh stands for 1.7159 tanh(2x/3). Both factors go into the weights around it,
      so the networks compute the same functions.
    - the head is linear and gives logits; the paper's 84 outputs are compared with fixed
      pictures of the ten digits, which other classes do not have.
    - weights are drawn after Glorot and Bengio (2010), not from +-2.4 / fan-in.
    - at 28 pixels the first convolution pads by 2, where the paper pads the picture.
    """
    from models.architectures.lenet import LeNet5

    return LeNet5(classes, input_size)


@register(
    "lenet5_relu",
    head="classifier.4",
    stem=("features.0", None),
    options={"input_size": _SIZE},
    grayscale=True,
)
def lenet5_relu(classes: int, *, input_size: int) -> nn.Module:
    """LeNet-5 as it is taught today: ReLU, max pooling, C3 fully connected, softmax.

    61,706 parameters with ten classes. Weights are drawn after He et al. (2015).
    """
    from models.architectures.lenet import LeNet5ReLU

    return LeNet5ReLU(classes, input_size)
