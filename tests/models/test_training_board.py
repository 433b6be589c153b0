"""TensorBoard's curves: what is in them, also after a resumed run, and without the package."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from models.training.settings import TrainSettings

if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)
from models.finetune import TrainingInterruptedError, train
from models.training.techniques import Stages, Techniques
from support.colours import draw

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "train", 14)


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        out=tmp_path / "run", data=data, architecture="lenet5_relu", epochs=3, batch_size=8,
        progress=False, temperature=False,
    )  # fmt: skip


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    """All scalars, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(out / "tensorboard"))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def rows(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "history.json").read_text())["epochs"])


@needs_tensorboard
def test_curves_are_the_figures_of_the_epochs(settings: TrainSettings) -> None:
    train(settings)
    found, history = curves(settings.out), rows(settings.out)
    steps = [step for step, _ in found["training/step_loss"]]
    each = len(steps) // 3
    assert steps == list(range(1, 3 * each + 1))
    for tag, column in (
        ("training/loss", "training_loss"),
        ("validation/loss", "validation_loss"),
        ("validation/accuracy", "validation_accuracy"),
    ):
        assert [step for step, _ in found[tag]] == [each, 2 * each, 3 * each]
        assert [v for _, v in found[tag]] == pytest.approx([row[column] for row in history])
    rates = dict(found["training/learning_rate"])
    assert max(rates.values()) <= settings.recipe.learning_rate * 1.0001
    assert max(rates.values()) > settings.recipe.learning_rate * 0.9
    losses = dict(found["training/step_loss"])
    first = sum(losses[step] for step in range(1, each + 1)) / each
    assert first == pytest.approx(history[0]["training_loss"], rel=1e-4)


@needs_tensorboard
def test_a_resumed_run_goes_on_with_the_same_curves(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the middle of the second epoch: its steps are written again, once."""
    from models.training.task import Task

    train(settings)
    expected = curves(settings.out)
    again = dataclasses.replace(settings, out=settings.out.with_name("again"))
    original = Task.training_step

    def stop(self: Task, batch: Any, index: int) -> Any:
        if self.current_epoch == 1 and index == 2:
            raise KeyboardInterrupt
        return original(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", stop)
        with pytest.raises(TrainingInterruptedError):
            train(again)
    train(dataclasses.replace(again, resume=True))
    found = curves(again.out)
    assert found.keys() == expected.keys()
    for tag, values in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in values], tag
        assert [v for _, v in found[tag]] == pytest.approx([v for _, v in values]), tag


@needs_tensorboard
def test_stages_stand_one_behind_the_other_and_force_begins_anew(settings: TrainSettings) -> None:
    train(dataclasses.replace(settings, epochs=1))
    assert curves(settings.out)
    staged = dataclasses.replace(
        settings, out=settings.out.with_name("staged"), epochs=2,
        weights=str(settings.out / "checkpoint.safetensors"),
        techniques=Techniques(
            stages=Stages(freeze_backbone=True, unfreeze_blocks=1, stage_epochs=2)
        ),
    )  # fmt: skip
    train(staged)
    found = curves(staged.out)
    steps = [step for step, _ in found["validation/accuracy"]]
    assert len(steps) == 4
    assert steps == sorted(set(steps))
    train(dataclasses.replace(staged, force=True, epochs=1))
    assert len(curves(staged.out)["validation/accuracy"]) == 3


def test_without_the_package_there_is_one_note(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said: list[str] = []
    train(dataclasses.replace(settings, epochs=2), on_message=said.append)
    assert len([line for line in said if "TensorBoard" in line]) == 1
    assert not (settings.out / "tensorboard").exists()
    assert (settings.out / "metrics.csv").exists()
    said.clear()
    off = dataclasses.replace(settings, epochs=1, force=True, tensorboard=False)
    train(off, on_message=said.append)
    assert not [line for line in said if "TensorBoard" in line]
