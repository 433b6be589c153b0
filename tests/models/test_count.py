"""Counting, held against networks that can be counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from models import zoo
from models.zoo.count import Counted, count, counted

torch = pytest.importorskip("torch")
nn = torch.nn


def test_convolutions_by_hand() -> None:
    # 6 x 6 outputs, 8 filters of 3 x 3 x 3; the bias costs parameters and no multiplication.
    plain = nn.Conv2d(3, 8, 3)
    assert count(plain, 8) == Counted(8 * 27 + 8, 36 * 8 * 27)
    # Four groups: each of the 12 filters sees 8 / 4 = 2 channels.
    grouped = nn.Conv2d(8, 12, 3, groups=4, padding=1, bias=False)
    assert count(grouped, 5, channels=8) == Counted(12 * 2 * 9, 25 * 12 * 2 * 9)
    # Depthwise with stride 2: 8 x 8 to 4 x 4.
    depthwise = nn.Conv2d(6, 6, 3, groups=6, padding=1, stride=2, bias=False)
    assert count(depthwise, 8, channels=6) == Counted(6 * 9, 16 * 6 * 9)
    # Dilation 2 reaches over 5 x 5 and costs 3 x 3.
    dilated = nn.Conv2d(2, 4, 3, dilation=2, bias=False)
    assert count(dilated, 9, channels=2) == Counted(4 * 18, 25 * 4 * 18)


def test_dense_layers_and_what_is_free() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(), nn.Linear(4 * 4, 10),
    )  # fmt: skip
    # 4 x 4 pixels by 4 filters, then 16 x 10; batch norm: scale and shift, no running statistics.
    assert count(net, 4, channels=1) == Counted(4 + 4 + 8 + 160 + 10, 64 + 160)


def test_a_functional_layer_and_a_matrix_product_are_not_overlooked() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.zeros(5, 3, 1, 1))

        def forward(self, picture: Any) -> Any:
            rows = nn.functional.conv2d(picture, self.kernel).flatten(2)  # [1, 5, 4]
            return rows @ rows.transpose(1, 2)  # 5 x 4 by 4 x 5

    assert count(Functional(), 2) == Counted(15, 4 * 15 + 5 * 4 * 5)


def test_auxiliary_heads_do_not_count() -> None:
    whole = sum(p.numel() for p in zoo.create("googlenet", 1000).parameters())
    without = counted("googlenet", 1000).parameters
    from torchvision.models import googlenet

    exported = googlenet(weights=None, num_classes=1000, aux_logits=False, init_weights=False)
    assert without == sum(p.numel() for p in exported.parameters()) < whole


def test_the_network_is_left_as_it_was() -> None:
    net = zoo.create("mobilenet_v2", 3, width_mult=0.35)
    net.get_submodule("features.3").eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    size = count(net, 32)
    assert [module.training for module in net.modules()] == modes
    assert any(modes) and not all(modes)
    after = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert size == counted("mobilenet_v2", 3, {"width_mult": 0.35, "input_size": 32})


def test_options_and_classes_count() -> None:
    small = counted("mobilenet_v2", 10, {"width_mult": 0.5})
    assert small.parameters < counted("mobilenet_v2", 10, {}).parameters
    head = counted("mobilenet_v2", 11, {"width_mult": 0.5})
    assert head.parameters - small.parameters == 1280 + 1
    assert head.multiply_adds - small.multiply_adds == 1280


def test_what_the_zoo_refuses_is_refused_here() -> None:
    with pytest.raises(zoo.ZooError):
        counted("mobilenet_v9", 10)
    with pytest.raises(zoo.ZooError):
        counted("mobilenet_v2", 1)
    with pytest.raises(zoo.ZooError):
        counted("mobilenet_v2", 10, {"width": 1.0})
