"""Fake quantization against the formula, by hand, and against the exporter's own int8."""

from __future__ import annotations

import copy
import importlib.util
import math
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)

from models import zoo  # noqa: E402 - needs torch
from models.training.fake_quantization import (  # noqa: E402
    QuantizedWeights,
    Range,
    RoundedSiLU,
    affine,
    rounded_weights,
)
from models.training.quantization_aware import QuantizationAware  # noqa: E402
from models.training.settings import TrainingError  # noqa: E402
from support import nets  # noqa: E402

nn = torch.nn


def given(scale: float, zero: int) -> Range:
    return Range(given=(float(np.float32(scale)), zero))


@pytest.mark.parametrize(("scale", "zero"), [(0.02, -128), (0.5, 3), (1.7e-3, 127), (6 / 255, 0)])
def test_rounding_is_the_formula(scale: float, zero: int) -> None:
    """`scale * (clip(rint(x / scale) + zero, -128, 127) - zero)`, in numpy."""
    values = np.random.default_rng(0).normal(0, 100 * scale, 20_000).astype(np.float32)
    steps = values.astype(np.float64) / np.float32(scale)
    clear = np.abs(np.abs(steps - np.floor(steps)) - 0.5) > 1e-4  # no ties
    expected = (np.clip(np.rint(steps) + zero, -128, 127) - zero) * np.float32(scale)
    found = given(scale, zero)(torch.from_numpy(values)).numpy()
    assert clear.mean() > 0.99
    assert len(np.unique(found)) > 100
    np.testing.assert_allclose(found[clear], expected[clear], rtol=1e-6, atol=0)


def test_rounding_is_the_simulators() -> None:
    from exporter.convert.quantize.plan import Affine
    from support.int8_steps import fake_quantize

    values = np.linspace(-3.3, 5.1, 9973, dtype=np.float32)
    expected = fake_quantize(values, Affine(0.03, -20))
    found = given(0.03, -20)(torch.from_numpy(values)).numpy()
    assert (np.abs(found - expected) < 1e-6).mean() > 0.999


def test_the_gradient_goes_straight_through_and_stops_at_the_ends() -> None:
    """Scale 1/2, zero point 0: from -64 to 63.5."""
    values = torch.tensor([-70.0, -64.0, -0.2, 0.0, 3.3, 63.5, 63.9, 80.0], requires_grad=True)
    weights = torch.arange(1.0, 9.0)
    (given(0.5, 0)(values) * weights).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0]


def test_weights_by_hand() -> None:
    """Steps of 1/127, any, and 2: one scale an output channel, and -128 is never used."""
    weight = torch.tensor(
        [[1.0, -1.0, 0.3, 0.0039], [0.0, 0.0, 0.0, 0.0], [-254.0, 127.2, 0.9, 5.1]],
        requires_grad=True,
    )
    found = rounded_weights(weight)
    expected = [[1.0, -1.0, 38 / 127, 0.0], [0.0] * 4, [-254.0, 128.0, 0.0, 6.0]]
    torch.testing.assert_close(found, torch.tensor(expected))
    found.sum().backward()
    assert weight.grad is not None
    assert bool((weight.grad == 1).all()), "nothing is clipped, so all of it passes"


def test_weights_are_those_of_the_int8_file() -> None:
    from exporter.convert.quantize.plan import Affine
    from exporter.convert.quantize.rounding.weights import dequantize_weights, quantize_weights

    weight = np.random.default_rng(1).normal(0, 1, (7, 5, 3, 3)).astype(np.float32)
    weight *= np.geomspace(1e-3, 10, 7, dtype=np.float32)[:, None, None, None]
    source = Affine(0.02, -128)
    stored, _ = quantize_weights(weight, np.zeros(7, np.float32), source, source)
    expected, _ = dequantize_weights(stored, source)
    np.testing.assert_allclose(rounded_weights(torch.from_numpy(weight)).numpy(), expected, 1e-6)


def test_a_batch_norm_may_be_folded_before_or_after() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    factor = torch.tensor([1.0, -0.37, 12.0, 1e-4, -5.0, 0.7]).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(rounded_weights(weight * factor), rounded_weights(weight) * factor)


def test_scale_and_zero_point_by_hand() -> None:
    assert affine(0.0, 6.0) == (float(np.float32(6 / 255)), -128)
    assert affine(-1.0, 1.55) == (float(np.float32(0.01)), -28)
    assert affine(0.0, 0.0) == (float(np.float32(1 / 255)), -128)
    with pytest.raises(ArithmeticError):
        affine(0.0, float("nan"))


def watch(used: Range, *pictures: list[float]) -> Range:
    used.active, used.watching = False, True
    used(torch.tensor(pictures))
    used.close_batch()
    return used


