"""The training itself, as a Lightning module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from models import zoo
from models.contract import LUMA
from models.losses import LDAM, make_loss
from models.training import processes
from models.training.batches import mixed_seed
from models.training.blocks import Learning, whole
from models.training.descent import optimizer_of, schedule_of
from models.training.even_rows import EvenRows
from models.training.judging import Goal, Judge
from models.training.library import lightning, torch
from models.training.mixing import Mixer
from models.training.quantization_aware import QuantizationAware
from models.training.settings import TrainSettings

_MEASURED_AT_ONCE = 16


class Task(lightning.LightningModule):
    """One stage of a training: the loss, the optimizer and the schedule that were chosen.

    Weights and pictures lie channels-last in memory, which halves the time on a CPU. Heads
    that exist in training only add their losses, weighed as the architecture says.

    Args:
        net: `pixel / 127.5 - 1`, float32 NCHW, to logits.
        steps: optimizer steps of the whole run.
        pictures: uint8 `[n, 3, height, width]`, from which the ranges come of a network that
            is trained and judged as int8; None for one that is trained in float.
        learning: which parameters learn and how fast; None for all, the last layers faster,
            as the recipe says.
        goal: what the answers are to be; None for one class an image, of which nothing more
            is known.
    """

    def __init__(
        self,
        net: nn.Module,
        settings: TrainSettings,
        steps: int,
        pictures: Tensor | None = None,
        learning: Learning | None = None,
        goal: Goal | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.aware: QuantizationAware | None = None
        self._pictures = pictures
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._settings = settings
        self._steps = steps
        self._entry = zoo.get(settings.architecture)
        self._learning = learning or whole(self._entry, net, settings.recipe.head_factor)
        self._learning.freeze(net)
        goal = goal or Goal()
        techniques = settings.techniques
        self._loss = make_loss(
            techniques.loss, goal.counts, goal.multi_label, settings.recipe.epochs
        )
        self._mixer = Mixer(techniques.mixing, len(goal.counts))
        self._rows: EvenRows | None = None
        if isinstance(self._loss, LDAM) and pictures is None:
            self._rows = EvenRows(net, self.last_layers(), techniques.loss.scale)
        self.judge = Judge(goal.multi_label)
        self._sums: dict[str, Tensor] = {}
        self.batch_loss = 0.0  # of the last training step, over all processes
        if pictures is not None:
            self.aware = QuantizationAware(net, self._normalized(pictures[:1]))
            self.measure_ranges()
        self.train()

    def train(self, mode: bool = True) -> Task:
        """Training mode, in which what does not learn answers as in use all the same."""
        super().train(mode)
        if mode:
            self._learning.apply_mode(self.net)
        return self

    def forward(self, pixels: Tensor) -> Any:
        """uint8 `[n, 3, height, width]` to logits.

        In training mode a network with auxiliary heads gives a tuple, the logits first.
        """
        net = self.net if self.aware is None else self.aware
        return net(self._normalized(pixels))

    def _normalized(self, pixels: Tensor) -> Tensor:
        pictures = pixels.to(dtype=torch.float32, memory_format=torch.channels_last)
        normalized = (pictures - 127.5) / 127.5
        if self._entry.grayscale:
            luma = torch.tensor(LUMA, device=normalized.device).reshape(1, 3, 1, 1)
            normalized = nn.functional.conv2d(normalized, luma)
        return normalized

    def measure_ranges(self) -> None:
        """Of a quantization-aware network, from its weights as they are now."""
        if self.aware is not None and self._pictures is not None:
            batches = self._pictures.split(_MEASURED_AT_ONCE)
            self.aware.measure(self._normalized(each.to(self.device)) for each in batches)

    def last_layers(self) -> tuple[str, ...]:
        """Module paths in `net` of the layers that give logits."""
        return (self._entry.head, *self._entry.auxiliary)

    def mixed(self, pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """A training batch with pictures mixed into each other, where that was asked for."""
        if not self._mixer:
            return pixels, targets
        return self._mixer(pixels, targets, mixed_seed(self._settings.seed, self.global_step, -2))

    def on_train_epoch_start(self) -> None:
        self._loss.set_epoch(self.current_epoch)
        self._sums = {name: torch.zeros((), device=self.device) for name in ("loss", "count")}

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        # Dropout draws from the global generator: seeded by step, a resumed run repeats it.
        rank = processes.place().rank
        own = (rank,) if rank else ()  # no two processes drop the same
        torch.manual_seed(mixed_seed(self._settings.seed, self.global_step, -1, *own))
        pixels, targets = self.mixed(*batch)
        loss = self._whole_loss(self(pixels), targets)
        whole_batch = processes.mean(loss.detach())
        if not bool(torch.isfinite(whole_batch)):
            raise ArithmeticError("the training loss is not finite")
        self.batch_loss = float(whole_batch)
        self._sums["loss"] += whole_batch * len(targets)
        self._sums["count"] += len(targets)
        return loss

    def _whole_loss(self, outputs: Tensor | tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The loss of the logits, and of those of auxiliary heads where there are any."""
        logits, *auxiliary = (outputs,) if isinstance(outputs, Tensor) else outputs
        loss: Tensor = self._loss(logits, targets)
        for each in auxiliary:
            loss = loss + self._entry.auxiliary_weight * self._loss(each, targets)
        return loss

    def kept_state(self) -> Mapping[str, Tensor]:
        """What a checkpoint keeps: the network's state_dict as it was last judged."""
        state = dict(self.net.state_dict())
        return state if self._rows is None else self._rows.plain(state)

    def training_loss(self) -> float:
        """Mean over the epoch so far."""
        return float(self._sums["loss"] / self._sums["count"])

    def on_validation_epoch_start(self) -> None:
        self.measure_ranges()
        self.judge.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        pixels, targets = batch
        with torch.autocast(self.device.type, enabled=False):  # as it will be exported
            logits = self(pixels)
        self.judge.update(logits, targets)

    def on_validation_epoch_end(self) -> None:
        for name, value in self.judge.compute().items():
            self.log(name, value, logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._rows is not None:
            checkpoint["even_rows"] = self._rows.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._rows is not None:
            self._rows.load_state_dict(checkpoint["even_rows"])

    def teardown(self, stage: str) -> None:
        if self._rows is not None:
            self._rows.finish()

    def configure_optimizers(self) -> dict[str, Any]:
        settings = self._settings
        groups = parameter_groups(
            self.net, self._learning, settings.recipe.learning_rate, settings.decay
        )
        descent = settings.techniques.descent
        optimizer = optimizer_of(descent, groups)
        schedule = schedule_of(descent, optimizer, self._steps, settings.warm_up)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def parameter_groups(
    net: nn.Module, learning: Learning, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """The parameters that learn, by learning rate and decay.

    Vectors (biases, batch norm) are not decayed: pulling a scale towards zero only fights
    the layer behind it.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if name in learning.rates:
            key = (learning.rates[name], parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * rate,
            "rate": rate,
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (rate, decayed), parameters in groups.items()
    ]
