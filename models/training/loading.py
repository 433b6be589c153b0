"""The pictures of a run, decoded once, as batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from models.data.labelled import LabelledSet
from models.training.batches import training_loader, validation_loader
from models.training.measuring import EVALUATION_BATCH
from models.training.pictures import decode_resized, decode_squares
from models.training.progress import bar
from models.training.record import RunFolder
from models.training.settings import TrainSettings


def decoded(
    settings: TrainSettings, folder: RunFolder, sets: tuple[LabelledSet, LabelledSet]
) -> tuple[Any, Any]:
    """Loaders of the training and the validation pictures, decoded once.

    Raises:
        DataError: images that cannot be decoded, or no room for them.
    """
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
        validation_loader(judging, targets[1], EVALUATION_BATCH),
    )


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
