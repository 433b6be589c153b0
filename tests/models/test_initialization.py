"""First weights by the rule, and only where a constructor has none of its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from models import zoo
from models.contract import Label

torch = pytest.importorskip("torch")

from models.initialization import draw, initialize  # noqa: E402 - needs torch
from models.training.settings import TrainSettings  # noqa: E402
from models.training.start import starting_network  # noqa: E402

nn = torch.nn


def spoiled() -> Any:
    net = nn.Sequential(
        nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 200, 1, bias=False),
        nn.Flatten(), nn.Linear(200, 300), nn.Linear(300, 100),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(7.0)
    return net


def test_the_rule_by_hand() -> None:
    """He et al. eq. 14: 2 over kernel area times output channels; many draws, so few per cent."""
    torch.manual_seed(0)
    net = spoiled()
    draw(net, ["5"])
    assert net[0].weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.05)
    assert net[2].weight.std().item() == pytest.approx(math.sqrt(2 / 200), rel=0.05)
    assert net[4].weight.std().item() == pytest.approx(math.sqrt(2 / 300), rel=0.05)
    assert net[5].weight.std().item() == pytest.approx(math.sqrt(1 / 900), rel=0.05)
    for layer in (net[0], net[2], net[4], net[5]):
        weight = layer.weight.detach()
        assert abs(weight.mean().item()) < 0.1 * weight.std().item()
        # normal: 4.6 % of the values beyond two deviations, of a uniform none
        assert ((weight.abs() > 2 * weight.std()).float().mean()).item() > 0.03
    assert (net[1].weight == 1).all()
    for layer in (net[0], net[1], net[4], net[5]):
        assert (layer.bias == 0).all()


def test_gradients_keep_their_scale_on_the_way_down() -> None:
    """What the rule is for: through many layers of ReLU, and not with half the variance."""

    def shrunk(factor: float) -> float:
        torch.manual_seed(0)
        layers = [part for _ in range(20) for part in (nn.Linear(128, 128), nn.ReLU())]
        net = nn.Sequential(*layers)
        draw(net, [])
        with torch.no_grad():
            for layer in net[::2]:
                layer.weight.mul_(factor)
        x = torch.randn(64, 128, requires_grad=True)
        (net(x) * torch.randn(64, 128)).sum().backward()
        assert x.grad is not None
        return x.grad.std().item()

    assert 0.1 < shrunk(1.0) < 10
    assert shrunk(math.sqrt(0.5)) < 0.01


@pytest.mark.parametrize("name", [name for name in zoo.names() if not zoo.get(name).undrawn])
def test_others_keep_their_own(name: str) -> None:
    entry = zoo.get(name)

    class Untouched(nn.Linear):
        def named_modules(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("touched")

    initialize(Untouched(2, 2), entry)


def test_alexnet_is_drawn_where_a_training_begins_with_nothing() -> None:
    entry = zoo.get("alexnet")
    assert entry.undrawn
    settings = TrainSettings(
        out=Path("nowhere"), architecture="alexnet", options={"input_size": 63}, seed=5
    )
    labels = tuple(map(Label, "abc"))
    net = starting_network(settings, labels, lambda text: None)
    first: Any = net.get_submodule("features.0")
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / (121 * 64)), rel=0.05)
    assert (first.bias == 0).all()
    head: Any = net.get_submodule(entry.head)
    assert head.weight.std().item() == pytest.approx(math.sqrt(1 / (3 * 4096)), rel=0.1)
    again = starting_network(settings, labels, lambda text: None)
    assert torch.equal(first.weight, again.get_submodule("features.0").weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"])
def test_mobilenets_draw_by_the_same_rule(name: str) -> None:
    torch.manual_seed(0)
    net = zoo.get(name).create(100, {})
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            area = layer.kernel_size[0] * layer.kernel_size[1]
            expected = math.sqrt(2 / (area * layer.out_channels))
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.06)
