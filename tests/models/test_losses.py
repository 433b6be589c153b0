"""Losses against values worked by hand, against other people's, and far out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from models.training.ranges import TrainingError
from models.training.techniques import LossChoice

torch = pytest.importorskip("torch")

from models.losses import (  # noqa: E402 - needs torch
    LDAM,
    BinaryCrossEntropy,
    ClassLoss,
    CrossEntropy,
    Focal,
    balanced_weights,
    make_loss,
)
from models.torchvision_shim import import_torchvision  # noqa: E402

COUNTS = (256, 16, 1)
ROWS = torch.arange(20) % 3
functional = torch.nn.functional


def logits_of(rows: int, classes: int = 3, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


# --- weights of classes


def test_weights_by_hand() -> None:
    # beta 0.5: effective numbers 1 and 1.5, so 1 and 2/3; divided by their mean 5/6
    assert balanced_weights((1, 2), beta=0.5).tolist() == pytest.approx([1.2, 0.8])
    # the usual beta is next to 1: as good as the inverse of the number of images
    wanted = [1 / 100, 1 / 50, 1 / 10]
    mean = sum(wanted) / 3
    found = balanced_weights((100, 50, 10)).tolist()
    assert found == pytest.approx([each / mean for each in wanted], rel=0.01)
    assert balanced_weights((0, 1)).tolist() == [1.0, 1.0], "a class without an image"


# --- cross-entropy


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    targets = torch.tensor([0, 1])
    right, wrong = -math.log(0.75), -math.log(0.25)
    assert float(CrossEntropy()(logits, targets)) == pytest.approx((right + wrong) / 2)
    weighed = CrossEntropy(torch.tensor([0.5, 1.5]))(logits, targets)
    assert float(weighed) == pytest.approx((0.5 * right + 1.5 * wrong) / 2)
    smooth = CrossEntropy(smoothing=0.2)(logits[:1], targets[:1])
    assert float(smooth) == pytest.approx(0.9 * right + 0.1 * wrong)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("balanced", [False, True])
def test_cross_entropy_is_torchs(smoothing: float, balanced: bool) -> None:
    logits, targets = logits_of(20), torch.arange(20) % 3
    weights = balanced_weights(COUNTS).double() if balanced else None
    theirs = torch.nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(logits, targets)
    choice = LossChoice(balanced=balanced, label_smoothing=smoothing)
    ours = make_loss(choice, COUNTS, multi_label=False, epochs=1)
    torch.testing.assert_close(ours(logits, targets), theirs)


@pytest.mark.parametrize("name", ["cross-entropy", "ldam"])
@pytest.mark.parametrize("balanced", [False, True])
def test_whole_shares_are_classes(name: Any, balanced: bool) -> None:
    """A batch that was mixed with nothing has the loss of the batch that was not mixed."""
    logits, targets = logits_of(20), torch.arange(20) % 3
    shares = functional.one_hot(targets, 3).float()
    loss_of = make_loss(LossChoice(name, balanced=balanced, reweight_from=0.0), COUNTS, False, 1)
    torch.testing.assert_close(loss_of(logits, shares), loss_of(logits, targets))


def test_shares_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])
    loss = CrossEntropy(torch.tensor([0.5, 1.5]))(logits, torch.tensor([[0.75, 0.25]]))
    above = 0.75 * 0.5 * -math.log(0.75) + 0.25 * 1.5 * -math.log(0.25)
    assert float(loss) == pytest.approx(above / (0.75 * 0.5 + 0.25 * 1.5))


# --- LDAM


def test_ldam_by_hand() -> None:
    """Margins go with the inverse fourth root: 256 images a quarter of one image's, 16 a half."""
    loss_of = LDAM(COUNTS, margin=0.4, scale=2.0, reweight_at=5)
    assert loss_of.margins.tolist() == pytest.approx([0.1, 0.2, 0.4])
    logits = torch.tensor([[2.0, 0.0, 0.0]])  # a score of 1, twice
    own = math.exp(2 * (1.0 - 0.1))
    expected = -math.log(own / (own + 2))
    assert float(loss_of(logits, torch.tensor([0]))) == pytest.approx(expected)


