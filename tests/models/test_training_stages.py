"""Stages: a frozen backbone stays as it is, later stages let go, and a killed run goes on."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import zoo
from models.checkpoint import load_checkpoint, save_checkpoint
from models.data.labelled import DataError
from models.training.settings import FROZEN, TrainingError, TrainSettings, check
from models.training.stages import plan
from models.training.techniques import Descent, LossChoice, Mixing, Stages, Techniques

if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)
import torch

from models import finetune
from models.checkpoint import Checkpoint
from models.contract import Contract, Label
from models.training import cached, course

COLOURS = {"blue": (60, 60, 200), "green": (60, 190, 60), "red": (200, 60, 60)}
OPTIONS = {"width_mult": 0.1, "input_size": 32}


def draw(folder: Path, per_class: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(np.array(colour) + rng.normal(0, 60, (36, 40, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "train", 14, 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of another task, whose statistics are those of pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = zoo.get("mobilenet_v2").create(5, OPTIONS)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the statistics of the one batch that follows
        with torch.no_grad():
            net(torch.rand(64, 3, 1, 1) * 2 - 1 + torch.randn(64, 3, 32, 32) / 4)
    labels = tuple(Label(f"other {place}") for place in range(5))
    rule = TrainSettings(out=Path("nowhere"), options=OPTIONS).preprocessing
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    checkpoint = Checkpoint("mobilenet_v2", OPTIONS, net.state_dict(), Contract(labels, rule))
    save_checkpoint(checkpoint, path)
    return path


def frozen(**more: Any) -> Techniques:
    return Techniques(stages=Stages(freeze_backbone=True, stage_epochs=2, **more))


@pytest.fixture
def settings(data: Path, trained: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        out=tmp_path / "run", data=data, weights=str(trained), options=OPTIONS, epochs=3,
        batch_size=8, techniques=frozen(),
    )  # fmt: skip


def after(settings: TrainSettings) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The state that was kept, the history, and what was said."""
    said: list[str] = []
    path = finetune.train(settings, on_message=said.append)
    history = json.loads((settings.out / "history.json").read_text())
    return dict(load_checkpoint(path).state), history, said


def beginning(settings: TrainSettings) -> dict[str, Any]:
    from models.training.start import starting_network

    labels = tuple(Label(name) for name in COLOURS)
    return dict(starting_network(settings, labels, lambda text: None).state_dict())


def moved(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], now[name])}


def test_the_plan() -> None:
    settings = TrainSettings(out=Path("run"), weights="imagenet", techniques=frozen())
    (head,) = plan(settings)
    assert (head.blocks, head.epochs, head.settings) == (0, FROZEN.epochs, settings)
    settings = dataclasses.replace(settings, techniques=frozen(unfreeze_blocks=2, stage_rate=2e-4))
    stages = plan(settings)
    assert [stage.blocks for stage in stages] == [0, 1, 2], "backwards from the head"
    assert [stage.epochs for stage in stages] == [FROZEN.epochs, 2, 2]
    assert [stage.settings.recipe.learning_rate for stage in stages] == [5e-3, 2e-4, 2e-4]
    assert len({stage.settings.seed for stage in stages}) == 3
    (whole,) = plan(TrainSettings(out=Path("run")))
    assert whole.blocks is None
    assert whole.name == ""


def test_only_the_head_learns_on_features(settings: TrainSettings) -> None:
    state, history, said = after(settings)
    assert moved(beginning(settings), state) == {"classifier.1.weight", "classifier.1.bias"}
    assert [row["stage"] for row in history["epochs"]] == ["head"] * 3
    assert any("features of the frozen backbone in" in line for line in said)
    again, _, said = after(dataclasses.replace(settings, force=True))
    assert any(f"features of the frozen backbone from {settings.out.parent}" in s for s in said)
    assert not moved(state, again), "the seed repeats the run"


def test_the_head_learns_to_tell_colours(settings: TrainSettings) -> None:
    """Random features of colours suffice for a linear head: it must reach them all."""
    _, history, _ = after(dataclasses.replace(settings, epochs=25, learning_rate=0.05))
    assert history["best"]["validation_accuracy"] >= 0.8  # by chance it is a third


