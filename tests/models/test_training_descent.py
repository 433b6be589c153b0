"""Optimizers, schedules, clipping, precision and averaged weights, against values by hand."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.training.settings import TrainingError, TrainSettings, check
from models.training.techniques import Descent, Stages, Techniques

if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)
import torch

from models.checkpoint import load_checkpoint
from models.finetune import TrainingInterruptedError, train
from models.training import fitting
from models.training.averaging import Averaging, decay_at
from models.training.descent import optimizer_of, schedule_of

OPTIONS = {"width_mult": 0.1, "input_size": 32}
COLOURS = {"blue": (60, 60, 200), "green": (60, 190, 60), "red": (200, 60, 60)}


def draw(folder: Path, per_class: int) -> Path:
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(np.array(colour) + rng.normal(0, 40, (36, 40, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "train", 14)


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        out=tmp_path / "run", data=data, options=OPTIONS, epochs=3, batch_size=8, name="colours",
        progress=False,
    )  # fmt: skip


def with_descent(settings: TrainSettings, **more: Any) -> TrainSettings:
    return dataclasses.replace(settings, techniques=Techniques(descent=Descent(**more)))


def rates(descent: Descent, steps: int, warm_up: float, peak: float = 1.0) -> list[float]:
    """The learning rate of each step, of two groups of which the second is half as fast."""
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    groups = [{"params": [first], "lr": peak}, {"params": [second], "lr": peak / 2}]
    optimizer = optimizer_of(descent, groups)
    schedule = schedule_of(descent, optimizer, steps, warm_up)
    found = []
    for _ in range(steps):
        a, b = (group["lr"] for group in optimizer.param_groups)
        assert b == pytest.approx(a / 2)
        found.append(a)
        optimizer.step()
        schedule.step()
    return found


def test_constant_with_warm_up() -> None:
    found = rates(Descent(schedule="constant"), 10, 0.3, peak=0.8)
    assert found == pytest.approx([0.2, 0.4, 0.6] + [0.8] * 7)


def test_cosine_with_warm_up() -> None:
    # Two steps rise (1/3, 2/3), then half a cosine over eight: cos of 0, 22.5, 45 ... degrees.
    falling = [0.5 + 0.5 * math.cos(math.radians(22.5 * k)) for k in range(8)]
    assert falling[4] == pytest.approx(0.5)
    found = rates(Descent(schedule="cosine"), 10, 0.2)
    assert found == pytest.approx([1 / 3, 2 / 3, *falling])


def test_one_cycle_is_as_it_was() -> None:
    found = rates(Descent(), 9, 0.5, peak=0.25)
    assert found[0] == pytest.approx(0.01)  # a 25th
    assert max(found) == pytest.approx(0.25, rel=0.05)
    assert found[-1] == pytest.approx(0.01 / 1e4)
    # pct_start 0.5 of 9 steps: the top is at step 3.5; step 2 is cosine at 2 / 3.5 of the way
    rise = 0.01 + (0.25 - 0.01) * 0.5 * (1 - math.cos(math.pi * 2 / 3.5))
    assert found[2] == pytest.approx(rise)


def test_short_schedules_do_not_divide_by_zero() -> None:
    for schedule in ("one-cycle", "cosine", "constant"):
        for steps in (1, 2, 3):
            found = rates(Descent(schedule=schedule), steps, 0.5)  # type: ignore[arg-type]
            assert all(0 < rate <= 1 for rate in found), (schedule, steps, found)


def test_sgd_is_nesterovs_with_coupled_decay() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    groups = [{"params": [weight], "lr": 0.1, "weight_decay": 0.5}]
    optimizer = optimizer_of(Descent(optimizer="sgd"), groups)
    # gradient 2 + 0.5 w; v1 = 2.5, step g + 0.9 v = 2.5 + 2.25; w = 1 - 0.475
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    assert weight.item() == pytest.approx(0.525)
    # g = 2 + 0.2625, v2 = 0.9 * 2.5 + g = 4.5125; w -= 0.1 (g + 0.9 v2)
    optimizer.step()
    assert weight.item() == pytest.approx(0.525 - 0.1 * (2.2625 + 0.9 * 4.5125))


def test_sgd_has_rates_and_decay_of_its_own(settings: TrainSettings) -> None:
    sgd = with_descent(settings, optimizer="sgd")
    assert sgd.recipe.learning_rate == pytest.approx(30 * settings.recipe.learning_rate)
    assert (settings.decay, sgd.decay) == (0.02, 1e-4)
    own = dataclasses.replace(sgd, learning_rate=0.3, weight_decay=0.01)
    assert (own.recipe.learning_rate, own.decay) == (0.3, 0.01)


def test_decay_of_the_average_warms_up() -> None:
    assert decay_at(0.9, 1) == pytest.approx(2 / 11)
    assert decay_at(0.9, 71) == pytest.approx(72 / 81)
    assert decay_at(0.9, 90) == 0.9


def test_the_average_by_hand() -> None:
    average = Averaging(0.5)
    count = torch.tensor(1)
    before, now = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0])
    share = 2 / 11
    found = average._average(before, now, count)
    assert found.tolist() == pytest.approx([share * 1 + (1 - share) * 2, 3.0])
    still = torch.randn(1000)
    assert torch.equal(average._average(still, still.clone(), torch.tensor(50)), still)
    assert int(average._average(torch.tensor(4), torch.tensor(9), count)) == 9


def state_of(out: Path) -> dict[str, Any]:
    return dict(load_checkpoint(out / "checkpoint.safetensors").state)


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_what_is_judged_and_kept_is_the_average_of_the_steps(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average is worked out here again, in float64, from the weights after each step."""
    seen: list[dict[str, Any]] = []
    judged: list[dict[str, Any]] = []
    from models.training.task import Task

    original = Averaging.on_train_batch_end

    def watch(self: Any, trainer: Any, task: Task, *rest: Any) -> None:
        seen.append({k: v.clone().double() for k, v in task.net.state_dict().items()})
        original(self, trainer, task, *rest)

    def judge(self: Task) -> None:
        judged.append({k: v.clone() for k, v in self.net.state_dict().items()})
        before(self)

    before = Task.on_validation_epoch_start
    monkeypatch.setattr(Averaging, "on_train_batch_end", watch)
    monkeypatch.setattr(Task, "on_validation_epoch_start", judge)
    averaged = dataclasses.replace(with_descent(settings, ema=0.8), epochs=1)
    train(averaged)
    assert len(seen) >= 4
    expected = dict(seen[0])
    for place, state in enumerate(seen[1:], 1):
        keep = min(0.8, (1 + place) / (10 + place))
        for key, value in state.items():
            expected[key] = keep * expected[key] + (1 - keep) * value
    kept = state_of(averaged.out)
    assert equal(kept, judged[0])
    moved = 0.0
    for key, value in expected.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.allclose(kept[key].double(), value, atol=1e-6), key
            moved = max(moved, float((kept[key].double() - seen[-1][key]).abs().max()))
    assert moved > 1e-3, "the average is not simply the last weights"
    assert any("running_var" in key for key in kept)