def reference_ldam(logits: Any, targets: Any, weights: Any, margin: float, scale: float) -> Any:
    """Eq. 13 of the paper, an image at a time; its scores are our logits over `scale`."""
    largest = max(count**-0.25 for count in COUNTS)
    total = norm = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        scores = [each / scale for each in row]
        scores[target] -= margin * COUNTS[target] ** -0.25 / largest
        moved = [scale * each for each in scores]
        top = max(moved)
        entropy = top + math.log(sum(math.exp(each - top) for each in moved)) - moved[target]
        total, norm = total + weights[target] * entropy, norm + weights[target]
    return total / norm


def test_ldam_is_the_papers() -> None:
    logits, targets = logits_of(20), torch.arange(20) % 3
    choice = LossChoice("ldam", margin=0.7, scale=4.0, reweight_from=0.75)
    loss_of = make_loss(choice, COUNTS, multi_label=False, epochs=8)
    weights = balanced_weights(COUNTS).tolist()
    for epoch, expected in ((0, [1.0] * 3), (5, [1.0] * 3), (6, weights), (7, weights)):
        loss_of.set_epoch(epoch)
        found = float(loss_of(logits, targets))
        assert found == pytest.approx(reference_ldam(logits, targets, expected, 0.7, 4.0))
    loss_of.set_epoch(0)  # a resumed run may tell it any epoch
    assert float(loss_of(logits, targets)) == pytest.approx(
        reference_ldam(logits, targets, [1.0] * 3, 0.7, 4.0)
    )


def test_a_rarer_class_has_to_be_surer() -> None:
    loss_of = LDAM((100, 100, 1), margin=0.5, scale=30.0, reweight_at=1)
    logits = torch.tensor([[0.2, 0.2, 0.2]])
    losses = [float(loss_of(logits, torch.tensor([index]))) for index in range(3)]
    assert losses[0] == losses[1] < losses[2]


# --- binary cross-entropy and focal loss

MULTI = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])


def test_bce_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])  # 3/4 and 1/2
    loss = BinaryCrossEntropy()(logits, torch.tensor([[0.0, 1.0]]))
    assert float(loss) == pytest.approx((-math.log(0.25) - math.log(0.5)) / 2)
    weighed = BinaryCrossEntropy(torch.tensor([7.0, 2.0]))(logits, torch.tensor([[0.0, 1.0]]))
    assert float(weighed) == pytest.approx((-math.log(0.25) - 2 * math.log(0.5)) / 2)


def test_bce_is_torchs() -> None:
    logits = logits_of(4)
    theirs = torch.nn.BCEWithLogitsLoss()(logits, MULTI.double())
    torch.testing.assert_close(make_loss(LossChoice(), COUNTS, True, 1)(logits, MULTI), theirs)


