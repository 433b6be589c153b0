"""From pixels to probabilities, against values worked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from models.contract import Contract, Label, Normalization, Preprocessing

torch = pytest.importorskip("torch")
from models.classifier import Classifier  # noqa: E402 - needs torch

RULE = Preprocessing(
    height=2, width=3, resize_shorter_side=3, normalization=Normalization((10, 20, 30), (1, 2, 5))
)


class ChannelSums(torch.nn.Module):
    """Logits: the sum of each channel."""

    def forward(self, x: Any) -> Any:
        return x.sum(dim=(2, 3))


def classifier(activation: Any) -> Classifier:
    labels = (Label("red"), Label("green"), Label("blue"))
    return Classifier(ChannelSums(), Contract(labels, RULE, activation=activation))


def pixels() -> Any:
    image = torch.zeros(1, 2, 3, 3, dtype=torch.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 10, 20, 30
    image[0, 1, 2] = torch.tensor([12, 22, 35], dtype=torch.uint8)
    return image


def test_logits_by_hand() -> None:
    # Only one pixel differs from the mean: (12-10)/1, (22-20)/2, (35-30)/5.
    logits = classifier("softmax").logits(pixels())
    assert logits.dtype == torch.float32
    assert logits.tolist() == [[2.0, 1.0, 1.0]]


def test_softmax_by_hand() -> None:
    total = math.exp(2) + 2 * math.exp(1)
    expected = [[math.exp(2) / total, math.exp(1) / total, math.exp(1) / total]]
    torch.testing.assert_close(classifier("softmax")(pixels()), torch.tensor(expected))


def test_sigmoid_by_hand() -> None:
    expected = [[1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-1))]]
    torch.testing.assert_close(classifier("sigmoid")(pixels()), torch.tensor(expected))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 2, 3, 3),
        torch.zeros(1, 3, 2, 3, dtype=torch.uint8).permute(0, 2, 3, 1)[..., :2],
        torch.zeros(2, 3, 3, dtype=torch.uint8),
    ],
    ids=["float", "two channels", "no batch"],
)
def test_other_inputs_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        classifier("softmax")(wrong)


def test_nothing_of_it_is_saved_with_the_weights() -> None:
    assert list(classifier("softmax").state_dict()) == []