@pytest.mark.parametrize(
    "descent",
    [
        {"ema": 0.9, "optimizer": "sgd", "schedule": "cosine", "clip_norm": 1.0},
        {"ema": 0.9, "precision": "bf16", "schedule": "constant"},
    ],
)
def test_a_resumed_run_goes_on_exactly(settings: TrainSettings, descent: dict[str, Any]) -> None:
    whole = with_descent(settings, **descent)
    train(whole)
    again = dataclasses.replace(whole, out=settings.out.with_name("again"))

    def interrupt(text: str) -> None:
        if text.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterruptedError):
        train(again, on_message=interrupt)
    torch.manual_seed(99)
    train(dataclasses.replace(again, resume=True))
    first, second = (torch.load(run.out / "last.ckpt", weights_only=True) for run in (whole, again))
    assert equal(first["state_dict"], second["state_dict"])
    assert equal(first["current_model_state"], second["current_model_state"])
    for one, other in zip(
        first["optimizer_states"][0]["state"].values(),
        second["optimizer_states"][0]["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(one[key], other[key]) for key in one if torch.is_tensor(one[key]))
    assert equal(state_of(whole.out), state_of(again.out))


def test_frozen_layers_are_their_own_average(settings: TrainSettings) -> None:
    train(dataclasses.replace(settings, epochs=1))
    start = settings.out / "checkpoint.safetensors"
    stages = Stages(freeze_backbone=True, unfreeze_blocks=1, stage_epochs=2)
    later = dataclasses.replace(
        settings, out=settings.out.with_name("frozen"), weights=str(start), epochs=2,
        techniques=Techniques(stages=stages, descent=Descent(ema=0.9)),
    )  # fmt: skip
    train(later)
    before, after = dict(load_checkpoint(start).state), state_of(later.out)
    still = [key for key in before if key.startswith("features.0.")]
    assert still and all(torch.equal(before[key], after[key]) for key in still)


def test_gradients_are_clipped_by_their_norm(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    make = optimizer_of

    def watched(descent: Descent, groups: list[dict[str, Any]]) -> Any:
        optimizer = make(descent, groups)

        def note(optimizer: Any, args: Any, kwargs: Any) -> None:
            grads = [p.grad for g in optimizer.param_groups for p in g["params"]]
            norms.append(float(torch.stack([g.norm() for g in grads if g is not None]).norm()))

        optimizer.register_step_post_hook(note)
        return optimizer

    monkeypatch.setattr("models.training.task.optimizer_of", watched)
    once = dataclasses.replace(settings, epochs=1, seed=1)
    train(with_descent(once, optimizer="sgd"))
    free, norms[:] = list(norms), []
    assert max(free) > 0.05
    train(dataclasses.replace(with_descent(once, optimizer="sgd", clip_norm=0.05), force=True))
    assert max(norms) <= 0.05 * 1.001
    assert max(norms) == pytest.approx(0.05, rel=0.01)


def test_bf16_learns_other_numbers_and_keeps_float32(settings: TrainSettings) -> None:
    once = dataclasses.replace(settings, epochs=1)
    train(once)
    mixed = with_descent(dataclasses.replace(once, out=settings.out.with_name("bf16")),
                         precision="bf16")  # fmt: skip
    train(mixed)
    exact, rough = state_of(once.out), state_of(mixed.out)
    assert all(rough[key].dtype == exact[key].dtype for key in exact)
    assert not equal(exact, rough)


def test_precisions_that_the_device_has_not(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match="fp16 is not for the device 'cpu'") as caught:
        train(with_descent(dataclasses.replace(settings, device="cpu"), precision="fp16"))
    assert "bf16" in caught.value.mend
    assert not settings.out.exists(), "refused before anything is written"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old one")
    old = with_descent(dataclasses.replace(settings, device="cuda"), precision="bf16")
    with pytest.raises(TrainingError, match="not for the device 'cuda'"):
        fitting.precision_of(old)
    assert fitting.precision_of(with_descent(old, precision="fp16")) == "16-mixed"


def test_int8s_rounding_is_learned_in_float32(settings: TrainSettings) -> None:
    for change in ({"ema": 0.9}, {"precision": "bf16"}):
        aware = dataclasses.replace(
            with_descent(settings, **change), quantization_aware=True, weights="somewhere"
        )
        with pytest.raises(TrainingError, match="exclude each other"):
            check(aware)
