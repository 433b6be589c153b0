"""Fit a checkpoint's temperature on labelled photographs, and store it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exporter.evaluate.photographs import Photograph, Photographs, truth_of
from exporter.evaluate.running import Broken, decoded
from exporter.prove.opened import one_line
from models import calibration
from models.errors import UserError
from models.images import ImageError, Pixels

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

__all__ = ["Fitted", "fit"]

_BATCH = 16


@dataclass(frozen=True)
class Fitted:
    """What was fitted.

    Attributes:
        temperature: the new one, of the raw logits.
        before: the one that the checkpoint had.
        note: why it is not the minimum of the loss; '' where it is.
        error: calibration error of the raw logits, a temperature of 1.
        error_before: with the temperature that the checkpoint had.
        error_after: where each half of the images was given the other half's temperature;
            None for a single image.
        images: how many were used.
        broken: those that were left out.
    """

    temperature: float
    before: float
    note: str
    error: float
    error_before: float
    error_after: float | None
    images: int
    broken: tuple[Broken, ...]


def fit(
    path: Path,
    photographs: Photographs,
    to: Path,
    on_image: Callable[[], None] | None = None,
) -> Fitted:
    """Fit the temperature of a checkpoint and write it with that.

    Args:
        path: the checkpoint.
        photographs: of validation: not those that it was trained on.
        to: where the checkpoint goes; may be `path`.

    Raises:
        UserError: no photograph can be decoded, or the checkpoint cannot be read or written.
        MissingExtraError: torch is not installed.
    """
    from models.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(path)
    logits, whole, broken = _logits(checkpoint, photographs.each, on_image)
    activation = checkpoint.contract.activation
    truth = truth_of(tuple(whole), len(checkpoint.contract.labels), photographs.many)
    found = calibration.fit(logits, truth, activation)
    halves = calibration.cross_validated(logits, truth, activation)

    def error(temperature: float) -> float:
        table = calibration.activate(logits, activation, temperature)
        return calibration.expected_calibration_error(table, truth)

    save_checkpoint(replace(checkpoint, temperature=found.temperature), to)
    return Fitted(
        found.temperature,
        checkpoint.temperature,
        found.note,
        error(1.0),
        error(checkpoint.temperature),
        halves.after if halves is not None else None,
        len(whole),
        tuple(broken),
    )


def _logits(
    checkpoint: Checkpoint, photographs: Sequence[Photograph], on_image: Callable[[], None] | None
) -> tuple[npt.NDArray[np.float32], list[Photograph], list[Broken]]:
    """The network's logits without any temperature, float32 `[n, classes]`."""
    import torch

    from models.checkpoint import build
    from models.classifier import Classifier

    raw = replace(checkpoint, temperature=1.0)
    net = Classifier(build(raw), checkpoint.contract).eval()
    whole, broken, rows = [], [], []
    waiting: list[Pixels] = []

    def ask() -> None:
        with torch.inference_mode():
            rows.append(net.logits(torch.from_numpy(np.stack(waiting))).numpy())
        waiting.clear()

    for photograph, pixels in decoded(photographs, checkpoint.contract):
        if isinstance(pixels, ImageError):
            broken.append(Broken(photograph.name, one_line(pixels)))
        else:
            whole.append(photograph)
            waiting.append(pixels)
            if len(waiting) == _BATCH:
                ask()
        if on_image is not None:
            on_image()
    if waiting:
        ask()
    if not whole:
        raise UserError(
            "None of the photographs can be decoded.",
            f"{broken[0].name}: {broken[0].reason}" if broken else "there is none",
            "copy them again from where they came",
        )
    return np.concatenate(rows), whole, broken
