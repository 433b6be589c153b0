"""The Lightning callback that keeps the best weights and the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from models.checkpoint import Checkpoint, save_checkpoint
from models.contract import Contract
from models.training.library import lightning
from models.training.progress import Bar
from models.training.record import RunFolder
from models.training.settings import TrainSettings
from models.training.task import ACCURACY, Task


class Keeper(lightning.Callback):
    """After each epoch: a row of metrics, the weights if they are the best, `last.ckpt`.

    The best epoch has the highest validation accuracy, of several the lowest
    validation loss.

    Args:
        notes: for the checkpoint, on how it was trained.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: TrainSettings,
        contract: Contract,
        on_message: Callable[[str], None],
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._contract = contract
        self._say = on_message
        self._notes = dict(notes or {})
        self._started = 0.0
        self.epochs: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self.best = list(state_dict["epochs"]), state_dict["best"]

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Task) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Task) -> None:
        metrics = trainer.callback_metrics
        row = {
            "epoch": trainer.current_epoch + 1,
            "training_loss": round(pl_module.training_loss(), 5),
            "validation_loss": round(float(metrics["validation_loss"]), 5),
            "validation_accuracy": round(float(metrics[ACCURACY]), 5),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.perf_counter() - self._started, 2),
        }
        self.epochs.append(row)
        better = self.best is None or _rank(row) > _rank(self.best)
        if better:
            self._keep(row, pl_module)
        self._folder.write_history(self.epochs, best=self.best, finished=False)
        partial = self._folder.last.with_name(self._folder.last.name + ".partial")
        trainer.save_checkpoint(partial)
        partial.replace(self._folder.last)
        self._say(
            f"epoch {row['epoch']}/{self._settings.recipe.epochs}: "
            f"loss {row['training_loss']:.3f}, "
            f"validation accuracy {row['validation_accuracy']:.2%}"
            + (" (best)" if better else "")
            + f", {row['seconds']:.0f} s"
        )

    def begin_with(self, task: Task, accuracy: float, loss: float) -> None:
        """Let the weights that a run begins with be the best until an epoch is better."""
        row = {"epoch": 0, "validation_loss": loss, "validation_accuracy": accuracy}
        self._keep(row, task)

    def _keep(self, row: dict[str, Any], task: Task) -> None:
        self.best = row
        checkpoint = Checkpoint(
            self._settings.architecture,
            self._settings.options,
            task.net.state_dict(),
            self._contract,
            self._notes,
        )
        save_checkpoint(checkpoint, self._folder.checkpoint)


class Meter(lightning.Callback):
    """Moves the progress bar."""

    def __init__(self, shown: Bar) -> None:
        self._bar = shown

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Task, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        epoch = f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        text = f"{epoch}, loss {pl_module.training_loss():.3f}"
        self._bar.advance(text, trainer.global_step)


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    return row["validation_accuracy"], -row["validation_loss"]
