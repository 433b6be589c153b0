"""Even rows: what is stored answers as what was trained, and margins cannot be outgrown."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from models import zoo

torch = pytest.importorskip("torch")

from models.training.even_rows import EvenRows  # noqa: E402 - needs torch

nn = torch.nn


def dense(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        net[2].weight *= torch.tensor([[1.0], [5.0], [0.2]])
        net[2].bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return net


def features_of(net: Any, x: Any) -> Any:
    return net[1](net[0](x))


def test_logits_by_hand() -> None:
    net, x = dense(), torch.randn(5, 6)
    features = features_of(net, x)
    EvenRows(net, ["2"], scale=30.0)
    mean = sum(row.square().sum().sqrt() for row in features) / 5
    for image in range(5):
        for index, row in enumerate(net[2].weight):
            score = (row / row.square().sum().sqrt()) @ features[image] / mean
            expected = 30.0 * score + net[2].bias[index]
            torch.testing.assert_close(net(x)[image, index], expected)


def test_the_length_is_measured_once() -> None:
    net, x = dense(), torch.randn(5, 6)
    rows = EvenRows(net, ["2"], scale=30.0)
    assert rows.state_dict() == {}
    first = net(x)
    known = rows.state_dict()
    net(1000 * x)
    assert rows.state_dict() == known
    torch.testing.assert_close(net(x), first)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_stored_answers_as_what_was_trained(training: bool) -> None:
    net, x = dense(), torch.randn(50, 6)
    rows = EvenRows(net, ["2"], scale=30.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), torch.arange(50) % 3).backward()
        optimizer.step()
    net.train(training)
    plain = dense(1)
    plain.load_state_dict(rows.plain(net.state_dict()))
    torch.testing.assert_close(plain(x), net(x), rtol=1e-5, atol=1e-5)
    lengths = plain[2].weight.norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand(3))
    raw = dense(1)
    raw.load_state_dict(net.state_dict())
    assert (raw(x) - net(x)).abs().max().item() > 0.1, "the mutant: stored as it was trained"
    expected = net(x)
    rows.finish()
    torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-5)
    assert not net[2]._forward_hooks


def test_going_on_from_even_rows_changes_nothing() -> None:
    net, x = dense(), torch.randn(5, 6)
    rows = EvenRows(net, ["2"], scale=30.0)
    expected = net(x)
    rows.finish()
    again = EvenRows(net, ["2"], scale=30.0)
    torch.testing.assert_close(net(7 * x)[:, 0] * 0 + net(x)[:, 0], expected[:, 0])
    assert again.state_dict() == pytest.approx(rows.state_dict())


def test_a_resumed_run_knows_the_length() -> None:
    net, x = dense(), torch.randn(5, 6)
    rows = EvenRows(net, ["2"], scale=30.0)
    expected = net(x)
    other = dense()
    resumed = EvenRows(other, ["2"], scale=30.0)
    resumed.load_state_dict(rows.state_dict())
    torch.testing.assert_close(other(x), expected)
    other(100 * x)
    torch.testing.assert_close(other(x), expected)


def test_a_copy_has_the_same_length() -> None:
    """An average of weights is a copy that was made before the first step."""
    net, x = dense(), torch.randn(5, 6)
    rows = EvenRows(net, ["2"], scale=30.0)
    average, kept = copy.deepcopy((net, rows))
    expected = net(x)
    torch.testing.assert_close(average(x), expected)
    plain = dense(1)
    plain.load_state_dict(kept.plain(average.state_dict()))
    torch.testing.assert_close(plain(x), expected)


def test_a_convolution_as_last_layer() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.randn(2, 4, 5, 5)
    rows = EvenRows(net, ["0"], scale=10.0)
    expected = net(x)
    mean = x.permute(0, 2, 3, 1).reshape(-1, 4).norm(dim=1).mean()
    rows.finish()
    assert net[0].weight.flatten(1).norm(dim=1).tolist() == pytest.approx([10.0 / float(mean)] * 3)
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "lenet5", "resnet18"])
def test_heads_of_the_zoo(name: str) -> None:
    entry = zoo.get(name)
    size = 32 if name == "lenet5" else 64
    net = entry.create(3, {"input_size": size}).eval()
    x = torch.randn(2, 1 if entry.grayscale else 3, size, size)
    rows = EvenRows(net, [entry.head], scale=30.0)
    with torch.no_grad():
        expected = net(x)
        plain = entry.create(3, {"input_size": size}).eval()
        plain.load_state_dict(rows.plain(net.state_dict()))
        torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-4)


def test_other_layers_are_refused() -> None:
    with pytest.raises(TypeError, match="ReLU"):
        EvenRows(dense(), ["1"], scale=30.0)
