"""A finer last grid by dilation instead of strides."""

from __future__ import annotations

from torch import nn


def dilate(layers: nn.Module, output_stride: int) -> None:
    """Let `layers` divide the picture's side by `output_stride` only; in place.

    From where that is reached, a convolution of stride 2 computes all positions instead of
    every other one, and those behind it take their inputs twice as far apart: what the
    network computed before stands in every other position of what it computes now
    (Chen et al. 2017, arXiv:1706.05587, section 3.1). Parameters stay as they are.

    Args:
        layers: convolutions of odd kernels in the order of computation, without branches
            that hold strides.
        output_stride: a power of two, 2 or more.
    """
    reached, rate = 1, 1
    for layer in layers.modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        stride, kernel = layer.stride[0], layer.kernel_size[0]
        if kernel > 1 and rate > 1:
            layer.dilation = (rate, rate)
            layer.padding = (rate * (kernel // 2), rate * (kernel // 2))
        if reached * stride <= output_stride:
            reached *= stride
        else:
            layer.stride = (1, 1)
            rate *= stride
