"""The steps of a learning rate range test, see `models.training.rate_range`."""

from __future__ import annotations

import math
from typing import Any

from models.training import rate_range
from models.training.fitting import interrupt_kept, quiet, trainer_of
from models.training.library import lightning
from models.training.progress import Bar, bar
from models.training.record import RunFolder
from models.training.settings import TrainingInterruptedError, TrainSettings
from models.training.task import Task


class Sweep(lightning.Callback):
    """Sets the learning rate of each step, whatever the schedule says, and ends at a burst.

    Groups of parameters that learn faster or slower keep doing so, by the same factors.
    """

    def __init__(self, rates: tuple[float, ...], shown: Bar) -> None:
        self._rates = rates
        self._bar = shown
        self.losses: list[float] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Task, batch: Any, batch_idx: int
    ) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._rates[trainer.global_step] * group["rate"]

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Task, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(pl_module.batch_loss)
        self._bar.advance("Trying learning rates", trainer.global_step)
        if rate_range.burst(self.losses):
            trainer.should_stop = True


def sweep(
    task: Task, loader: Any, settings: TrainSettings, folder: RunFolder
) -> rate_range.RateRange:
    """Let a task learn at growing rates; its network is of no use afterwards.

    Raises:
        TrainingInterruptedError: Ctrl-C.
    """
    rates = rate_range.rates(settings.techniques.descent.optimizer)
    with bar(len(rates), settings.progress) as shown, quiet(), interrupt_kept():
        callback = Sweep(rates, shown)
        trainer = trainer_of(
            settings, folder, [callback], max_epochs=-1, max_steps=len(rates), limit_val_batches=0
        )
        try:
            trainer.fit(task, loader)
        except ArithmeticError:  # it is no number any more
            callback.losses.append(math.inf)
        except SystemExit as error:  # Lightning's answer to Ctrl-C
            raise TrainingInterruptedError(
                "The learning rate range test was interrupted.", "nothing was written", ""
            ) from error
    finite = [each for each in callback.losses if math.isfinite(each)]
    return rate_range.RateRange(rates[: len(finite)], tuple(finite))
