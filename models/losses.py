"""What a training makes small: logits and targets to one number.

    loss_of = make_loss(LossChoice("ldam"), counts=(2000, 120, 10), multi_label=False, epochs=8)
    for epoch in range(8):
        loss_of.set_epoch(epoch)
        loss = loss_of(logits, targets)

Where each image has one class, targets are int64 `[n]`, or shares of the classes, floats
`[n, classes]` that sum to one (mixup and cutmix make those). Where an image may have several,
they are floats `[n, classes]` between 0 and 1, each class for itself.

All is computed in float32 at least, and in logarithms, so that logits of any size have finite
gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.techniques import LossChoice, settled_loss

BETA = 0.9999  # of the effective number, as in the experiments of Cao et al.


class ClassLoss(nn.Module):
    """A loss that may change from epoch to epoch.

    Args:
        weights: of the classes, `[classes]`; None for all alike.
    """

    weights: Tensor | None

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)

    def set_epoch(self, epoch: int) -> None:
        """To be called before each epoch, counted from 0; also when a run is resumed."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits `[n, classes]` and targets, see the module's text, to a scalar."""
        raise NotImplementedError


class CrossEntropy(ClassLoss):
    """-log softmax(logits) of the class; the mean, in which each image counts as its class.

    Args:
        weights: of the classes, `[classes]`; None for all alike.
        smoothing: epsilon of Szegedy et al. 2015, arXiv:1512.00567, section 7.
    """

    def __init__(self, weights: Tensor | None = None, smoothing: float = 0.0) -> None:
        super().__init__(weights)
        self.smoothing = smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return _cross_entropy(_exact(logits), targets, self.weights, self.smoothing)


class LDAM(ClassLoss):
    """Label-distribution-aware margins with deferred re-weighting.

    Cao et al. 2019, arXiv:1906.07413, eq. 13: cross-entropy after the score of the image's own
    class was made smaller by `margin_j = C / counts_j ** (1/4)`; so rare classes are learned
    with more to spare. C makes the rarest class's margin `margin`. Class weights begin late
    (section 3.3, algorithm 1), when the features are learned.

    Margins mean something only where the scores cannot simply grow, so they are for a last
    layer whose rows have one length (`models.training.even_rows`). Its logits are `scale` times
    the scores: margins are taken off in that unit, nothing is multiplied here.

    Of a target that is shared by several classes each gives its share of its margin.

    Args:
        counts: images of each class; none counts as one.
        margin: the largest margin, in units of the scores.
        scale: of the logits over the scores.
        reweight_at: the epoch, from 0, from which on the classes are weighed.
    """

    margins: Tensor

    def __init__(
        self, counts: Sequence[int], margin: float, scale: float, reweight_at: int
    ) -> None:
        super().__init__(balanced_weights(counts))
        quarter = torch.tensor([max(1, count) for count in counts], dtype=torch.float64) ** -0.25
        self.register_buffer(
            "margins", (margin * quarter / quarter.max()).float(), persistent=False
        )
        self.scale = scale
        self.reweight_at = reweight_at
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        exact = _exact(logits)
        shares = targets
        if not targets.is_floating_point():
            shares = functional.one_hot(targets, logits.shape[1]).to(exact)
        weights = self.weights if self.epoch >= self.reweight_at else None
        return _cross_entropy(exact - self.scale * shares * self.margins, targets, weights, 0.0)


class BinaryCrossEntropy(ClassLoss):
    """Each class for itself: -log sigmoid(logit) where it is there, else of its opposite.

    The mean over images and classes.

    Args:
        weights: of the images that have the class, `[classes]`; None for all alike.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        exact = _exact(logits)
        return functional.binary_cross_entropy_with_logits(
            exact, _each_class(exact, targets), pos_weight=self.weights
        )


class Focal(ClassLoss):
    """Binary cross-entropy that looks away from what is easy.

    Lin et al. 2017, arXiv:1708.02002, eq. 5: the entropy times `(1 - p) ** gamma`, where p is
    the probability given to what is so. The mean over images and classes. A target between
    0 and 1 mixes the losses of both answers.

    Args:
        gamma: 0 is binary cross-entropy.
        alpha: weight of what is there, 1 - alpha that of what is not; None for one of both.
        weights: of the images that have the class, `[classes]`; None for all alike.
    """

    def __init__(
        self, gamma: float, alpha: float | None = None, weights: Tensor | None = None
    ) -> None:
        super().__init__(weights)
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        exact = _exact(logits)
        shares = _each_class(exact, targets)
        yes, no = functional.logsigmoid(exact), functional.logsigmoid(-exact)
        there = -yes * (self.gamma * no).exp()
        absent = -no * (self.gamma * yes).exp()
        if self.alpha is not None:
            there, absent = self.alpha * there, (1.0 - self.alpha) * absent
        if self.weights is not None:
            there = there * self.weights
        return (shares * there + (1.0 - shares) * absent).mean()


def make_loss(
    choice: LossChoice, counts: Sequence[int], multi_label: bool, epochs: int
) -> ClassLoss:
    """The loss that a training was asked for.

    Args:
        counts: training images of each class.
        multi_label: whether an image may have several classes, or none.
        epochs: of the whole run; decides when LDAM's class weights begin.

    Raises:
        TrainingError: the loss is one for the other kind of set.
    """
    name = settled_loss(choice, multi_label)
    weights = balanced_weights(counts) if choice.balanced else None
    if name == "ldam":
        begin = round(choice.reweight_from * epochs)
        return LDAM(counts, choice.margin, choice.scale, begin)
    if name == "bce":
        return BinaryCrossEntropy(weights)
    if name == "focal":
        return Focal(choice.gamma, choice.alpha, weights)
    return CrossEntropy(weights, choice.label_smoothing)


def balanced_weights(counts: Sequence[int], beta: float = BETA) -> Tensor:
    """Weights of classes, float32 `[classes]`, mean 1.

    The inverse of the effective number of images, (1 - beta) / (1 - beta ** count): Cui et al.
    2019, arXiv:1901.05555, eq. 3. As beta nears 1 that is the inverse of the number itself.

    Args:
        counts: images of each class; none counts as one.
    """
    numbers = torch.tensor([max(1, count) for count in counts], dtype=torch.float64)
    inverse = (1.0 - beta) / (1.0 - beta**numbers)
    return (inverse / inverse.mean()).float()


def _exact(logits: Tensor) -> Tensor:
    """In float32, or as they are where they are float64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _each_class(logits: Tensor, targets: Tensor) -> Tensor:
    if targets.shape != logits.shape:
        raise ValueError(
            f"targets {tuple(targets.shape)} for logits {tuple(logits.shape)}: "
            "one number for each class of each image"
        )
    return targets.to(logits)


def _cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    """Weighed cross-entropy over the sum of the images' weights.

    torch divides by the number of images instead where targets are shares; so that the
    steps of mixed batches are no larger or smaller than others, that is put right here.
    """
    if weights is not None:
        weights = weights.to(logits)
    if not targets.is_floating_point():
        return functional.cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    shares = _each_class(logits, targets)
    loss = functional.cross_entropy(logits, shares, weights, label_smoothing=smoothing)
    return loss if weights is None else loss * len(shares) / (shares * weights).sum()
