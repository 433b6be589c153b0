"""The Lightning callback that keeps the best weights and the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from models.checkpoint import Checkpoint, save_checkpoint
from models.contract import Contract
from models.training import processes
from models.training.averaging import kept_state
from models.training.judging import ACCURACY, LOSS, MACRO_F1, MEAN_AVERAGE_PRECISION, criterion_of
from models.training.judging import in_words as figure_in_words
from models.training.library import lightning
from models.training.progress import Bar
from models.training.record import RunFolder
from models.training.settings import TrainSettings
from models.training.stages import Stage
from models.training.task import Task


class Keeper(lightning.Callback):
    """After each epoch: a row of metrics, the weights if they are the best, `last.ckpt`.

    The best epoch has the highest figure of the kind asked for (`models.training.techniques.
    Keeping`), of several the lowest validation loss.

    Args:
        settings: of the run.
        total: epochs of all stages together.
        notes: for the checkpoint, on how it was trained.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: TrainSettings,
        contract: Contract,
        on_message: Callable[[str], None],
        total: int,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.total = total
        self._settings = settings
        self._contract = contract
        self.say = on_message
        self._notes = dict(notes or {})
        self.criterion = criterion_of(settings, contract.activation == "sigmoid")
        self._started = 0.0
        self.epochs: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.stage = 0
        self.stage_name = ""
        self.complete = False

    def enter(self, stage: Stage) -> None:
        """The epochs that follow are of this stage."""
        self.stage, self.stage_name, self.complete = stage.number, stage.name, False

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "best": self.best,
            "stage": self.stage,
            "complete": self.complete,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self.best = list(state_dict["epochs"]), state_dict["best"]
        self.stage = int(state_dict.get("stage", 0))
        self.complete = bool(state_dict.get("complete", False))

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Task) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Task) -> None:
        metrics = trainer.callback_metrics
        row: dict[str, Any] = {
            "epoch": len(self.epochs) + 1,
            **({"stage": self.stage_name} if self.stage_name else {}),
            "training_loss": round(pl_module.training_loss(), 7),
            LOSS: round(float(metrics[LOSS]), 7),
            **{
                name: round(float(metrics[name]), 5)
                for name in (ACCURACY, MEAN_AVERAGE_PRECISION, MACRO_F1)
                if name in metrics
            },
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.perf_counter() - self._started, 2),
        }
        self.epochs.append(row)
        last = (trainer.max_epochs or 0) - 1
        self.complete = bool(trainer.should_stop) or trainer.current_epoch >= last
        better = self.best is None or self._rank(row) > self._rank(self.best)
        if better:
            self._keep(row, kept_state(trainer, pl_module))
        partial = self.folder.last.with_name(self.folder.last.name + ".partial")
        trainer.save_checkpoint(partial)  # in all processes; the first one writes
        if processes.place().first:
            self.folder.write_history(self.epochs, best=self.best, finished=False)
            partial.replace(self.folder.last)
        self.say(
            f"epoch {row['epoch']}/{self.total}"
            + (f", {self.stage_name}" if self.stage_name else "")
            + f": loss {row['training_loss']:.3f}, "
            + figure_in_words(self.criterion, row[self.criterion])
            + (" (best)" if better else "")
            + f", {row['seconds']:.{0 if row['seconds'] >= 1 else 2}f} s"
        )

    def begin_with(self, task: Task, accuracy: float, loss: float) -> None:
        """Let the weights that a run begins with be the best until an epoch is better."""
        row = {"epoch": 0, LOSS: loss, ACCURACY: accuracy}
        self._keep(row, task.kept_state())

    def best_in_words(self) -> str:
        """How good the weights are that are kept."""
        assert self.best is not None
        return figure_in_words(self.criterion, self.best[self.criterion])

    def _rank(self, row: dict[str, Any]) -> tuple[float, float]:
        return row[self.criterion], -row[LOSS]

    def _keep(self, row: dict[str, Any], state: Mapping[str, Tensor]) -> None:
        self.best = row
        if not processes.place().first:
            return
        checkpoint = Checkpoint(
            self._settings.architecture, self._settings.options, state, self._contract, self._notes
        )
        save_checkpoint(checkpoint, self.folder.checkpoint)


class Meter(lightning.Callback):
    """Moves the progress bar."""

    def __init__(self, shown: Bar, keeper: Keeper) -> None:
        self._bar = shown
        self._keeper = keeper

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Task, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        epoch = f"Epoch {len(self._keeper.epochs) + 1}/{self._keeper.total}"
        text = f"{epoch}, loss {pl_module.training_loss():.3f}"
        self._bar.advance(text, trainer.global_step)
