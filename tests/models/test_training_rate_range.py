"""The learning rate range test: its rule on curves made by hand, and that it changes nothing."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.training.rate_range import RateRange, burst, rates, smooth
from models.training.settings import TrainingError, TrainSettings

if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)
import torch

from models.finetune import find_rate, train
from models.training.task import Task
from support.cli import run_cli
from support.colours import draw


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "train", 14)


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        out=tmp_path / "run", data=data, architecture="lenet5_relu", epochs=2, batch_size=8,
        progress=False, temperature=False, tensorboard=False,
    )  # fmt: skip


def test_rates_grow_by_one_factor() -> None:
    found = rates("adamw", 8)
    assert (found[0], found[-1]) == (pytest.approx(1e-7), pytest.approx(1.0))
    assert all(b / a == pytest.approx(10.0) for a, b in pairwise(found))
    assert rates("sgd")[-1] == pytest.approx(10.0)


def test_smoothing_by_hand() -> None:
    # A single one among zeros becomes the triangle of the weights, 5 of 25 in the middle.
    spike = smooth([0.0] * 8 + [25.0] + [0.0] * 8)
    assert spike[2:-2] == pytest.approx([0, 0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0, 0])
    # At the edges the weights that are there count: (5 * 1 + 4 * 2 + 3 * 3) / 12.
    assert smooth([1.0, 2.0, 3.0])[0] == pytest.approx(22 / 12)
    assert smooth([2.0] * 20) == pytest.approx([2.0] * 20)
    assert smooth([]) == ()


def valley(bottom: int, depth: float, noise: float = 0.0) -> RateRange:
    """A loss of 2 that falls to its lowest at step `bottom` and bursts behind it."""
    losses = []
    for step in range(100):
        below = depth * max(0.0, 1 - abs(step - bottom) / 30) if step <= bottom else 0.0
        above = 0.2 * (step - bottom) if step > bottom else 0.0
        start = depth if step > bottom else below
        losses.append(2.0 - start + above + noise * (-1) ** step)
    return RateRange(rates("adamw"), tuple(losses))


def test_a_tenth_of_the_rate_of_the_lowest_loss() -> None:
    found = valley(bottom=70, depth=1.0)
    assert found.lowest == 68, "what bursts behind it pulls the smoothed curve up"
    # 1e-7 * 10 ** (7 * 68 / 99) = 6.43e-3
    assert found.suggestion == pytest.approx(6.4e-4)


def test_nothing_is_suggested_where_the_loss_does_not_fall() -> None:
    assert valley(bottom=70, depth=0.0).suggestion is None
    # Noise of 0.5 smoothed over nine steps is about 0.18: a fall of 0.3 says nothing.
    assert valley(bottom=70, depth=0.3, noise=0.5).suggestion is None
    assert valley(bottom=70, depth=0.3, noise=0.02).suggestion is not None
    assert RateRange(rates("adamw")[:3], (2.0, 1.0, 0.5)).suggestion is None


def test_when_it_ends() -> None:
    assert not burst([2.0, 2.0, 2.0, 2.0, 2.0, 3.9])
    assert burst([2.0, 2.0, 2.0, 2.0, 2.0, 4.1])
    assert burst([2.0, math.nan])
    assert burst([2.0, math.inf])


def test_the_rates_reach_the_optimizer_with_their_factors(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step learns at the rate of the table; a new head stays ten times as fast."""
    seen: list[list[float]] = []
    original = Task.optimizer_step

    def note(self: Task, epoch: int, index: int, optimizer: Any, *rest: Any) -> None:
        seen.append(sorted({group["lr"] for group in optimizer.param_groups}))
        original(self, epoch, index, optimizer, *rest)

    monkeypatch.setattr(Task, "optimizer_step", note)
    train(dataclasses.replace(settings, epochs=1))
    seen.clear()
    weights = str(settings.out / "checkpoint.safetensors")
    found = find_rate(
        dataclasses.replace(settings, out=settings.out.with_name("tried"), weights=weights)
    )
    assert len(found.rates) > 40
    for pair, rate in zip(seen, found.rates, strict=False):
        assert pair == pytest.approx([rate, 10 * rate])


def test_files_and_that_a_training_afterwards_is_the_same(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tried = dataclasses.replace(settings, out=settings.out.with_name("tried"))
    found = find_rate(tried, on_message=said.append)
    assert sorted(path.name for path in tried.out.iterdir()) == ["lr-range.csv", "lr-range.png"]
    assert any("lr-range.png" in line for line in said)
    with (tried.out / "lr-range.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["loss"]) for row in rows] == pytest.approx(found.losses, rel=1e-5)
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(found.rates, rel=1e-5)
    with Image.open(tried.out / "lr-range.png") as picture:
        assert picture.width > 600
    train(tried)
    train(settings)
    first, second = (
        torch.load(run.out / "last.ckpt", weights_only=True) for run in (tried, settings)
    )
    assert all(
        torch.equal(first["state_dict"][key], second["state_dict"][key])
        for key in first["state_dict"]
    )
    assert first["optimizer_states"][0]["state"].keys() == (
        second["optimizer_states"][0]["state"].keys()
    )


def test_refused(settings: TrainSettings) -> None:
    with pytest.raises(TrainingError, match="exclude each other"):
        find_rate(dataclasses.replace(settings, resume=True))
    with pytest.raises(TrainingError, match="in one process"):
        find_rate(dataclasses.replace(settings, devices=2))


def test_the_command_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    words = ["train", "--data", data, "--out", tmp_path / "my run", "--arch", "lenet5_relu",
             "--batch-size", 8]  # fmt: skip
    ran = run_cli(*words, "--find-lr")
    assert ran.code == 0, ran.text
    if "No learning rate" in ran.out:
        pytest.fail(ran.out)
    (line,) = [line for line in ran.out.splitlines() if line.startswith("Next: ")]
    assert "--find-lr" not in line
    assert line.split("--learning-rate ")[1] in ran.out.split("Learning rate ")[1]
    assert "'" + str(tmp_path / "my run") + "'" in line
    assert not (tmp_path / "my run" / "run.json").exists()