def test_focal_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])  # 3/4 and 1/2
    loss = Focal(gamma=2.0)(logits, torch.tensor([[1.0, 0.0]]))
    assert float(loss) == pytest.approx((-(0.25**2) * math.log(0.75) - 0.25 * math.log(0.5)) / 2)
    weighed = Focal(gamma=1.0, alpha=0.9)(logits, torch.tensor([[1.0, 0.0]]))
    assert float(weighed) == pytest.approx(
        (-0.9 * 0.25 * math.log(0.75) - 0.1 * 0.5 * math.log(0.5)) / 2
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_is_torchvisions(gamma: float, alpha: float | None) -> None:
    import_torchvision()
    from torchvision.ops import sigmoid_focal_loss

    logits = logits_of(4)
    theirs = sigmoid_focal_loss(
        logits, MULTI.double(), -1 if alpha is None else alpha, gamma, reduction="mean"
    )
    choice = LossChoice("focal", gamma=gamma, alpha=alpha)
    torch.testing.assert_close(make_loss(choice, COUNTS, True, 1)(logits, MULTI), theirs)


def test_focal_without_its_exponent_is_bce() -> None:
    logits, soft = logits_of(4), 0.3 * MULTI + 0.1
    weights = balanced_weights(COUNTS)
    torch.testing.assert_close(
        Focal(0.0, weights=weights)(logits, soft), BinaryCrossEntropy(weights)(logits, soft)
    )


def test_a_mixed_target_has_the_mixed_loss() -> None:
    """Mixup's own definition: the loss of a mixed target is the mixture of the losses."""
    logits, other = logits_of(4), MULTI.flip(0)
    for loss_of in (Focal(2.0, 0.3), BinaryCrossEntropy()):
        mixed = loss_of(logits, 0.7 * MULTI + 0.3 * other)
        torch.testing.assert_close(
            mixed, 0.7 * loss_of(logits, MULTI) + 0.3 * loss_of(logits, other)
        )


# --- all of them

LOSSES: dict[str, tuple[Callable[[], ClassLoss], Any]] = {
    "cross-entropy": (lambda: CrossEntropy(balanced_weights(COUNTS), 0.1), torch.arange(4) % 3),
    "shares": (lambda: CrossEntropy(balanced_weights(COUNTS)), torch.full((4, 3), 1 / 3)),
    "ldam": (lambda: LDAM(COUNTS, 0.5, 30.0, 0), torch.arange(4) % 3),
    "bce": (lambda: BinaryCrossEntropy(balanced_weights(COUNTS)), MULTI),
    "focal": (lambda: Focal(2.0, 0.25, balanced_weights(COUNTS)), MULTI),
    "focal, small exponent": (lambda: Focal(0.5), MULTI),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [0.0, 90.0, 1e4, 1e30])
def test_gradients_are_finite_for_any_logits(name: str, size: float) -> None:
    make, targets = LOSSES[name]
    signs = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, 0.0, 0.0]])
    logits = (size * signs).requires_grad_()
    loss = make()(logits, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_loss(name: str) -> None:
    make, targets = LOSSES[name]
    loss_of = make()
    assert torch.autograd.gradcheck(
        lambda logits: loss_of(logits, targets), logits_of(4).requires_grad_()
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, half: Any) -> None:
    make, targets = LOSSES[name]
    logits = logits_of(4).to(half)
    found = make()(logits, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, make()(logits.float(), targets))


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_of_a_loss_is_in_a_checkpoint(name: str) -> None:
    """Runs begun with another loss's buffers, or none, go on."""
    assert not LOSSES[name][0]().state_dict()


def test_a_loss_for_other_images_is_refused() -> None:
    with pytest.raises(TrainingError, match="does not fit the images"):
        make_loss(LossChoice("ldam"), COUNTS, multi_label=True, epochs=1)
    with pytest.raises(ValueError, match="one number for each class"):
        make_loss(LossChoice(), COUNTS, True, 1)(logits_of(4), torch.arange(4))


# --- mutants: what would be wrong must be told apart by the values above


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda z, m: z - 4 * m[:, None], id="margin off every logit"),
        pytest.param(lambda z, m: z, id="no margin"),
        pytest.param(lambda z, m: 4 * z - 4 * m[:, None] * torch.eye(3)[ROWS], id="scaled twice"),
    ],
)
def test_a_wrong_ldam_is_told_apart(wrong: Callable[[Any, Any], Any]) -> None:
    logits, targets = logits_of(20), ROWS
    loss_of = LDAM(COUNTS, 0.7, 4.0, reweight_at=1)
    moved = wrong(logits, loss_of.margins[targets].double())
    mutant = float(functional.cross_entropy(moved, targets))
    right = reference_ldam(logits, targets, [1.0] * 3, 0.7, 4.0)
    assert abs(mutant - right) > 0.01 * right
    assert float(loss_of(logits, targets)) == pytest.approx(right)
