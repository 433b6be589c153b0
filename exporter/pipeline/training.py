"""`exporter train`: from flags to a training run, on photographs or on drawn snakes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from exporter import bundle
from exporter.pipeline.request import RequestError
from models.errors import MissingExtraError

if TYPE_CHECKING:
    from models.finetune import TrainSettings

DATA = "data"


def train(
    *,
    out: Path,
    data: Path | None,
    synthetic: bool,
    validation: Path | None,
    test: Path | None,
    labels: Path | None,
    arch: str,
    weights: str,
    width: float | None,
    input_size: int | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    seed: int,
    resume: bool,
    force: bool,
) -> Path:
    """Train and say what to do next; the checkpoint's path.

    Raises:
        RequestError: neither or both of data and synthetic.
        MissingExtraError: lightning or torch is not installed.
    """
    if synthetic == (data is not None):
        raise RequestError(
            "Say what to train on.",
            "give either --data DIR or --synthetic",
            "--synthetic draws a small set of imaginary snakes",
        )
    if (out / bundle.MANIFEST).is_file():
        raise RequestError(
            f"{out} is an exported bundle.",
            "a training run there would mix with it",
            "choose a folder such as runs/NAME",
        )
    for package in ("torch", "torchvision", "lightning", "torchmetrics", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train", "Training")
    from models import finetune

    options = {"width_mult": width, "input_size": input_size}
    settings = finetune.TrainSettings(
        out=out,
        data=data,
        validation=validation,
        test=test,
        labels=labels,
        architecture=arch,
        options={key: value for key, value in options.items() if value is not None},
        weights=weights,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        resume=resume,
        force=force,
    )
    console = Console()
    if synthetic:
        settings = _with_drawn_snakes(settings, console)
    if batch_size is not None:
        settings = replace(settings, batch_size=batch_size)
    checkpoint = finetune.train(
        settings, on_message=lambda text: console.print(escape(text), highlight=False)
    )
    calibration = settings.data if settings.data is not None else out / DATA
    console.print(f"[bold green]Wrote {escape(str(checkpoint))}[/]", highlight=False)
    console.print(
        f"Next: exporter export {checkpoint} --calibration {calibration}"
        + (f" --images {settings.validation}" if settings.validation else ""),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return checkpoint


def _with_drawn_snakes(settings: TrainSettings, console: Console) -> TrainSettings:
    """Draw the built-in set into the run's folder and take its recipe where no flag says else."""
    from models.data import synthetic
    from models.recipes import SYNTHETIC

    folders = {
        "train": (SYNTHETIC.train_per_class, SYNTHETIC.train_seed),
        "validation": (SYNTHETIC.validation_per_class, SYNTHETIC.validation_seed),
    }
    total = sum(count for count, _ in folders.values()) * len(synthetic.LABELS)
    with Progress(
        TextColumn("Drawing snakes"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=total)
        for name, (count, seed) in folders.items():
            synthetic.draw_dataset(
                settings.out / DATA / name, count, seed, SYNTHETIC.size, lambda: bar.advance(task)
            )
    console.print(f"Drew {total} imaginary snakes in {settings.out / DATA}/", highlight=False)
    return replace(
        settings,
        data=settings.out / DATA / "train",
        validation=settings.out / DATA / "validation",
        labels=synthetic.LABELS,
        options=settings.options or dict(SYNTHETIC.options),
        epochs=SYNTHETIC.epochs if settings.epochs is None else settings.epochs,
        learning_rate=settings.learning_rate or SYNTHETIC.learning_rate,
        train_size=settings.train_size if settings.options else SYNTHETIC.train_size,
        crop_scale=SYNTHETIC.crop_scale,
        jitter=SYNTHETIC.jitter,
        vertical_flip=SYNTHETIC.vertical_flip,
        patience=SYNTHETIC.epochs,
        batch_size=SYNTHETIC.batch_size,
        name="drawn-snakes",
    )
