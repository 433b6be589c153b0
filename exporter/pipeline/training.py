"""`exporter train`: from flags to a training run, on photographs or on drawn snakes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import join, quote

from rich.console import Console
from rich.markup import escape

from exporter import bundle
from exporter.pipeline import drawn
from exporter.pipeline.request import RequestError
from models.errors import MissingExtraError
from models.recipes import RECIPES, SyntheticRecipe, Variant
from models.training import processes
from models.training.settings import TrainSettings, check, refuse_range_test


@dataclass(frozen=True)
class TrainRequest:
    """Everything that `exporter train` was asked.

    Attributes:
        settings: with all that was given put in; `weights` may be a run's folder.
        synthetic: train on drawn snakes instead of photographs; which, see
            `models.recipes`.
        given: names of those settings that somebody gave: a recipe does not touch them.
    """

    settings: TrainSettings
    synthetic: Variant | None = None
    given: frozenset[str] = frozenset()


def train(request: TrainRequest) -> Path:
    """Train and say what to do next; the checkpoint's path.

    Raises:
        RequestError: flags that exclude each other, an --out that can be no run's folder,
            a file that cannot be read or written.
        UserError: settings or data that cannot be used; see `models.finetune.train`.
        MissingExtraError: lightning or torch is not installed.
    """
    console = Console()
    with _ready(request, console) as settings:
        from models import finetune

        checkpoint = finetune.train(settings, on_message=_printer(console))
        if processes.place().first:
            _say_what_next(checkpoint, settings, console)
    return checkpoint


def find_rate(request: TrainRequest, command: Sequence[str]) -> float | None:
    """Try learning rates and say which is good and how to go on with it.

    Args:
        command: the words after 'exporter', one of which is '--find-lr'.

    Raises:
        As `train`.
    """
    console = Console()
    refuse_range_test(request.settings)
    with _ready(request, console) as settings:
        from models import finetune

        found = finetune.find_rate(settings, on_message=_printer(console))
    rate = found.suggestion
    if rate is None:
        console.print(
            "[bold]No learning rate made the loss fall noticeably.[/] Within so few steps that may "
            "be so with fresh weights; look at lr-range.png, or train with the usual rate."
        )
        return None
    lowest = found.rates[found.lowest]
    console.print(
        f"[bold green]Learning rate {rate:g}[/]: a tenth of {lowest:.2g}, at which the loss was "
        "lowest",
        highlight=False,
    )
    again = [word for word in command if word != "--find-lr"]
    console.print(
        f"Next: exporter {join(again)} --learning-rate {rate:g}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    return rate


@contextlib.contextmanager
def _ready(request: TrainRequest, console: Console) -> Iterator[TrainSettings]:
    """Settings that were checked, the drawn images there; all processes together."""
    settings = request.settings
    _refuse_combinations(settings, request.synthetic)
    with _os_errors_in_words():
        _refuse_place(settings.out)
        _require_packages()
        from models.training.start import continued, weights_file

        settings = replace(settings, weights=weights_file(settings.weights))
        if settings.quantization_aware:
            settings = continued(settings)
        recipe = RECIPES[request.synthetic] if request.synthetic else None
        if recipe is not None:
            settings = drawn.with_recipe(settings, recipe, request.given)
        check(settings)
        with processes.connected(settings):
            processes.alone(lambda: _draw(settings, recipe, console))
            yield settings


def _draw(settings: TrainSettings, recipe: SyntheticRecipe | None, console: Console) -> None:
    """Draw where asked, unless the run cannot begin."""
    from models.training.record import RunFolder

    RunFolder(settings.out).check(settings.resume, settings.force)
    if recipe is not None:
        drawn.draw(settings.out, recipe, console)


def _printer(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(escape(text), highlight=False)


def _refuse_combinations(settings: TrainSettings, synthetic: Variant | None) -> None:
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
    flags = {
        "--validation": settings.validation, "--labels": settings.labels,
        "--images-root": settings.images, "--class-map": settings.class_map,
        "--split": settings.split, "--multi-label": settings.multi_label,
    }  # fmt: skip
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
    """Where the weights are, and the commands that come next."""
    folder = quote(str(_folder_of_images(settings)))
    judging = _first(settings.test) or _first(settings.validation)
    flat = f" --images {quote(str(judging))}" if judging and judging.is_dir() else ""
    held, shown = quote(str(checkpoint)), quote(str(judging or _first(settings.data)))
    root = f" --images {quote(str(settings.images))}" if settings.images else ""
    console.print(f"[bold green]Wrote {escape(str(checkpoint))}[/]", highlight=False)
    for line in (
        f"Next: exporter export {held} --calibration {folder}{flat}",
        f"  or: exporter evaluate {held} --data {shown}{root}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _folder_of_images(settings: TrainSettings) -> Path:
    """Where training images lie, for the ranges of int8."""
    data = _first(settings.data)
    assert data is not None
    return data if data.is_dir() else settings.images or data.parent


def _first(given: Path | tuple[Path, ...] | None) -> Path | None:
    return given[0] if isinstance(given, tuple) else given