def test_a_range_is_the_mean_of_the_pictures_extremes() -> None:
    """Lows -1 and -3, highs 4 and 1: [-2, 2.5]. Of the logits: [-3, 4]."""
    used = watch(watch(Range(), [-1.0, 0.0, 4.0]), [-3.0, 1.0, 0.5])
    used.settle()
    assert float(used.scale) == pytest.approx(4.5 / 255)
    assert int(used.zero_point) == round(-128 + 2 / 4.5 * 255)
    whole = watch(Range(whole=True), [-1.0, 0.0, 4.0], [-3.0, 1.0, 0.5])
    whole.settle()
    assert float(whole.scale) == pytest.approx(7 / 255)
    used = watch(used, [0.0, 1.0, 2.0])
    used.settle()
    assert float(used.scale) == pytest.approx(2 / 255), "what was measured before is forgotten"


class Everything(nn.Module):
    """One of each thing that is rounded, shared, given or left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.linear = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.gate = nn.Conv2d(8, 8, 1)
        self.left = nn.Conv2d(8, 4, 1)
        self.right = nn.Conv2d(8, 4, 1)
        self.pool = nn.MaxPool2d(2)
        self.average = nn.AvgPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        x = x + self.linear(x)
        x = x * torch.sigmoid(self.gate(x))
        x = torch.cat([self.left(x), self.right(x)], 1)
        x = self.average(self.pool(x))
        x = nn.functional.relu(x + 1.0)
        x = x.mean((2, 3))
        return self.head(self.drop(torch.flatten(x, 1)))


def noise(count: int, size: int = 32, seed: int = 0) -> Any:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_what_is_rounded() -> None:
    aware = QuantizationAware(Everything(), noise(1))
    assert aware.rounded == (
        "stem_2",  # conv, batch norm and ReLU6 are one operator
        "linear_1",  # a linear bottleneck
        "add",
        "gate",
        "sigmoid",
        "mul",
        "left",
        "right",
        "cat",
        "average",
        "relu",  # the sum before it is not rounded
        "mean",
        "head",
    )
    used = dict(zip(aware.rounded, places(aware), strict=True))
    assert used["left"] is used["right"] is used["cat"] is used["average"]
    assert len({id(each) for each in used.values()}) == 10
    assert used["head"].whole and not used["mean"].whole
    assert (float(used["sigmoid"].scale), int(used["sigmoid"].zero_point)) == (1 / 256, -128)


def places(aware: QuantizationAware) -> list[Range]:
    traced = aware.traced
    names = [n.target for n in traced.graph.nodes if str(n.target).startswith("rounded_")]
    return [traced.get_submodule(str(name)).to_range for name in names]


def test_what_comes_out_of_each_place_lies_on_its_steps() -> None:
    net = Everything().eval()
    aware = QuantizationAware(net, noise(1)).eval()
    aware.measure([noise(4)])
    seen: dict[int, Any] = {}
    for number, place in enumerate(aware.traced.children()):
        if type(place).__name__ == "Rounded":
            place.register_forward_hook(
                lambda module, _, out, number=number: seen.update({number: (module, out)})
            )
    aware(noise(4, seed=1))
    assert len(seen) == len(aware.rounded)
    for module, out in seen.values():
        steps = out.detach() / module.to_range.scale
        assert float((steps - steps.round()).abs().max()) < 1e-3
        assert len(out.unique()) <= 256
    sums = (net.stem(noise(4, seed=1)) * 255).detach()
    assert len(sums.unique()) > 256, "while the float network's do not"


def test_every_layer_of_a_mobilenet() -> None:
    net = zoo.create("mobilenet_v2", 5, width_mult=1.0, input_size=32)
    aware = QuantizationAware(net, noise(1))
    graph = aware.traced.graph
    sums = sum(node.target is operator.add for node in graph.nodes)
    assert sums == 10
    assert len(aware.rounded) == 52 + sums + 2  # convolutions, sums, the mean, the logits
    assert aware.rounded[0] == "features_0_2"
    assert aware.rounded[-2:] == ("adaptive_avg_pool2d", "classifier_1")
    layers = [m for m in aware.modules() if isinstance(m, QuantizedWeights)]
    assert len(layers) == 53
    assert len(aware.ranges) == len(aware.rounded)


def test_nothing_of_it_is_in_the_network() -> None:
    net = Everything()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    aware = QuantizationAware(net, noise(1))
    aware.measure([noise(3)])
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {id(p) for p in aware.parameters()} == {id(p) for p in net.parameters()}
    assert type(net.stem[0]) is nn.Conv2d


def test_as_float_is_the_network_itself() -> None:
    net = Everything().eval()
    aware = QuantizationAware(net, noise(1)).eval()
    aware.measure([noise(4)])
    pictures = noise(2, seed=3)
    with aware.as_float():
        assert torch.equal(aware(pictures), net(pictures))
    assert not torch.equal(aware(pictures), net(pictures))


def test_batch_norm_statistics_stay() -> None:
    net = Everything()
    aware = QuantizationAware(net, noise(1))
    aware.measure([noise(4)])
    aware.train()
    assert net.drop.training
    before = net.stem[1].running_mean.clone()
    aware(noise(4, seed=2)).sum().backward()
    assert torch.equal(net.stem[1].running_mean, before)
    assert net.stem[1].weight.grad is not None, "scale and shift go on learning"
    assert net.stem[0].weight.grad is not None
    assert float(net.stem[0].weight.grad.abs().max()) > 0


def test_every_scale_is_the_one_that_the_export_chooses(tmp_path: Path) -> None:
    """The exporter's own plan of the same network, ranges from the same pictures.

    Its graph begins with an operator more here, which centres the pixels; its logits
    therefore differ, but what int8 costs is the same.
    """
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.passes import INT8_TOLERANCE, for_channels_last, standard
    from exporter.convert.quantize.calibrate import calibrate
    from exporter.convert.quantize.groups import find_groups
    from exporter.convert.quantize.simulate import Simulator

    path = tmp_path / "model.onnx"
    nets.small_onnx(path)
    pixels = nets.images(24, nets.SIZE)
    graph = standard(read_graph(path), tolerance=INT8_TOLERANCE, probes=pixels[:8])
    graph = for_channels_last(graph)
    plan = calibrate(graph, pixels, rule="mean_min_max", correct_bias=False)
    net = copy.deepcopy(nets.small_net())
    pictures = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    aware = QuantizationAware(net, pictures[:1]).eval()
    aware.measure([pictures[:10], pictures[10:]])

    theirs = [group.tensors[0] for group in find_groups(graph) if group.fixed is None]
    theirs = theirs[-len(aware.rounded) :]
    for name, place, tensor in zip(aware.rounded, places(aware), theirs, strict=True):
        scale = plan.activations[tensor]
        assert float(place.scale) == pytest.approx(scale.scale, rel=1e-4), name
        assert int(place.zero_point) == pytest.approx(scale.zero_point, abs=1), name

    simulator = Simulator(graph, plan, [graph.logits])
    rounded = np.stack([simulator.run(each)[graph.logits].reshape(-1) for each in pixels])
    with torch.no_grad():
        ours, exact = aware(pictures).numpy(), net(pictures).numpy()
    cost = ((rounded - exact) ** 2).mean()
    assert ((ours - exact) ** 2).mean() == pytest.approx(cost, rel=0.3)


class Kinds(nn.Module):
    """Tensors whose range is given, shared or bounded by what reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Hardswish())
        self.squashed = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Tanh(), nn.AvgPool2d(2))
        self.swish = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.SiLU())
        self.joined = nn.Conv2d(16, 8, 1)
        self.gate = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.open = nn.Conv2d(8, 8, 1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, nets.CLASSES)
        with torch.no_grad():  # far enough out for the bounds to matter
            for layer in (self.stem[0], self.swish[0], self.gate[0], self.open):
                layer.weight.mul_(12.0)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        x = self.joined(torch.cat([self.squashed(x), self.swish(x)], 1))
        x = torch.cat([x * self.gate(x), self.open(x)], 1)
        x = self.last(torch.relu(self.pool(x)))
        return self.head(torch.sigmoid(x).mean((2, 3)))