def test_statistics_of_frozen_layers_do_not_move_and_those_of_others_do(
    settings: TrainSettings,
) -> None:
    """Of MobileNetV2 the last two blocks learn: features.17 and features.18."""
    before = beginning(settings)
    steps: list[set[str]] = []
    task_of = course.Task

    class Watched(task_of):  # type: ignore[misc, valid-type]
        def on_train_epoch_end(self) -> None:
            steps.append({name for name, m in self.net.named_modules() if m.training})

    course.Task = Watched  # type: ignore[misc]
    try:
        finetune.train(dataclasses.replace(settings, techniques=frozen(unfreeze_blocks=2)))
    finally:
        course.Task = task_of  # type: ignore[misc]
    last = torch.load(settings.out / "last.ckpt", weights_only=True)["state_dict"]
    state = {name.removeprefix("net."): value for name, value in last.items()}
    learning = ("features.17.", "features.18.", "classifier.1.")
    changed = moved(before, state)
    assert {name for name in before if not name.startswith(learning)}.isdisjoint(changed)
    statistics = {name for name in before if name.endswith(("running_mean", "running_var"))}
    assert {name for name in statistics if name.startswith(learning)} <= changed
    weights = {name for name in before if name.endswith("weight") and name.startswith(learning)}
    assert weights <= changed
    first = {name for name in steps[0] if name.startswith("features.")}
    assert len(steps) == 4
    assert first
    assert all(name.startswith("features.18") for name in first), "after a validation too"
    assert "classifier.0" in steps[0], "the head's dropout"


def test_averaged_weights_leave_what_is_frozen_to_the_last_bit(settings: TrainSettings) -> None:
    before = beginning(settings)
    averaged = dataclasses.replace(frozen(unfreeze_blocks=1), descent=Descent(ema=0.9))
    state, history, _ = after(dataclasses.replace(settings, techniques=averaged))
    assert len(history["epochs"]) == 5
    learning = ("features.18.", "classifier.1.")
    assert moved(before, state)
    assert all(name.startswith(learning) for name in moved(before, state))


def test_discriminative_rates_reach_the_optimizer(settings: TrainSettings) -> None:
    from models.training.blocks import last_blocks, parts_of
    from models.training.task import Task

    settings = dataclasses.replace(settings, learning_rate=0.01)
    entry = zoo.get("mobilenet_v2")
    net = entry.create(3, OPTIONS)
    task = Task(net, settings, 10, None, last_blocks(parts_of(entry, net), net, 2, 0.5))
    groups = task.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["max_lr"] for group in groups for p in group["params"]}
    named = {name: rates.get(id(p)) for name, p in net.named_parameters()}
    assert named["classifier.1.weight"] == pytest.approx(0.01)
    assert named["features.18.0.weight"] == pytest.approx(0.005)
    assert named["features.17.conv.0.0.weight"] == pytest.approx(0.0025)
    assert named["features.16.conv.0.0.weight"] is None


