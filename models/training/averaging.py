"""The moving average of the weights, which is what is judged and kept where one is asked for.

Lightning's callback swaps it in for each validation and stores it, with the weights that
learn, in `last.ckpt`, so that a resumed run goes on exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.training.library import lightning
from models.training.task import Task


class Averaging(lightning.pytorch.callbacks.WeightAveraging):
    """An exponential moving average over all steps, of parameters and of statistics alike.

    Early steps count less than `decay` says: the k-th average keeps at most (1 + k) / (10 + k)
    of what was before, so that a short run is not judged by the weights that it began with
    (as tf.train.ExponentialMovingAverage does with `num_updates`).

    Args:
        decay: what an average keeps of the one before, 0 to 1.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=self._average)
        self._decay = decay

    def _average(self, before: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        if not before.is_floating_point():
            return now  # a counter of batch norm's
        # In this form what does not learn is its own average, to the last bit.
        return before + (now - before) * (1.0 - decay_at(self._decay, int(count)))

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Task) -> None:
        assert self._average_model is not None
        self._average_model.to(pl_module.device)  # it was made before the network was moved

    def kept_state(self, task: Task) -> Mapping[str, Tensor]:
        """What `Task.kept_state` gives of the average."""
        self._swap_models(task)
        try:
            return {name: value.clone() for name, value in task.kept_state().items()}
        finally:
            self._swap_models(task)


def decay_at(decay: float, count: int) -> float:
    """What the `count`-th average, from 1, keeps of the one before."""
    return min(decay, (1.0 + count) / (10.0 + count))


def kept_state(trainer: Any, task: Task) -> Mapping[str, Tensor]:
    """The weights that were judged last: the averaged ones, where there are some."""
    for callback in trainer.callbacks:
        if isinstance(callback, Averaging):
            return callback.kept_state(task)
    return task.kept_state()
