"""The recipe of the built-in model: what is drawn and how long it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class SyntheticRecipe:
    """How the model of the drawn snakes is made.

    Attributes:
        architecture, options: as in the zoo.
        train_per_class, validation_per_class: pictures drawn of each species.
        train_seed, validation_seed: different, so that no picture is in both.
        size: side of the drawn pictures in pixels; not below the shorter side that
            the model's preprocessing resizes to, so that nothing is enlarged.
        epochs: passes over the training pictures.
        learning_rate: peak of the one-cycle schedule.
        batch_size: pictures a step.
        train_size, crop_scale, jitter: the augmentation, milder than for photographs:
            a crop that shows a few scales of a snake shows no pattern.
        vertical_flip: snakes are seen from above, where up and down mean nothing.
    """

    architecture: str = "mobilenet_v2"
    options: Mapping[str, int | float] = field(
        default_factory=lambda: MappingProxyType({"width_mult": 0.5, "input_size": 80})
    )
    train_per_class: int = 250
    validation_per_class: int = 40
    train_seed: int = 1
    validation_seed: int = 2
    size: int = 112
    epochs: int = 52
    learning_rate: float = 4e-3
    batch_size: int = 32
    train_size: int = 80
    crop_scale: tuple[float, float] = (0.6, 1.0)
    jitter: float = 0.1
    vertical_flip: bool = True


SYNTHETIC = SyntheticRecipe()
