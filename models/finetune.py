"""Train a classifier on folders of photographs, from published weights or from nothing.

    checkpoint = train(TrainSettings(out=Path("runs/flowers"), data=Path("flowers"),
                                     weights="imagenet"))

The result takes raw pixels by way of `pixel / 127.5 - 1`, see `models.normalization`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from models import images, zoo
from models.checkpoint import build, load_checkpoint
from models.contract import Contract, Label, load_labels
from models.data.folder import load_folder, refuse_duplicates, refuse_other_classes
from models.data.labelled import LabelledSet
from models.data.split import load_given_split, load_split
from models.errors import UserError
from models.training.progress import bar
from models.training.record import RunFolder, describe
from models.training.settings import (
    FINE_TUNE,
    FROM_SCRATCH,
    Recipe,
    TrainingError,
    TrainSettings,
    check,
)

__all__ = [
    "FINE_TUNE",
    "FROM_SCRATCH",
    "Recipe",
    "TrainSettings",
    "TrainingError",
    "TrainingInterruptedError",
    "measure",
    "settle_labels",
    "train",
]
_EVALUATION_BATCH = 32
Say = Callable[[str], None]


class TrainingInterruptedError(UserError):
    """Somebody stopped the training; it can be resumed."""

    exit_code = 130


def train(
    settings: TrainSettings,
    data: tuple[LabelledSet, LabelledSet] | None = None,
    on_message: Say = lambda text: None,
) -> Path:
    """Train, and keep the best epoch's weights.

    Args:
        data: training and validation images; read from the settings' folders if None.
        on_message: told what happens, one line each.

    Returns:
        The path of the checkpoint, `checkpoint.safetensors` in `settings.out`.

    Raises:
        UserError: settings, data, labels or weights that cannot be used; all of it
            is checked, and every image decoded, before the first epoch.
        TrainingInterruptedError: Ctrl-C; what is finished is kept.
    """
    if settings.quantization_aware:
        from models.training.start import continued

        settings = continued(settings)
    check(settings)
    folder = RunFolder(Path(settings.out))
    folder.check(settings.resume, settings.force)
    _refuse_own_weights(settings, folder)
    train_set, validation_set = data or _read_data(settings)
    test_set = _read_test(settings, train_set, validation_set)
    labels = settle_labels(settings.labels, train_set.classes)
    description = describe(settings, labels, train_set, validation_set)
    if settings.resume:
        folder.compare(description)
        if folder.finished():
            on_message(f"The run in {folder.path} is finished already.")
            return folder.checkpoint
    on_message(
        f"{len(labels)} classes, {len(train_set)} training and "
        f"{len(validation_set)} validation images"
    )
    with _quiet():
        history = _fit(
            settings, folder, description, labels, (train_set, validation_set), on_message
        )
    if test_set is not None:
        accuracy = measure(folder.checkpoint, test_set)
        history["test_accuracy"] = round(accuracy, 5)
        on_message(f"test accuracy {accuracy:.2%} on {len(test_set)} images")
    folder.write_history(**history, finished=True)
    return folder.checkpoint


def measure(checkpoint: Path, test_set: LabelledSet) -> float:
    """Top-1 accuracy of a checkpoint on labelled images, read as every artifact reads them.

    Args:
        test_set: its classes are in the order of the checkpoint's labels.
    """
    import torch

    from models.classifier import Classifier

    found = load_checkpoint(checkpoint)
    classifier = Classifier(build(found), found.contract).eval()
    paths = [item.path for item in test_set.items]
    targets = torch.tensor([item.class_index for item in test_set.items])
    answers = []
    with torch.inference_mode():
        rule = found.contract.preprocessing
        for pixels in images.load_batches(paths, rule, _EVALUATION_BATCH):
            answers.append(classifier(torch.from_numpy(pixels)).argmax(dim=1))
    return float((torch.cat(answers) == targets).double().mean())


def settle_labels(
    given: Path | tuple[Label, ...] | None, classes: tuple[str, ...]
) -> tuple[Label, ...]:
    """One label for each class folder, in the folders' order.

    Raises:
        TrainingError: the names are not exactly the folders' names.
        ContractError: the labels file cannot be read.
    """
    if given is None:
        return tuple(Label(name) for name in classes)
    labels = given if isinstance(given, tuple) else load_labels(given)
    by_name = {label.name: label for label in labels}
    lacking = [name for name in classes if name not in by_name]
    spare = [name for name in by_name if name not in classes]
    if lacking or spare or len(by_name) != len(labels):
        found = [
            f"{what}: {', '.join(names[:5])}"
            for what, names in (("without a label", lacking), ("without a folder", spare))
            if names
        ]
        raise TrainingError(
            "The labels do not match the class folders.",
            "; ".join(found) or "a label is there twice",
            "name each label exactly as its folder",
        )
    return tuple(by_name[name] for name in classes)


def _refuse_own_weights(settings: TrainSettings, folder: RunFolder) -> None:
    """Refuse to begin with the weights of the very run that would be replaced.

    Raises:
        TrainingError: `weights` is the checkpoint in `out`.
    """
    weights = Path(settings.weights)
    if settings.resume or not (weights.is_file() and folder.checkpoint.is_file()):
        return
    if weights.samefile(folder.checkpoint):
        raise TrainingError(
            f"{folder.path} holds the weights that the run would begin with.",
            "it would replace them",
            "give --out a folder of its own",
        )


def _read_data(settings: TrainSettings) -> tuple[LabelledSet, LabelledSet]:
    if settings.data is None:
        raise TrainingError("There is no data.", "no folder was given", "give --data DIR")
    if settings.validation is not None:
        return load_given_split(settings.data, settings.validation)
    return load_split(settings.data, settings.validation_fraction, settings.seed)


def _read_test(
    settings: TrainSettings, train_set: LabelledSet, validation_set: LabelledSet
) -> LabelledSet | None:
    if settings.test is None:
        return None
    test_set = load_folder(settings.test)
    refuse_other_classes(train_set, test_set)
    refuse_duplicates(train_set, validation_set, test_set)
    return test_set


def _fit(
    settings: TrainSettings,
    folder: RunFolder,
    description: dict[str, Any],
    labels: tuple[Label, ...],
    sets: tuple[LabelledSet, LabelledSet],
    on_message: Say,
) -> dict[str, Any]:
    """Everything that needs torch; the history of the run."""
    from models.training import adapting
    from models.training.keeper import Keeper, Meter
    from models.training.library import lightning
    from models.training.start import starting_network
    from models.training.task import ACCURACY, Task

    contract = Contract(
        labels, settings.preprocessing, name=settings.name or folder.path.resolve().name
    )
    notes: dict[str, Any] = {}
    before = pictures = None
    net = starting_network(settings, labels, on_message)
    loaders = _decode(settings, folder, sets)
    if settings.quantization_aware:
        contract, notes = adapting.inherited(settings.weights, contract)
        pictures = adapting.calibration_pictures(sets[0], settings.preprocessing, folder.path)
    steps = len(loaders[0]) * settings.recipe.epochs
    stopping = lightning.pytorch.callbacks.EarlyStopping(
        ACCURACY, mode="max", patience=settings.patience, check_on_train_epoch_end=False
    )
    task = Task(net, zoo.get(settings.architecture).head, settings, steps, pictures)
    if not settings.resume:
        folder.begin(description)
    if folder.last.exists():
        on_message(f"resuming from {folder.last}")
    if settings.quantization_aware:
        before = adapting.judged(task, loaders[1])
        on_message(adapting.in_words("before", before))
    with bar(steps, settings.progress) as shown:
        keeper = Keeper(folder, settings, contract, shown.above(on_message), notes)
        if before is not None and not folder.last.exists():
            keeper.begin_with(task, before["int8"]["accuracy"], before["int8"]["loss"])
        trainer = _trainer(settings, folder, [stopping, keeper, Meter(shown)])
        _run(trainer, task, loaders, folder, keeper)
    history = {"epochs": keeper.epochs, "best": keeper.best}
    if before is not None:
        task.net.load_state_dict(dict(load_checkpoint(folder.checkpoint).state))
        after = adapting.judged(task, loaders[1])
        on_message(adapting.in_words("after", after, keeper.best))
        history["quantization_aware"] = {"before": before, "after": after}
    return history


def _decode(
    settings: TrainSettings, folder: RunFolder, sets: tuple[LabelledSet, LabelledSet]
) -> tuple[Any, Any]:
    """Loaders of the training and the validation pictures, decoded once."""
    from models.training.batches import training_loader, validation_loader
    from models.training.pictures import decode_resized, decode_squares

    rule, limit = settings.preprocessing, settings.memory_limit
    paths = [[item.path for item in part.items] for part in sets]
    targets = [[item.class_index for item in part.items] for part in sets]
    with (
        _scratch_in(folder.path),
        bar(len(paths[0]) + len(paths[1]), settings.progress) as shown,
    ):
        one = partial(shown.advance, "Decoding the images")
        learned = decode_resized(paths[0], rule, limit, folder.path, one)
        judging = decode_squares(paths[1], rule, limit, folder.path, one)
    return (
        training_loader(learned, targets[0], settings),
        validation_loader(judging, targets[1], _EVALUATION_BATCH),
    )


def _trainer(settings: TrainSettings, folder: RunFolder, callbacks: list[Any]) -> Any:
    from models.training.library import lightning, torch

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return lightning.Trainer(
        max_epochs=settings.recipe.epochs,
        accelerator=device,
        devices=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
    )


def _run(
    trainer: Any,
    task: Any,
    loaders: tuple[Any, Any],
    folder: RunFolder,
    keeper: Any,
) -> None:
    last = folder.last if folder.last.exists() else None
    handler = _interrupt_handler()
    try:
        trainer.fit(task, *loaders, ckpt_path=last, weights_only=True)
    except SystemExit as error:  # Lightning's answer to Ctrl-C
        raise _interrupted(folder, keeper, trainer) from error
    except ArithmeticError as error:
        raise TrainingError(
            f"The training diverged in epoch {trainer.current_epoch + 1}.",
            str(error),
            "begin anew with a lower --learning-rate",
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TrainingError(
            f"{folder.path} cannot be written.",
            error.strerror or str(error),
            "free some space and go on with the same command and --resume",
        ) from error
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)  # Lightning leaves Ctrl-C ignored
    if trainer.state.status == "interrupted":
        raise _interrupted(folder, keeper, trainer)


def _interrupted(folder: RunFolder, keeper: Any, trainer: Any) -> TrainingInterruptedError:
    done = len(keeper.epochs)
    kept = (
        f"the best weights so far are {folder.checkpoint} "
        f"(validation accuracy {keeper.best['validation_accuracy']:.2%})"
        if keeper.best is not None
        else "no epoch was finished, so there are no weights yet"
    )
    return TrainingInterruptedError(
        f"The training was interrupted after {done} of {trainer.max_epochs} epochs.",
        kept,
        "go on with the same command and --resume",
    )


def _interrupt_handler() -> Any:
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.getsignal(signal.SIGINT)


@contextlib.contextmanager
def _scratch_in(path: Path) -> Iterator[None]:
    """Make a folder; when the block fails, take it away again if it is new and empty."""
    existed = path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notes on hardware and its hints, which are no news here."""
    import models.training.library  # noqa: F401 - importing Lightning sets its log level

    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            warnings.filterwarnings("ignore", message=".*num_workers.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
