"""The curves of a run for TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from models.training.keeper import Keeper
from models.training.library import lightning
from models.training.task import Task

_JUDGED = "validation_"


class Board(lightning.Callback):
    """Writes losses, the learning rate and the validation's figures, over steps of the whole run.

    A run that is resumed goes on with the same curves: what an interrupted epoch had written
    is left out where the curves are read.

    Args:
        folder: for the event files.
        keeper: whose rows are written; it has to stand before this callback.
        on_message: told once if there is no package 'tensorboard'.
    """

    def __init__(self, folder: Path, keeper: Keeper, on_message: Callable[[str], None]) -> None:
        self._folder = folder
        self._keeper = keeper
        self._say = on_message
        self._writer: Any = None
        self._missing = False
        self._before = 0  # steps of the stages that are finished
        self._done = 0  # steps of the whole run

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._done = int(state_dict["steps"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Task) -> None:
        self._before = self._done - trainer.global_step
        if self._writer is None and not self._missing:
            self._open()

    def _open(self) -> None:
        writer = _summary_writer()
        if writer is None:
            self._missing = True
            self._say("no curves for TensorBoard: the package 'tensorboard' is not installed")
            return
        self._writer = writer(self._folder, purge_step=self._done + 1 if self._done else None)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Task, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._done = self._before + trainer.global_step
        if self._writer is not None:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._writer.add_scalar("training/learning_rate", rate, self._done)
            self._writer.add_scalar("training/step_loss", pl_module.batch_loss, self._done)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Task) -> None:
        if self._writer is None:
            return
        row = self._keeper.epochs[-1]
        self._writer.add_scalar("training/loss", row["training_loss"], self._done)
        for name, value in row.items():
            if name.startswith(_JUDGED):
                tag = f"validation/{name.removeprefix(_JUDGED)}"
                self._writer.add_scalar(tag, value, self._done)
        self._writer.flush()

    def close(self) -> None:
        """The last curves are written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _summary_writer() -> Any:
    """torch's SummaryWriter; None where TensorBoard is not installed.

    Where TensorFlow is installed, TensorBoard would load it, for seconds, to write a file.
    That it looks for a module of this name, which says not to, is its own arrangement.
    """
    if "tensorflow" not in sys.modules:
        name = "tensorboard.compat.notf"
        sys.modules.setdefault(name, ModuleType(name))
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter
