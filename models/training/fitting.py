"""One call of Lightning: how its trainer is set up, and what its endings mean."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from models.training import processes
from models.training.keeper import Keeper
from models.training.library import lightning, torch
from models.training.record import RunFolder
from models.training.settings import (
    TrainingError,
    TrainingInterruptedError,
    TrainSettings,
)
from models.training.task import Task


def device_of(settings: TrainSettings) -> str:
    """'cpu', 'cuda' or 'mps'."""
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device


@contextlib.contextmanager
def on_device(net: nn.Module, settings: TrainSettings) -> Iterator[None]:
    """The network where it will be trained, and afterwards on the CPU."""
    device = device_of(settings)
    net.to(torch.device(device, processes.place().local) if device == "cuda" else device)
    try:
        yield
    finally:
        net.to("cpu")


def precision_of(settings: TrainSettings) -> str:
    """Lightning's name of the precision that is asked for.

    Raises:
        TrainingError: the device cannot compute in it.
    """
    wanted, device = settings.techniques.descent.precision, device_of(settings)
    if wanted == "float32":
        return "32-true"
    if wanted == "fp16":
        if device != "cuda":
            raise _cannot(wanted, device, "half precision is trained on CUDA only", "bf16")
        return "16-mixed"
    if device == "mps":
        raise _cannot(wanted, device, "Lightning mixes precisions on CPU and CUDA only", "float32")
    if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name()
        raise _cannot(wanted, device, f"{name} is older than bfloat16", "fp16")
    return "bf16-mixed"


def _cannot(precision: str, device: str, why: str, instead: str) -> TrainingError:
    return TrainingError(
        f"--precision {precision} is not for the device '{device}'.",
        why,
        f"take --precision {instead}, or leave it away",
    )


def trainer_of(
    settings: TrainSettings, folder: RunFolder, callbacks: list[Any], **changes: Any
) -> Any:
    """Lightning's trainer for the epochs of `settings.recipe`, on all processes there are.

    Args:
        changes: of the arguments of Lightning's trainer.
    """
    descent, device, place = settings.techniques.descent, device_of(settings), processes.place()
    usual = {
        "max_epochs": settings.recipe.epochs,
        "accelerator": device,
        "devices": place.machine_count,
        "num_nodes": place.count // place.machine_count,
        "strategy": "ddp" if place.count > 1 else "auto",
        "sync_batchnorm": place.count > 1 and device == "cuda",
        "precision": precision_of(settings),
        "gradient_clip_val": descent.clip_norm or None,
        "gradient_clip_algorithm": "norm",
        "callbacks": callbacks,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "default_root_dir": folder.path,
    }
    return lightning.Trainer(**(usual | changes))


def run(
    trainer: Any, task: Task, loaders: tuple[Any, Any], keeper: Keeper, last: Path | None
) -> None:
    """Train.

    Args:
        last: what `Keeper` left of the same epochs, to go on from.

    Raises:
        TrainingInterruptedError: Ctrl-C.
        TrainingError: it diverged, or the disk is full.
    """
    try:
        with disk_errors_in_words(keeper.folder), interrupt_kept():
            trainer.fit(task, *loaders, ckpt_path=last, weights_only=True)
    except SystemExit as error:  # Lightning's answer to Ctrl-C
        raise _interrupted(keeper) from error
    except ArithmeticError as error:
        raise TrainingError(
            f"The training diverged in epoch {len(keeper.epochs) + 1}.",
            str(error),
            "begin anew with a lower --learning-rate",
        ) from error
    if trainer.state.status == "interrupted":
        raise _interrupted(keeper)


@contextlib.contextmanager
def disk_errors_in_words(folder: RunFolder) -> Iterator[None]:
    """A full disk is no fault of the program.

    Raises:
        TrainingError: there is no room left.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise TrainingError(
            f"{folder.path} cannot be written.",
            error.strerror or str(error),
            "free some space and go on with the same command and --resume",
        ) from error


def _interrupted(keeper: Keeper) -> TrainingInterruptedError:
    done = len(keeper.epochs)
    kept = (
        f"the best weights so far are {keeper.folder.checkpoint} ({keeper.best_in_words()})"
        if keeper.best is not None
        else "no epoch was finished, so there are no weights yet"
    )
    return TrainingInterruptedError(
        f"The training was interrupted after {done} of {keeper.total} epochs.",
        kept,
        "go on with the same command and --resume",
    )


@contextlib.contextmanager
def interrupt_kept() -> Iterator[None]:
    """What Ctrl-C does is afterwards what it was: Lightning leaves it ignored."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's notes on hardware and its hints, which are no news here."""
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
