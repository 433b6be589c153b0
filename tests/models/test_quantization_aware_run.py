"""Whole quantization-aware runs on tiny pictures: from a finished run to one that exports."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)

from models.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402 - needs torch
from models.contract import Label  # noqa: E402
from models.errors import UserError  # noqa: E402
from models.finetune import (  # noqa: E402
    TrainingError,
    TrainingInterruptedError,
    TrainSettings,
    train,
)
from models.images import content_hash  # noqa: E402
from models.training.settings import QUANTIZATION_AWARE  # noqa: E402
from models.training.start import continued  # noqa: E402
from support.cli import run_cli  # noqa: E402

COLOURS = {"blue": (60, 60, 200), "green": (60, 190, 60), "red": (200, 60, 60)}
CHECKPOINT = "checkpoint.safetensors"


def draw(folder: Path, per_class: int, colours: dict[str, tuple[int, int, int]]) -> Path:
    rng = np.random.default_rng(len(colours))
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            noise = rng.normal(0, 25, (40 + number % 5, 44, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "train", 24, COLOURS)


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    """A finished float run with a contract of its own."""
    settings = TrainSettings(
        out=data.parent / "float",
        data=data,
        labels=(Label("red", "Ruber", "yes"), Label("blue"), Label("green")),
        options={"width_mult": 0.1, "input_size": 48},
        epochs=4,
        batch_size=8,
        learning_rate=4e-3,
        jitter=0.0,
        name="colours",
    )
    path = train(settings)
    found = load_checkpoint(path)
    contract = dataclasses.replace(found.contract, not_sure_threshold=0.7)
    save_checkpoint(dataclasses.replace(found, contract=contract), path)
    return settings.out


@pytest.fixture
def settings(data: Path, trained: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        out=tmp_path / "int8", data=data, weights=str(trained), quantization_aware=True,
        epochs=2, batch_size=8, learning_rate=1e-3, jitter=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def adapted(data: Path, trained: Path) -> tuple[Path, list[str]]:
    said: list[str] = []
    settings = TrainSettings(
        out=data.parent / "int8", data=data, weights=str(trained / CHECKPOINT),
        quantization_aware=True, epochs=3, batch_size=8, learning_rate=1e-3, jitter=0.0,
    )  # fmt: skip
    assert train(settings, on_message=said.append) == settings.out / CHECKPOINT
    return settings.out, said


def test_the_checkpoint_is_an_ordinary_one(adapted: tuple[Path, list[str]], trained: Path) -> None:
    before, after = load_checkpoint(trained / CHECKPOINT), load_checkpoint(adapted[0] / CHECKPOINT)
    assert (after.architecture, after.options) == (before.architecture, before.options)
    assert after.contract == before.contract
    assert after.contract.labels[2] == Label("red", "Ruber", "yes")
    assert list(after.state) == list(before.state)
    assert before.training == {}
    assert after.training == {
        "quantization_aware": {
            "from": {"name": CHECKPOINT, "sha256": content_hash(trained / CHECKPOINT)}
        }
    }


def test_statistics_stay_and_weights_move(adapted: tuple[Path, list[str]], trained: Path) -> None:
    before, after = load_checkpoint(trained / CHECKPOINT), load_checkpoint(adapted[0] / CHECKPOINT)
    best = json.loads((adapted[0] / "history.json").read_text())["best"]
    moved = [
        name for name in before.state if not torch.equal(before.state[name], after.state[name])
    ]
    assert not [name for name in moved if "running_" in name or "num_batches" in name]
    assert bool(moved) == (best["epoch"] > 0)


def test_it_says_what_it_gave(adapted: tuple[Path, list[str]]) -> None:
    out, said = adapted
    history = json.loads((out / "history.json").read_text())
    found = history["quantization_aware"]
    assert set(found) == {"before", "after"}
    for figures in found.values():
        assert set(figures) == {"float", "int8"}
        assert all(0.3 <= each["accuracy"] <= 1.0 for each in figures.values())
    assert found["after"]["int8"]["accuracy"] == history["best"]["validation_accuracy"]
    assert found["after"]["int8"]["loss"] == pytest.approx(
        history["best"]["validation_loss"], abs=2e-4
    )
    assert (found["after"]["int8"]["accuracy"], -found["after"]["int8"]["loss"]) >= (
        found["before"]["int8"]["accuracy"], -found["before"]["int8"]["loss"],
    )  # fmt: skip
    assert found["before"]["int8"]["loss"] != found["before"]["float"]["loss"]
    assert [row["epoch"] for row in history["epochs"]] == [1, 2, 3]
    assert len([line for line in said if line.startswith(("before: ", "after: "))]) == 2
    described = json.loads((out / "run.json").read_text())["settings"]
    assert described["quantization_aware"] is True


def test_a_float_run_says_nothing_of_it(trained: Path) -> None:
    """So that runs begun before there was such a thing can be resumed."""
    described = json.loads((trained / "run.json").read_text())["settings"]
    assert not {"quantization_aware", "resize_shorter_side"} & set(described)
    assert "quantization_aware" not in json.loads((trained / "history.json").read_text())


def test_it_exports(adapted: tuple[Path, list[str]], data: Path, tmp_path: Path) -> None:
    ran = run_cli(
        "export", adapted[0] / CHECKPOINT, "--calibration", data, "--out", tmp_path / "dist",
        "--formats", "tflite-int8", "--quantizer", "fast", "--runs", 0,
    )  # fmt: skip
    assert ran.code in (0, 1), ran.text  # 1: a network this small may miss a gate
    assert "model_int8.tflite" in ran.text
    folder = tmp_path / ("dist" if ran.code == 0 else "dist.failed")
    again = load_checkpoint(folder / "reference" / CHECKPOINT)
    assert "quantization_aware" in again.training, "the bundle's reference says so too"


def state(out: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(out / "last.ckpt", weights_only=True)["state_dict"])


def test_resumed_equals_uninterrupted(settings: TrainSettings, tmp_path: Path) -> None:
    straight = dataclasses.replace(settings, out=tmp_path / "straight")
    train(straight)

    def interrupt(text: str) -> None:
        if text.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterruptedError, match="after 1 of 2 epochs"):
        train(settings, on_message=interrupt)
    train(dataclasses.replace(settings, resume=True))
    one, other = state(straight.out), state(settings.out)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    best = [load_checkpoint(out / CHECKPOINT).state for out in (straight.out, settings.out)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])
    histories = [json.loads((run.out / "history.json").read_text()) for run in (straight, settings)]
    assert histories[0]["quantization_aware"] == histories[1]["quantization_aware"]


def test_weights_that_get_worse_are_not_kept(settings: TrainSettings, trained: Path) -> None:
    said: list[str] = []
    worse = dataclasses.replace(settings, learning_rate=0.5, epochs=1)
    out = train(worse, on_message=said.append).parent
    history = json.loads((out / "history.json").read_text())
    assert history["best"]["epoch"] == 0
    before, after = load_checkpoint(trained / CHECKPOINT), load_checkpoint(out / CHECKPOINT)
    assert all(torch.equal(before.state[name], after.state[name]) for name in before.state)
    found = history["quantization_aware"]
    assert found["before"] == found["after"]
    assert any("no epoch was better" in line for line in said)


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_it_needs_a_trained_model(settings: TrainSettings, weights: str) -> None:
    with pytest.raises(TrainingError, match="goes on from a trained model") as raised:
        train(dataclasses.replace(settings, weights=weights))
    assert isinstance(raised.value, UserError)
    assert "--weights RUN" in raised.value.mend
    assert not settings.out.exists()


def test_its_own_weights_are_not_replaced(settings: TrainSettings, trained: Path) -> None:
    before = (trained / CHECKPOINT).read_bytes()
    with pytest.raises(TrainingError, match="holds the weights that the run would begin with"):
        train(dataclasses.replace(settings, out=trained, force=True))
    assert (trained / CHECKPOINT).read_bytes() == before
    assert (trained / "history.json").exists()


def test_what_cannot_be_traced_leaves_the_run_that_was_there(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training import task

    def refuse(*_: object) -> None:
        raise TrainingError("It cannot be traced.")

    train(settings)
    held = {path: path.read_bytes() for path in settings.out.iterdir() if path.is_file()}
    monkeypatch.setattr(task, "QuantizationAware", refuse)
    with pytest.raises(TrainingError, match="traced"):
        train(dataclasses.replace(settings, force=True))
    assert {path: path.read_bytes() for path in settings.out.iterdir() if path.is_file()} == held


def test_a_runs_folder_serves_a_float_run_as_well(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    ran = run_cli("train", "--data", data, "--weights", trained, "--out", tmp_path / "more",
                  "--width", 0.1, "--input-size", 48, "--epochs", 1, "--batch-size", 8)  # fmt: skip
    assert ran.code == 0, ran.text
    assert f"weights of {trained / CHECKPOINT}" in ran.text.replace("\n", "")
    assert (tmp_path / "more" / CHECKPOINT).is_file()


def test_a_run_that_never_was(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        train(dataclasses.replace(settings, weights=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=CHECKPOINT):
        train(dataclasses.replace(settings, weights=str(tmp_path / "empty")))


def test_other_options_than_the_checkpoints(settings: TrainSettings) -> None:
    with pytest.raises(TrainingError, match="trained with other options") as raised:
        train(dataclasses.replace(settings, options={"width_mult": 0.5}))
    assert "width_mult is 0.1 there, not 0.5" in raised.value.why


def test_other_classes(settings: TrainSettings, tmp_path: Path) -> None:
    other = draw(tmp_path / "data", 5, {"blue": (0, 0, 255), "pink": (255, 200, 200)})
    with pytest.raises(TrainingError, match="labels do not match"):
        train(dataclasses.replace(settings, data=other))
    with pytest.raises(TrainingError, match="trained on other classes"):
        train(dataclasses.replace(settings, data=other, labels=(Label("blue"), Label("pink"))))


def test_several_answers_at_once(settings: TrainSettings, trained: Path, tmp_path: Path) -> None:
    found = load_checkpoint(trained / CHECKPOINT)
    contract = dataclasses.replace(found.contract, activation="sigmoid")
    save_checkpoint(dataclasses.replace(found, contract=contract), tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError, match="several answers"):
        train(dataclasses.replace(settings, weights=str(tmp_path)))


def test_what_the_checkpoint_says_is_filled_in(settings: TrainSettings, trained: Path) -> None:
    found = continued(settings)
    assert found.weights == str(trained / CHECKPOINT)
    assert dict(found.options) == {"width_mult": 0.1, "input_size": 48, "output_stride": 32}
    assert found.name == "colours"
    assert found.preprocessing.resize_shorter_side == 55
    assert continued(found) == found
    recipe = dataclasses.replace(found, epochs=None, learning_rate=None).recipe
    assert recipe == QUANTIZATION_AWARE
