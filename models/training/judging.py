"""What a training is for, and how good the answers are after each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from models.data.labelled import LabelledSet
from models.metrics import multi_label_scores, single_label_scores
from models.thresholds import tune_thresholds
from models.training.library import torch
from models.training.settings import TrainSettings
from models.training.techniques import CRITERIA, settled_criterion

if TYPE_CHECKING:
    from torchmetrics import Metric
else:  # behind `library`, which makes torchvision importable
    from torchmetrics import Metric

LOSS, ACCURACY = "validation_loss", "validation_accuracy"
MACRO_F1, MEAN_AVERAGE_PRECISION = "validation_macro_f1", "validation_map"
_COLUMNS = dict(zip(CRITERIA, (ACCURACY, MACRO_F1, MEAN_AVERAGE_PRECISION), strict=True))
_WORDS = {
    ACCURACY: "validation accuracy {:.2%}",
    MACRO_F1: "validation macro F1 {:.4f}",
    MEAN_AVERAGE_PRECISION: "validation mAP {:.4f}",
}


@dataclass(frozen=True)
class Goal:
    """What the answers are to be.

    Attributes:
        counts: training images of each class.
        multi_label: whether an image may have several classes, or none.
    """

    counts: tuple[int, ...] = ()
    multi_label: bool = False


def goal_of(part: LabelledSet) -> Goal:
    """The goal of a training on these images."""
    return Goal(part.counts(), part.multi_label)


def criterion_of(settings: TrainSettings, multi_label: bool) -> str:
    """The column by which the best epoch is the best; higher is better.

    Raises:
        TrainingError: the criterion is one for the other kind of set.
    """
    return _COLUMNS[settled_criterion(settings.techniques.keeping, multi_label)]


def in_words(column: str, value: float) -> str:
    """A figure for the terminal."""
    return _WORDS[column].format(value)


class Judge(Metric):
    """Collects validation answers; in several processes, those of all of them.

    `compute` gives, where each image has one class, `validation_loss` (cross-entropy),
    `validation_accuracy` and `validation_macro_f1`; else `validation_loss` (binary
    cross-entropy, mean over images and classes), `validation_map` (mean over the classes that
    occur) and `validation_macro_f1` with each class's best threshold on these very images.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(self, multi_label: bool) -> None:
        super().__init__()
        self.multi_label = multi_label
        self.add_state("logits", default=[], dist_reduce_fx="cat")
        self.add_state("targets", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Logits `[n, classes]`; targets int64 `[n]`, or floats `[n, classes]`."""
        self.logits.append(logits.detach().float())
        self.targets.append(targets)

    def compute(self) -> dict[str, float]:
        logits, targets = _joined(self.logits).cpu(), _joined(self.targets).cpu()
        if not self.multi_label:
            scores = single_label_scores(logits.numpy(), targets.numpy())
            return {
                LOSS: float(nn.functional.cross_entropy(logits, targets)),
                ACCURACY: scores.accuracy,
                MACRO_F1: scores.macro.f1,
            }
        probabilities = torch.sigmoid(logits).numpy()
        thresholds = tune_thresholds(probabilities, targets.numpy())
        scores = multi_label_scores(probabilities, targets.numpy(), thresholds)
        return {
            LOSS: float(nn.functional.binary_cross_entropy_with_logits(logits, targets)),
            MEAN_AVERAGE_PRECISION: scores.mean_average_precision or 0.0,
            MACRO_F1: scores.macro.f1,
        }


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    """A state that was synchronized is one tensor already."""
    return parts if isinstance(parts, Tensor) else torch.cat(list(parts))
