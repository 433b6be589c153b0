"""First weights of a network that begins with none.

What applies where:

- networks whose constructors leave PyTorch's defaults, or some (`Architecture.undrawn`:
  AlexNet, GoogLeNet, Inception v3, ResNets and ResNeXts): this module draws them;
- MobileNets, VGG and Inception v2 draw by the same rule themselves, EfficientNets but for the
  last layer, which is uniform as its authors have it;
- networks of ReLU without batch norm, but VGG (`models.architectures.initial`, SqueezeNet):
  He's rule by fan-in, which holds the scale of the activations instead of the gradients;
- LeNet-5, whose tanh wants Glorot and Bengio's weights;
- a new head on trained weights: the normal of heads, see `Architecture.replace_head`.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from models import zoo

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def initialize(net: nn.Module, entry: zoo.Architecture) -> None:
    """Draw first weights, in place, from torch's global generator.

    Convolutions: normal, variance 2 / (kernel area * output channels), He et al. 2015
    (arXiv:1502.01852) eq. 14, which keeps the scale of the gradients on their way down; the
    factor 2 is ReLU's. Dense layers before the head: the same. The last layer, dense or a
    convolution, and those of heads that exist in training only: normal, variance 1 / (3 *
    inputs), which is that of PyTorch's uniform default; with the usual deviation of 0.01 a
    ResNet-18 was slower to learn (see docs/training.md). Biases zero; norms scale by one and
    add zero.

    Nothing is done to a network whose constructor draws its weights.
    """
    if entry.undrawn:
        draw(net, (entry.head, *entry.auxiliary))


@torch.no_grad()
def draw(net: nn.Module, heads: Collection[str]) -> None:
    """Draw the weights of all layers as `initialize` says.

    Args:
        heads: module paths of last layers.
    """
    for path, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if path in heads:
                inputs = layer.weight[0].numel()
                nn.init.normal_(layer.weight, 0.0, (3 * inputs) ** -0.5)
            else:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, _NORMS) and layer.weight is not None:
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
