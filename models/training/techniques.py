"""How a network is trained, in parts that can be chosen one by one; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from models.training.ranges import TrainingError, number, one_of, whole

LossName = Literal["cross-entropy", "ldam", "bce", "focal"]
OptimizerName = Literal["adamw", "sgd"]
ScheduleName = Literal["one-cycle", "cosine", "constant"]
Criterion = Literal["accuracy", "macro-f1", "map"]
Precision = Literal["float32", "bf16", "fp16"]
SINGLE_LABEL_LOSSES: tuple[LossName, ...] = ("cross-entropy", "ldam")
MULTI_LABEL_LOSSES: tuple[LossName, ...] = ("bce", "focal")
LOSSES = get_args(LossName)
CRITERIA = get_args(Criterion)


@dataclass(frozen=True)
class LossChoice:
    """What is made small.

    Attributes:
        name: None for cross-entropy, or BCE-with-logits where the set is multi-label.
        balanced: weigh classes by the inverse of their effective number of images (Cui et
            al. 2019, arXiv:1901.05555, eq. 3), mean weight 1; of a multi-label set, weigh the
            images that have the class. LDAM always does, from `reweight_from` on.
        label_smoothing: epsilon of Szegedy et al. 2015, arXiv:1512.00567 (cross-entropy).
        margin: LDAM's largest margin, that of the rarest class (Cao et al. 2019,
            arXiv:1906.07413, eq. 13).
        scale: LDAM's logits over its scores, which margins are in units of (s in the
            authors' released code).
        reweight_from: share of the epochs after which LDAM's class weights begin; 1: never.
        gamma: focal loss's exponent (Lin et al. 2017, arXiv:1708.02002, eq. 5).
        alpha: focal loss's weight of positives; None for none.
    """

    name: LossName | None = None
    balanced: bool = False
    label_smoothing: float = 0.1
    margin: float = 0.5
    scale: float = 30.0
    reweight_from: float = 0.8
    gamma: float = 2.0
    alpha: float | None = None


@dataclass(frozen=True)
class Mixing:
    """What is done to batches and pictures beyond crops and colours.

    Attributes:
        mixup: alpha of the beta distribution of Zhang et al. 2017, arXiv:1710.09412; 0: off.
        cutmix: alpha of Yun et al. 2019, arXiv:1905.04899; 0: off. With both, each batch
            draws one of the two.
        randaugment: operations a picture (Cubuk et al. 2019, arXiv:1909.13719), in place of
            the jitter of colours; 0: off.
        magnitude: RandAugment's strength, 0 to 30.
        balanced_sampling: each class is drawn equally often, whatever its images.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    randaugment: int = 0
    magnitude: int = 9
    balanced_sampling: bool = False


@dataclass(frozen=True)
class Stages:
    """Which layers learn.

    Attributes:
        freeze_backbone: first the head alone, on features of the frozen backbone that are
            computed once and kept on disk (`models.features`).
        unfreeze_blocks: afterwards the last N blocks too, one more block a stage, backwards
            from the head; 0: the backbone stays frozen to the end.
        views: augmented views of each image whose features are kept; 0: the plain one only.
        rate_decay: each block learns so many times as fast as the one behind it
            (discriminative rates: Howard and Ruder 2018, arXiv:1801.06146, section 3.1).
        stage_epochs: of each stage that unfreezes a block; the run's epochs are the head's.
        stage_rate: peak learning rate of the head in those stages.
        cache: folder of features; None for `.features` beside the run's folder.
    """

    freeze_backbone: bool = False
    unfreeze_blocks: int = 0
    views: int = 0
    rate_decay: float = 0.5
    stage_epochs: int = 2
    stage_rate: float = 1e-3
    cache: str | None = None


@dataclass(frozen=True)
class Descent:
    """How the losses are followed downhill.

    Attributes:
        optimizer: AdamW, or SGD with Nesterov momentum 0.9.
        schedule: of the learning rate, over all steps; `warm_up` of the settings is the
            share in which it rises, for each of them.
        clip_norm: largest norm of the whole gradient; 0: none.
        ema: decay of the exponential moving average of the weights, which is what is judged
            and kept; 0: none.
        precision: of activations and gradients, where the hardware has it.
    """

    optimizer: OptimizerName = "adamw"
    schedule: ScheduleName = "one-cycle"
    clip_norm: float = 0.0
    ema: float = 0.0
    precision: Precision = "float32"