def test_each_stage_begins_with_the_best_so_far(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate that ruins all, the head's weights are what is kept and gone on from."""
    begun: list[dict[str, Any]] = []
    fit = course.Course._fit

    def watched(self: course.Course, stage: Any, task: Any, *more: Any) -> None:
        begun.append({k: v.clone() for k, v in self._net.state_dict().items()})
        fit(self, stage, task, *more)

    monkeypatch.setattr(course.Course, "_fit", watched)
    ruinous = frozen(unfreeze_blocks=2, stage_rate=3.0)
    state, history, _ = after(dataclasses.replace(settings, epochs=8, techniques=ruinous))
    assert history["best"]["stage"] == "head"
    assert not moved(begun[1], begun[2])
    assert not moved(begun[1], state)
    assert len(history["epochs"]) == 12
    assert not list(settings.out.glob("stage-*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from dataclasses import replace
from models import finetune
from models.training import cached, course
from models.training.settings import TrainSettings
from models.training.techniques import Stages, Techniques
out, data, weights, place, resume, log = sys.argv[1:]
stage, step = map(int, place.split(":"))
def watching(task_class):
    class Watched(task_class):
        def training_step(self, batch, index):
            number = course.NOW
            if (number, self.global_step) == (stage, step):
                os.kill(os.getpid(), signal.SIGKILL)
            loss = super().training_step(batch, index)
            with open(log, "a") as stream:
                stream.write(f"{number} {self.global_step} {float(loss.detach())!r}\\n")
            return loss
    return Watched
fit = course.Course._fit
def fitted(self, stage, *more):
    course.NOW = stage.number
    fit(self, stage, *more)
course.Course._fit = fitted
course.Task, cached.HeadTask = watching(course.Task), watching(cached.HeadTask)
finetune.train(TrainSettings(
    out=Path(out), data=Path(data), weights=weights, options={"width_mult": 0.1, "input_size": 32},
    epochs=3, batch_size=8, resume=resume == "resume",
    techniques=Techniques(stages=Stages(True, unfreeze_blocks=2, views=1, stage_epochs=2)),
))
"""


def ran(out: Path, data: Path, weights: Path, place: str, resume: bool, log: Path) -> int:
    words = [str(out), str(data), str(weights), place, "resume" if resume else "begin", str(log)]
    return subprocess.run([sys.executable, "-c", KILLED, *words], timeout=300).returncode


def losses(log: Path) -> dict[tuple[int, int], float]:
    """By stage and step; of steps that were taken twice the later one counts."""
    rows = [line.split() for line in log.read_text().splitlines()]
    return {(int(stage), int(step)): float(loss) for stage, step, loss in rows}


def test_a_run_killed_in_each_stage_equals_an_uninterrupted_one(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert ran(straight, data, trained, "9:9", False, tmp_path / "straight.log") == 0
    whole = losses(tmp_path / "straight.log")
    assert {stage for stage, _ in whole} == {0, 1, 2}
    # in the middle of an epoch of the head, in the first epoch of a stage, and in a later one
    for number, place in enumerate(("0:6", "1:2", "2:6")):
        status = ran(killed, data, trained, place, number > 0, tmp_path / "killed.log")
        assert status == -signal.SIGKILL
    assert ran(killed, data, trained, "9:9", True, tmp_path / "killed.log") == 0
    again = losses(tmp_path / "killed.log")
    assert again.keys() == whole.keys()
    assert max(abs(again[key] - whole[key]) for key in whole) <= 1e-6
    rows = [
        [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in json.loads((out / "history.json").read_text())["epochs"]
        ]
        for out in (straight, killed)
    ]
    assert rows[0] == rows[1]
    first, second = (load_checkpoint(out / "checkpoint.safetensors") for out in (straight, killed))
    assert not moved(dict(first.state), dict(second.state))


def test_early_stopping_ends_a_stage_and_not_the_run(settings: TrainSettings) -> None:
    still = dataclasses.replace(
        settings, epochs=9, patience=2, learning_rate=1e-8, techniques=frozen(unfreeze_blocks=1)
    )
    _, history, _ = after(still)
    names = [row["stage"] for row in history["epochs"]]
    assert names == ["head"] * 3 + ["head and last block"] * 2
    assert [row["epoch"] for row in history["epochs"]] == [1, 2, 3, 4, 5]


def test_features_of_other_weights_are_computed_anew_and_it_is_said(
    settings: TrainSettings, trained: Path, tmp_path: Path
) -> None:
    after(settings)
    kept = load_checkpoint(trained)
    state = {name: value.clone() for name, value in kept.state.items()}
    state["features.0.0.weight"][0] += 0.5
    other = tmp_path / "moved.safetensors"
    save_checkpoint(dataclasses.replace(kept, state=state), other)
    _, _, said = after(dataclasses.replace(settings, out=tmp_path / "two", weights=str(other)))
    (line,) = [line for line in said if "of other" in line]
    assert line.endswith("of other weights; computed anew.")
    assert any("features of the frozen backbone in" in line for line in said)


def test_views_differ_and_are_taken_in_turn(settings: TrainSettings) -> None:
    asked = dataclasses.replace(settings, techniques=frozen(views=2))
    assert [view.number for view in cached.views_of(asked)] == [0, 1, 2]
    _, _, said = after(asked)
    assert any("in 3 views" in line for line in said)
    root = cached.folder_of(asked)
    assert len(list(root.iterdir())) == 4, "three of the training images, one of the others"


def test_a_full_disk_leaves_no_half_cache(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    def limited() -> Any:
        return resource.getrlimit(resource.RLIMIT_FSIZE)

    before = limited()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DataError, match="no room for the features"):
            finetune.train(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(cached.folder_of(settings).iterdir())
    assert not settings.out.exists()
    after(settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"techniques": Techniques(stages=Stages(unfreeze_blocks=2))}, "--unfreeze-from without"),
        ({"techniques": Techniques(stages=Stages(views=2))}, "--views without"),
        ({"weights": "none"}, "--freeze backbone with --weights none"),
        ({"quantization_aware": True}, "--quantization-aware and --freeze backbone exclude"),
        ({"techniques": dataclasses.replace(frozen(), mixing=Mixing(mixup=0.2))}, "--mixup with"),
    ],
)
def test_contradictions_are_refused(
    settings: TrainSettings, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        check(dataclasses.replace(settings, **change))
    assert words in caught.value.what
    assert caught.value.mend


def test_more_blocks_than_there_are(settings: TrainSettings) -> None:
    with pytest.raises(TrainingError, match="mobilenet_v2 has 19 blocks"):
        finetune.train(dataclasses.replace(settings, techniques=frozen(unfreeze_blocks=20)))
    assert not settings.out.exists()


def test_ldam_does_not_stop_before_its_class_weights_begin(tmp_path: Path) -> None:
    def patience(loss: LossChoice) -> int:
        settings = TrainSettings(
            out=tmp_path, epochs=40, patience=10, techniques=Techniques(loss=loss)
        )
        return plan(settings)[0].patience

    assert patience(LossChoice("ldam", reweight_from=0.8)) == 42
    assert patience(LossChoice("ldam", reweight_from=1.0)) == 10, "they never begin"
    assert patience(LossChoice(balanced=True)) == 10
