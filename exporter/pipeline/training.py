"""`exporter train`: from flags to a training run, on photographs or on drawn snakes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from exporter import bundle
from exporter.pipeline.request import RequestError
from models.errors import MissingExtraError
from models.training.settings import TrainSettings, check

DATA = "data"


@dataclass(frozen=True)
class TrainRequest:
    """Everything that `exporter train` was asked.

    Attributes:
        settings: with all that was given put in; `weights` may be a run's folder.
        synthetic: train on drawn snakes instead of photographs.
        given: names of those settings that somebody gave: a recipe does not touch them.
    """

    settings: TrainSettings
    synthetic: bool = False
    given: frozenset[str] = frozenset()


def train(request: TrainRequest) -> Path:
    """Train and say what to do next; the checkpoint's path.

    Raises:
        RequestError: flags that exclude each other, an --out that can be no run's folder,
            a file that cannot be read or written.
        UserError: settings or data that cannot be used; see `models.finetune.train`.
        MissingExtraError: lightning or torch is not installed.
    """
    settings = request.settings
    _refuse_combinations(settings, request.synthetic)
    with _os_errors_in_words():
        _refuse_place(settings.out)
        _require_packages()
        from models.training.start import continued, weights_file

        settings = replace(settings, weights=weights_file(settings.weights))
        if settings.quantization_aware:
            settings = continued(settings)
        if request.synthetic:
            settings = _with_recipe(settings, request.given)
        return _run(settings, request.synthetic, Console())


def _run(settings: TrainSettings, draw: bool, console: Console) -> Path:
    """Draw where asked, train, and say what is next; what cannot work is refused first."""
    from models import finetune
    from models.training.record import RunFolder

    check(settings)
    RunFolder(settings.out).check(settings.resume, settings.force)
    if draw:
        _draw(settings.out, console)
    checkpoint = finetune.train(
        settings, on_message=lambda text: console.print(escape(text), highlight=False)
    )
    _say_what_next(checkpoint, settings, console)
    return checkpoint


def _refuse_combinations(settings: TrainSettings, synthetic: bool) -> None:
    if synthetic and settings.data is not None:
        raise RequestError(
            "--data and --synthetic exclude each other.",
            "a run trains on one set",
            "leave --synthetic away to train on your photographs",
        )
    if not synthetic and settings.data is None:
        raise RequestError(
            "Say what to train on.",
            "give either --data DIR or --synthetic",
            "--synthetic draws a small set of imaginary snakes",
        )
    flags = {"--validation": settings.validation, "--labels": settings.labels}
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
    validation = _first(settings.validation)
    calibration = _first(settings.data) or settings.out / DATA
    if not calibration.is_dir():  # a table or COCO file: its images are what is wanted
        calibration = settings.images or calibration.parent
    images = f" --images {quote(str(validation))}" if validation and validation.is_dir() else ""
    console.print(f"[bold green]Wrote {escape(str(checkpoint))}[/]", highlight=False)
    held = quote(str(checkpoint))
    lines = [
        f"Next: exporter export {held} --calibration {quote(str(calibration))}{images}",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _first(given: Path | tuple[Path, ...] | None) -> Path | None:
    return given[0] if isinstance(given, tuple) else given


def _with_recipe(settings: TrainSettings, given: frozenset[str]) -> TrainSettings:
    """The drawn set's folders, labels and recipe, where nobody gave anything else."""
    from models.data import synthetic
    from models.recipes import SYNTHETIC

    aware = settings.quantization_aware
    options = _recipe_options(settings)
    own_size = options["input_size"] == SYNTHETIC.options["input_size"]
    own_size &= aware or "input_size" not in settings.options
    recipe: dict[str, Any] = {
        "epochs": settings.epochs if aware else SYNTHETIC.epochs,
        "learning_rate": settings.learning_rate if aware else SYNTHETIC.learning_rate,
        "train_size": SYNTHETIC.train_size if own_size else settings.train_size,
        "crop_scale": SYNTHETIC.crop_scale,
        "jitter": SYNTHETIC.jitter,
        "vertical_flip": SYNTHETIC.vertical_flip,
        "patience": SYNTHETIC.epochs,
        "batch_size": SYNTHETIC.batch_size,
    }
    return replace(
        settings,
        data=settings.out / DATA / "train",
        validation=settings.out / DATA / "validation",
        labels=synthetic.LABELS,
        options=options,
        near_bits=-1,  # drawn alike, all of them
        name="drawn-snakes",
        **{name: value for name, value in recipe.items() if name not in given},
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