@dataclass(frozen=True)
class Keeping:
    """Which epoch's weights are kept, and what early stopping waits for.

    Attributes:
        best: the validation figure that is to be high: accuracy, macro F1 (the mean over
            classes, however rare each is) or mean average precision. None for accuracy, or
            mAP where the set is multi-label. Of equals the lowest validation loss.
    """

    best: Criterion | None = None


@dataclass(frozen=True)
class Techniques:
    """All of them."""

    loss: LossChoice = field(default_factory=LossChoice)
    mixing: Mixing = field(default_factory=Mixing)
    stages: Stages = field(default_factory=Stages)
    descent: Descent = field(default_factory=Descent)
    keeping: Keeping = field(default_factory=Keeping)

    def differing(self) -> dict[str, Any]:
        """What is not as it is by default, by dotted name ('loss.gamma'); for a run's record.

        Label smoothing and where features are kept are no part of it: the one has a place
        of its own there since before there were techniques, the other changes no result.
        """
        usual, found = Techniques(), {}
        for part in fields(self):
            mine, default = getattr(self, part.name), getattr(usual, part.name)
            for each in fields(mine):
                if getattr(mine, each.name) != getattr(default, each.name):
                    found[f"{part.name}.{each.name}"] = getattr(mine, each.name)
        for name in ("loss.label_smoothing", "stages.cache"):
            found.pop(name, None)
        return found


def check_techniques(techniques: Techniques) -> None:
    """Refuse figures that cannot work, and techniques that exclude each other.

    Raises:
        TrainingError: an unknown name, a figure out of its range, label smoothing asked of
            a loss that has none.
    """
    loss, mixing = techniques.loss, techniques.mixing
    stages, descent = techniques.stages, techniques.descent
    if loss.name is not None:
        one_of("loss", loss.name, LOSSES)
    number("label_smoothing", loss.label_smoothing, 0.0, 0.9)
    number("loss.margin", loss.margin, 0.0, 100.0)
    number("loss.scale", loss.scale, 0.01, 1000.0)
    number("loss.reweight_from", loss.reweight_from, 0.0, 1.0)
    number("loss.gamma", loss.gamma, 0.0, 10.0)
    if loss.alpha is not None:
        number("loss.alpha", loss.alpha, 0.001, 0.999)
    number("mixup", mixing.mixup, 0.0, 100.0)
    number("cutmix", mixing.cutmix, 0.0, 100.0)
    whole("randaugment", mixing.randaugment, 0, 16)
    whole("magnitude", mixing.magnitude, 0, 30)
    if techniques.keeping.best is not None:
        one_of("best", techniques.keeping.best, CRITERIA)
    whole("unfreeze_blocks", stages.unfreeze_blocks, 0, 10_000)
    whole("views", stages.views, 0, 1000)
    number("rate_decay", stages.rate_decay, 0.001, 1.0)
    whole("stage_epochs", stages.stage_epochs, 1, 100_000)
    number("stage_rate", stages.stage_rate, 1e-8, 10.0)
    one_of("optimizer", descent.optimizer, get_args(OptimizerName))
    one_of("schedule", descent.schedule, get_args(ScheduleName))
    one_of("precision", descent.precision, get_args(Precision))
    number("clip_norm", descent.clip_norm, 0.0, 1e6)
    number("ema", descent.ema, 0.0, 0.99999)


def settled_loss(choice: LossChoice, multi_label: bool) -> LossName:
    """The loss that is meant, now that it is known what the images are.

    Raises:
        TrainingError: the loss is one for the other kind of set.
    """
    known = MULTI_LABEL_LOSSES if multi_label else SINGLE_LABEL_LOSSES
    if choice.name is None:
        return known[0]
    if choice.name not in known:
        raise TrainingError(
            f"The loss '{choice.name}' does not fit the images.",
            "an image may have several classes, or none"
            if multi_label
            else "each image has exactly one class",
            "take one of: " + ", ".join(known),
        )
    return choice.name


def settled_criterion(keeping: Keeping, multi_label: bool) -> Criterion:
    """The figure that is meant, now that it is known what the images are.

    Raises:
        TrainingError: the figure is one for the other kind of set.
    """
    known = CRITERIA[1:] if multi_label else CRITERIA[:2]
    if keeping.best is None:
        return "map" if multi_label else "accuracy"
    if keeping.best not in known:
        raise TrainingError(
            f"The best epoch cannot be told by '{keeping.best}'.",
            "an image may have several classes, or none"
            if multi_label
            else "each image has exactly one class",
            "take one of: " + ", ".join(known),
        )
    return keeping.best