def test_given_and_bounded_ranges() -> None:
    torch.manual_seed(3)
    net = Kinds()
    aware = QuantizationAware(net, noise(1))
    used = dict(zip(aware.rounded, places(aware), strict=True))
    assert (float(used["squashed_1"].scale), int(used["squashed_1"].zero_point)) == (1 / 128, 0)
    assert used["squashed_2"] is used["squashed_1"], "an average keeps its input's scale"
    assert used["cat"] is used["swish_1"] is not used["squashed_1"], "which a concatenation cannot"
    assert used["stem_0"].useful == (-3.0, math.inf)
    assert used["swish_0"].useful == (-math.log(511), math.inf)
    assert used["gate_0"].useful == (-3.0, 3.0)
    assert used["cat_1"] is used["mul"] is used["open_1"]
    assert used["cat_1"].useful == (0.0, math.inf), "a ReLU behind max pooling"
    assert used["last"].useful == (-math.log(511), math.log(511))
    for name in ("stem_1", "swish_1", "joined", "relu", "head"):
        assert used[name].useful == (-math.inf, math.inf)
    aware.measure([noise(4)])
    low, high = lowest_and_highest(used["stem_0"])
    assert low == pytest.approx(-3.0, rel=0.02) and high > 4
    low, high = lowest_and_highest(used["gate_0"])
    assert (low, high) == (pytest.approx(-3.0, rel=0.02), pytest.approx(3.0, rel=0.02))
    assert int(used["cat_1"].zero_point) == -128
    assert float(used["squashed_1"].scale) == 1 / 128


