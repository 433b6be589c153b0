"""The pictures of a run, decoded once, as batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from models.data.labelled import LabelledSet
from models.training import processes
from models.training.batches import targets_of, training_loader, validation_loader
from models.training.measuring import EVALUATION_BATCH
from models.training.pictures import Pictures, decode_resized, decode_squares
from models.training.progress import bar
from models.training.settings import TrainSettings


@dataclass(frozen=True, eq=False)
class Decoded:
    """The training pictures, resized, and the validation pictures as the model takes them."""

    sets: tuple[LabelledSet, LabelledSet]
    training: Pictures
    validation: Pictures

    def loaders(self, settings: TrainSettings) -> tuple[Any, Any]:
        """Batches for training and validation."""
        targets = [targets_of(part) for part in self.sets]
        return (
            training_loader(self.training, targets[0], settings),
            validation_loader(self.validation, targets[1], EVALUATION_BATCH),
        )


def decode(settings: TrainSettings, folder: Path, sets: tuple[LabelledSet, LabelledSet]) -> Decoded:
    """Decode the training and the validation pictures, once.

    Args:
        folder: where there is room for those that do not fit into memory.

    Raises:
        DataError: images that cannot be decoded, or no room for them.
    """
    rule = settings.preprocessing
    limit = settings.memory_limit // processes.place().machine_count
    paths = [[item.path for item in part.items] for part in sets]
    with (
        scratch_in(folder),
        bar(len(paths[0]) + len(paths[1]), settings.progress) as shown,
    ):
        one = partial(shown.advance, "Decoding the images")
        learned = decode_resized(paths[0], rule, limit, folder, one)
        judging = decode_squares(paths[1], rule, limit, folder, one)
    return Decoded(sets, learned, judging)


@contextlib.contextmanager
def scratch_in(path: Path) -> Iterator[None]:
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
