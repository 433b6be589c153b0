"""Training on drawn snakes: what is drawn where, and the settings that suit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from models.recipes import SYNTHETIC, SyntheticRecipe
from models.training.settings import TrainSettings

DATA = "data"


def with_recipe(
    settings: TrainSettings, recipe: SyntheticRecipe, given: frozenset[str]
) -> TrainSettings:
    """The drawn set's folders, labels and recipe, where nobody gave anything else.

    Args:
        given: names of settings that somebody gave.
    """
    from models.data import synthetic

    aware = settings.quantization_aware
    options = _options(settings, recipe)
    own_size = options["input_size"] == recipe.options["input_size"]
    own_size &= aware or "input_size" not in settings.options
    own: dict[str, Any] = {
        "epochs": settings.epochs if aware else recipe.epochs,
        "learning_rate": settings.learning_rate if aware else recipe.learning_rate,
        "train_size": recipe.train_size if own_size else settings.train_size,
        "crop_scale": recipe.crop_scale,
        "jitter": recipe.jitter,
        "vertical_flip": recipe.vertical_flip,
        "patience": recipe.epochs,
        "batch_size": recipe.batch_size,
    }
    data, validation = (settings.out / DATA / name for name in ("train", "validation"))
    if recipe.variant == "multi-label":
        data, validation = data / "labels.csv", validation / "labels.csv"
    return replace(
        settings,
        data=data,
        validation=validation,
        labels=synthetic.LABELS,
        options=options,
        near_bits=-1,  # drawn alike, all of them
        name="drawn-snakes",
        **{name: value for name, value in own.items() if name not in given},
    )


def draw(out: Path, recipe: SyntheticRecipe, console: Console) -> None:
    """Draw the built-in set into the run's folder, unless it lies there."""
    from models.data import synthetic

    species, counted = len(synthetic.LABELS), 0
    with Progress(
        TextColumn("Drawing snakes"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console, transient=True,
    ) as bar:  # fmt: skip
        most = (recipe.train_per_class + recipe.validation_per_class) * species
        task = bar.add_task("", total=most)

        def one() -> None:
            nonlocal counted
            counted += 1
            bar.advance(task)

        _draw_set(out / DATA / "train", recipe, recipe.train_per_class, recipe.train_seed, one)
        # What judges has as many of each species, else the rare ones would hardly count.
        level = replace(recipe, variant="plain") if recipe.variant == "imbalanced" else recipe
        _draw_set(
            out / DATA / "validation", level, recipe.validation_per_class,
            recipe.validation_seed, one,
        )  # fmt: skip
    where = f"{escape(str(out / DATA))}/"
    what = f"Drew {counted} pictures of imaginary snakes in" if counted else "The snakes lie in"
    console.print(f"{what} {where}", highlight=False)


def _draw_set(
    folder: Path, recipe: SyntheticRecipe, count: int, seed: int, one: Callable[[], None]
) -> None:
    from models.data import synthetic

    if recipe.variant == "imbalanced":
        synthetic.draw_imbalanced(folder, count, recipe.ratio, seed, recipe.size, one)
    elif recipe.variant == "multi-label":
        images = count * len(synthetic.LABELS)
        synthetic.draw_multi_label(folder, images, seed, recipe.size, one)
    else:
        synthetic.draw_dataset(folder, count, seed, recipe.size, one)


def _options(settings: TrainSettings, recipe: SyntheticRecipe) -> dict[str, int | float]:
    """The recipe's options as far as they suit the architecture, and those given."""
    from models import zoo

    entry = zoo.get(settings.architecture)
    own = dict(recipe.options) if entry.name == SYNTHETIC.architecture else {}
    sizes = entry.options["input_size"]
    drawn = recipe.options["input_size"]
    size = sizes.default if sizes.choices else max(drawn, sizes.smallest)
    return {**own, "input_size": size, **settings.options}
