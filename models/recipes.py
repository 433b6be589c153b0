"""The recipes of the built-in models: what is drawn and how long it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

Variant = Literal["plain", "imbalanced", "multi-label"]


@dataclass(frozen=True)
class SyntheticRecipe:
    """How the model of the drawn snakes is made.

    Attributes:
        architecture, options: as in the zoo.
        variant: 'plain'; 'imbalanced', with a long tail; 'multi-label', with none to three
            snakes in a picture.
        train_per_class, validation_per_class: pictures drawn of each species; of the
            commonest where `variant` is 'imbalanced'. Of a multi-label set there are so
            many times the number of species.
        ratio: how many times as many training pictures the commonest species has as the
            rarest, of an imbalanced set; what judges has as many of each.
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
    variant: Variant = "plain"
    train_per_class: int = 250
    validation_per_class: int = 40
    ratio: float = 1.0
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
IMBALANCED = replace(SYNTHETIC, variant="imbalanced", ratio=50.0)
# Several snakes share a picture, so each is smaller: larger pictures. A crop that cuts one
# off would leave a label without its snake.
MULTI_LABEL = replace(
    SYNTHETIC,
    variant="multi-label",
    options=MappingProxyType({"width_mult": 0.5, "input_size": 112}),
    train_per_class=300,
    validation_per_class=50,
    size=128,
    epochs=40,
    train_size=112,
    crop_scale=(0.85, 1.0),
)
RECIPES: Mapping[Variant, SyntheticRecipe] = MappingProxyType(
    {each.variant: each for each in (SYNTHETIC, IMBALANCED, MULTI_LABEL)}
)
