"""First weights for networks without batch norm."""

from __future__ import annotations

from torch import nn


def draw(net: nn.Module, head: nn.Linear) -> None:
    """Weights for ReLU (He et al. 2015, arXiv:1502.01852), biases zero, the head N(0, 0.01)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.normal_(head.weight, 0.0, 0.01)