def lowest_and_highest(used: Range) -> tuple[float, float]:
    scale, zero = float(used.scale), int(used.zero_point)
    return (-128 - zero) * scale, (127 - zero) * scale


def test_a_swish_rounds_its_gate_as_logistic_does() -> None:
    values = torch.linspace(-8.0, 8.0, 1001)
    gates = torch.clamp(torch.round(torch.sigmoid(values) * 256), 0, 255) / 256
    torch.testing.assert_close(RoundedSiLU()(values), values * gates)
    aware = QuantizationAware(Kinds().eval(), noise(1))
    assert [type(m) for m in aware.modules()].count(RoundedSiLU) == 1
    with aware.as_float(), torch.no_grad():
        x = noise(1, size=8)
        torch.testing.assert_close(aware.traced.swish.get_submodule("1")(x), nn.functional.silu(x))


def test_these_scales_too_are_the_exports(tmp_path: Path) -> None:
    """As sets: a tensor of the one is not always one of the other."""
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.passes import INT8_TOLERANCE, for_channels_last, standard
    from exporter.convert.quantize.calibrate import calibrate
    from exporter.convert.to_onnx import export_classifier
    from models.classifier import Classifier

    torch.manual_seed(3)
    net = Kinds().eval()
    path, contract = tmp_path / "model.onnx", nets.small_contract()
    export_classifier(Classifier(net, contract), contract, path)
    pixels = nets.images(12, nets.SIZE)
    graph = standard(read_graph(path), tolerance=INT8_TOLERANCE, probes=pixels[:8])
    graph = for_channels_last(graph)
    plan = calibrate(graph, pixels, rule="mean_min_max", correct_bias=False)
    pictures = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    aware = QuantizationAware(net, pictures[:1]).eval()
    aware.measure([pictures])
    theirs = {(each.scale, each.zero_point) for each in plan.activations.values()}
    ours = {(float(each.scale), int(each.zero_point)) for each in aware.ranges}
    for name, place in zip(aware.rounded, places(aware), strict=True):
        assert near(place, theirs), name
    spare = [one for one in theirs if not any(alike(one, other) for other in ours)]
    assert len(spare) <= 2, "the pixels, and those pixels centred"


def alike(one: tuple[float, int], other: tuple[float, int]) -> bool:
    return abs(one[0] / other[0] - 1) < 1e-3 and abs(one[1] - other[1]) <= 1


def near(used: Range, scales: set[tuple[float, int]]) -> bool:
    return any(alike((float(used.scale), int(used.zero_point)), each) for each in scales)


class Uneven(nn.Module):
    """Three small channels tell the classes, the fourth is a hundred times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(4, 3).reshape(4, 3, 1, 1))
            self.conv.weight[3] = 100.0
            self.conv.bias.zero_()
            self.head.weight.copy_(torch.eye(3, 4) * 10)
            self.head.bias.zero_()

    def forward(self, x: Any) -> Any:
        return self.head(nn.functional.adaptive_avg_pool2d(torch.relu(self.conv(x)), 1).flatten(1))


def test_a_network_that_int8_ruins_learns_to_live_with_it() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(3).repeat(40)
    pictures = torch.rand(120, 3, 4, 4, generator=generator)
    pictures += 0.6 * nn.functional.one_hot(targets, 3)[:, :, None, None]
    torch.manual_seed(0)
    net = Uneven()
    aware = QuantizationAware(net, pictures[:1])
    aware.measure([pictures])

    def accuracy(run: Any) -> float:
        with torch.no_grad():
            return float((run(pictures).argmax(1) == targets).float().mean())

    assert accuracy(net) > 0.95
    assert accuracy(aware) < 0.6
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for step in range(150):
        if step % 25 == 0:
            aware.measure([pictures])
        optimizer.zero_grad()
        nn.functional.cross_entropy(aware(pictures), targets).backward()
        optimizer.step()
    aware.measure([pictures])
    assert accuracy(aware) > 0.9
    with aware.as_float():
        assert accuracy(aware) > 0.9


class Branching(nn.Module):
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced() -> None:
    with pytest.raises(TrainingError, match="Branching") as raised:
        QuantizationAware(Branching(), noise(1))
    assert "cannot trace" in raised.value.why
    assert "distill" in raised.value.mend
