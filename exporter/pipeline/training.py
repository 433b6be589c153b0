"""`exporter train`: from flags to a training run, on photographs or on drawn snakes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
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
    options: Mapping[str, int | float],
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    seed: int,
    resume: bool,
    force: bool,
    quantization_aware: bool = False,
) -> Path:
    """Train and say what to do next; the checkpoint's path.

    Raises:
        RequestError: flags that exclude each other, an --out that can be no run's folder,
            a file that cannot be read or written.
        UserError: settings or data that cannot be used; see `models.finetune.train`.
        MissingExtraError: lightning or torch is not installed.
    """
    _refuse_combinations(data, synthetic, validation, labels)
    with _os_errors_in_words():
        _refuse_place(out)
        _require_packages()
        from models import finetune
        from models.training.start import continued, weights_file

        settings = finetune.TrainSettings(
            out=out, data=data, validation=validation, test=test, labels=labels,
            architecture=arch, weights=weights_file(weights),
            options=options,
            epochs=epochs, learning_rate=learning_rate, seed=seed, resume=resume, force=force,
            quantization_aware=quantization_aware,
        )  # fmt: skip
        if quantization_aware:
            settings = continued(settings)
        if synthetic:
            settings = _with_recipe(settings)
        if batch_size is not None:
            settings = replace(settings, batch_size=batch_size)
        return _run(settings, synthetic, Console())


def _run(settings: TrainSettings, draw: bool, console: Console) -> Path:
    """Draw where asked, train, and say what is next; what cannot work is refused first."""
    from models import finetune
    from models.training.record import RunFolder
    from models.training.settings import check

    check(settings)
    RunFolder(settings.out).check(settings.resume, settings.force)
    if draw:
        _draw(settings.out, console)
    checkpoint = finetune.train(
        settings, on_message=lambda text: console.print(escape(text), highlight=False)
    )
    _say_what_next(checkpoint, settings, console)
    return checkpoint


def _refuse_combinations(
    data: Path | None, synthetic: bool, validation: Path | None, labels: Path | None
) -> None:
    if synthetic and data is not None:
        raise RequestError(
            "--data and --synthetic exclude each other.",
            "a run trains on one set",
            "leave --synthetic away to train on your photographs",
        )
    if not synthetic and data is None:
        raise RequestError(
            "Say what to train on.",
            "give either --data DIR or --synthetic",
            "--synthetic draws a small set of imaginary snakes",
        )
    flags = {"--validation": validation, "--labels": labels}
    given = [flag for flag, value in flags.items() if value is not None]
    if synthetic and given:
        raise RequestError(
            f"--synthetic and {' and '.join(given)} exclude each other.",
            "the drawn snakes come with validation pictures and labels of their own",
            f"leave {' and '.join(given)} away, or train on photographs with --data DIR",
        )


def _refuse_place(out: Path) -> None:
    """Refuse an --out that can be no run's folder; whether a run is there is not asked here."""
    if (out / bundle.MANIFEST).is_file():
        raise RequestError(
            f"{out} is an exported bundle.",
            "a training run there would mix with it",
            "choose a folder such as runs/NAME",
        )
    above = next((parent for parent in out.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise RequestError(
            f"{out} cannot be a folder.", f"{above} is a file", "choose another --out"
        )


def _require_packages() -> None:
    for package in ("torch", "torchvision", "lightning", "torchmetrics", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train", "Training")


@contextlib.contextmanager
def _os_errors_in_words() -> Iterator[None]:
    """A file that cannot be read or written is no fault of the program: no traceback."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise RequestError(
            f"{os.fspath(error.filename)} cannot be used.",
            error.strerror or str(error),
            "check --out and the folders of the images",
        ) from error


def _say_what_next(checkpoint: Path, settings: TrainSettings, console: Console) -> None:
    calibration = settings.data if settings.data is not None else settings.out / DATA
    console.print(f"[bold green]Wrote {escape(str(checkpoint))}[/]", highlight=False)
    console.print(
        f"Next: exporter export {checkpoint} --calibration {calibration}"
        + (f" --images {settings.validation}" if settings.validation else ""),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _with_recipe(settings: TrainSettings) -> TrainSettings:
    """The drawn set's folders, labels and recipe, where no flag says else."""
    from models.data import synthetic
    from models.recipes import SYNTHETIC

    aware = settings.quantization_aware
    options = _recipe_options(settings)
    own_size = options["input_size"] == SYNTHETIC.options["input_size"]
    own_size &= aware or "input_size" not in settings.options
    rate = settings.learning_rate
    return replace(
        settings,
        data=settings.out / DATA / "train",
        validation=settings.out / DATA / "validation",
        labels=synthetic.LABELS,
        options=options,
        epochs=SYNTHETIC.epochs if settings.epochs is None and not aware else settings.epochs,
        learning_rate=SYNTHETIC.learning_rate if rate is None and not aware else rate,
        train_size=SYNTHETIC.train_size if own_size else settings.train_size,
        crop_scale=SYNTHETIC.crop_scale,
        jitter=SYNTHETIC.jitter,
        vertical_flip=SYNTHETIC.vertical_flip,
        patience=SYNTHETIC.epochs,
        batch_size=SYNTHETIC.batch_size,
        name="drawn-snakes",
    )


def _recipe_options(settings: TrainSettings) -> dict[str, int | float]:
    """The recipe's options as far as they suit the architecture, and those given."""
    from models import zoo
    from models.recipes import SYNTHETIC

    entry = zoo.get(settings.architecture)
    own = dict(SYNTHETIC.options) if entry.name == SYNTHETIC.architecture else {}
    sizes = entry.options["input_size"]
    drawn = SYNTHETIC.options["input_size"]
    size = sizes.default if sizes.choices else max(drawn, sizes.smallest)
    return {**own, "input_size": size, **settings.options}


def _draw(out: Path, console: Console) -> None:
    """Draw the built-in set into the run's folder, unless it lies there."""
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
                out / DATA / name, count, seed, SYNTHETIC.size, lambda: bar.advance(task)
            )
    console.print(f"Drew {total} imaginary snakes in {escape(str(out / DATA))}/", highlight=False)
