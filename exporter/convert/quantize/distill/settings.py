"""What distillation can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DistillSettings:
    """How long and how fast to learn; the defaults are those of docs/distillation.md.

    Attributes:
        steps: updates of what is learned.
        batch: views an update.
        views: of each image to learn from; the first is the image itself.
        most_images: how many images are used besides for the ranges, those whose bytes hash
            lowest; memory grows with `views * most_images`.
        held_out: share of them that is not learned from, but decides whether the result is
            better than the start, and which step was best.
        checks: how often the held-out images are looked at.
        learned_share: the share of all activations (counted in numbers) that lies behind the
            tensor where learning begins; what lies before keeps the start's integers. 1
            learns the whole network.
        weight_rate: Adam's learning rate for weights, in steps of int8.
        gain_rate: for the logarithm of weight scales.
        shift_rate: for biases, in steps of the layer's result.
        scale_rate: for the logarithm of activation scales.
        zero_point_rate: for zero points, in steps.
        feature_weight: what the relative squared error of the last convolution's result
            counts beside that of the logits.
        seed: of the views and of their order.
    """

    steps: int = 500
    batch: int = 20
    views: int = 24
    most_images: int = 128
    held_out: float = 0.2
    checks: int = 15
    learned_share: float = 0.3
    weight_rate: float = 0.005
    gain_rate: float = 5e-4
    shift_rate: float = 0.01
    scale_rate: float = 1e-3
    zero_point_rate: float = 0.02
    feature_weight: float = 0.3
    seed: int = 0
