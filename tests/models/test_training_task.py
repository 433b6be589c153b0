"""Our wiring of loss, optimizer and schedule, against values worked by hand."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest

from models import zoo
from models.contract import Contract, Label, Preprocessing

torch = pytest.importorskip("torch")
if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)

from models.classifier import Classifier  # noqa: E402 - needs torch
from models.training.blocks import whole  # noqa: E402
from models.training.settings import TrainSettings  # noqa: E402
from models.training.task import Task, parameter_groups  # noqa: E402
from models.training.techniques import LossChoice, Techniques  # noqa: E402

SETTINGS = TrainSettings(out=Path("nowhere"), learning_rate=0.01, weights="imagenet", warm_up=0.25)


class Fixed(torch.nn.Module):
    """The same logits whatever comes in."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([logits]))

    def forward(self, x: Any) -> Any:
        return self.logits.expand(len(x), -1)


def batch(*targets: int) -> Any:
    pixels = torch.zeros(len(targets), 3, 4, 4, dtype=torch.uint8)
    return pixels, torch.tensor(targets)


def test_smoothed_loss_by_hand() -> None:
    task = Task(Fixed(math.log(3.0), 0.0), SETTINGS, 4)
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    task.on_train_epoch_start()
    # p = (3/4, 1/4); the target 0.95 / 0.05 since 0.1 is spread over both classes
    expected = -(0.95 * math.log(0.75) + 0.05 * math.log(0.25))
    assert float(task.training_step(batch(0), 0).detach()) == pytest.approx(expected, rel=1e-6)
    wrong = -(0.05 * math.log(0.75) + 0.95 * math.log(0.25))
    task.training_step(batch(1, 1, 1), 1)
    assert task.training_loss() == pytest.approx((expected + 3 * wrong) / 4, rel=1e-6)


class Headed(Fixed):
    """A head that exists in training only, as GoogLeNet's; it answers the other way round."""

    def forward(self, x: Any) -> Any:
        logits = super().forward(x)
        return (logits, logits.flip(1)) if self.training else logits


def test_auxiliary_heads_count_as_the_architecture_says() -> None:
    plain = Techniques(loss=LossChoice(label_smoothing=0.0))
    settings = dataclasses.replace(SETTINGS, architecture="inception_v3", techniques=plain)
    task = Task(Headed(math.log(3.0), 0.0), settings, 4)
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    task.on_train_epoch_start()
    expected = -(math.log(0.75) + 0.4 * math.log(0.25))
    assert float(task.training_step(batch(0), 0).detach()) == pytest.approx(expected, rel=1e-6)
    task.eval()
    task.on_validation_epoch_start()
    task.validation_step(batch(0, 1), 0)
    task.on_validation_epoch_end()


def test_a_network_of_one_channel_is_trained_on_what_it_will_see() -> None:
    name = next(name for name in zoo.names() if zoo.get(name).grayscale)
    size = int(zoo.get(name).options["input_size"].default)
    settings = dataclasses.replace(SETTINGS, architecture=name)
    pixels = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)
    task = Task(zoo.create(name, 2), settings, 4).eval()
    contract = Contract((Label("a"), Label("b")), settings.preprocessing)
    assert contract.preprocessing.grayscale
    wanted = Classifier(task.net, contract).eval().logits(pixels.permute(0, 2, 3, 1))
    torch.testing.assert_close(task(pixels), wanted)


def test_validation_is_not_smoothed_and_counts_pictures() -> None:
    task = Task(Fixed(math.log(3.0), 0.0), SETTINGS, 4)
    logged: dict[str, float] = {}
    task.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore
    task.on_validation_epoch_start()
    task.validation_step(batch(0, 0, 1), 0)
    task.validation_step(batch(1), 1)
    task.on_validation_epoch_end()
    assert logged["validation_accuracy"] == 0.5
    assert logged["validation_loss"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_a_loss_that_is_not_finite_stops() -> None:
    task = Task(Fixed(float("nan"), 0.0), SETTINGS, 4)
    with pytest.raises(ArithmeticError):
        task.training_step(batch(0), 0)


def test_one_cycle_peaks_where_it_was_asked() -> None:
    net = zoo.create("mobilenet_v2", 3, width_mult=0.1, input_size=32)
    configured = Task(net, SETTINGS, 40).configure_optimizers()
    assert configured["lr_scheduler"]["interval"] == "step"
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(40):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if len(rates) < 40:
            schedule.step()
    backbone = [min(rate) for rate in rates]
    head = [max(rate) for rate in rates]
    assert backbone[0] == pytest.approx(0.01 / 25)  # OneCycleLR's div_factor
    assert max(backbone) == pytest.approx(0.01)
    assert backbone.index(max(backbone)) == 9  # a quarter of 40 steps, counted from 0
    assert max(head) == pytest.approx(0.1)  # the head learns ten times as fast
    assert backbone[-1] < 1e-7
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 8])
def test_few_steps_rise_and_fall_too(steps: int) -> None:
    """A quarter of four steps is one, by which OneCycleLR would divide by zero."""
    net = zoo.create("mobilenet_v2", 3, width_mult=0.1, input_size=32)
    configured = Task(net, SETTINGS, steps).configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert all(0 < rate < 0.1001 for rate in rates)
    assert steps == 1 or rates[-1] < rates[-2]


def test_groups_hold_every_parameter_once() -> None:
    net = zoo.create("mobilenet_v2", 3, width_mult=0.1, input_size=32)
    groups = parameter_groups(net, whole(zoo.get("mobilenet_v2"), net, 10.0), 0.01, 0.05)
    held = [id(p) for group in groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in net.parameters()}
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0)
    (decayed_head,) = (g for g in groups if g["lr"] == 0.1 and g["weight_decay"])
    assert [tuple(p.shape) for p in decayed_head["params"]] == [(3, 1280)]


def test_auxiliary_heads_learn_as_fast_as_the_head() -> None:
    """They are as new as the head is where a network is fine-tuned."""
    net = zoo.create("googlenet", 3, input_size=32)
    settings = dataclasses.replace(SETTINGS, architecture="googlenet", options={"input_size": 32})
    configured = Task(net, settings, 4).configure_optimizers()
    groups = configured["optimizer"].param_groups
    fastest = max(group["max_lr"] for group in groups)
    fast = {id(p) for g in groups if g["max_lr"] == fastest for p in g["params"]}
    heads = ("fc.", "aux1.fc2.", "aux2.fc2.")
    assert fast == {id(p) for name, p in net.named_parameters() if name.startswith(heads)}


def test_trains_on_what_the_classifier_will_see() -> None:
    torch.manual_seed(0)
    net = zoo.create("mobilenet_v2", 3, width_mult=0.1, input_size=32)
    rule = Preprocessing(height=32, width=32, resize_shorter_side=32)
    contract = Contract((Label("a"), Label("b"), Label("c")), rule)
    task = Task(net, dataclasses.replace(SETTINGS), 4).eval()
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = Classifier(net, contract).eval().logits(pixels)
        found = task(pixels.permute(0, 3, 1, 2))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
