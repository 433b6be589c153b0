"""Whole runs on tiny pictures: they learn, they can be stopped, and nothing is clobbered."""

from __future__ import annotations

import csv
import dataclasses
import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.checkpoint import CheckpointError, load_checkpoint
from models.contract import Label
from models.data.folder import load_folder
from models.data.labelled import DataError
from models.errors import UserError
from models.finetune import (
    TrainingError,
    TrainingInterruptedError,
    TrainSettings,
    measure,
    train,
)

if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)
import torch

COLOURS = {"blue": (60, 60, 200), "green": (60, 190, 60), "red": (200, 60, 60)}
OPTIONS = {"width_mult": 0.1, "input_size": 32}
BOTH = ("checkpoint.safetensors", "last.ckpt")


def draw(folder: Path, per_class: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            noise = rng.normal(0, 25, (40 + number % 5, 44, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "train", 20, 0)


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        out=tmp_path / "run",
        data=data,
        options=OPTIONS,
        epochs=3,
        batch_size=8,
        learning_rate=0.01,
        name="colours",
    )


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """An uninterrupted run that is long enough to learn, tested on images of its own."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("runs") / "whole"
    settings = TrainSettings(
        out=out,
        data=draw(out.parent / "train", 60, 0),
        test=draw(out.parent / "test", 20, 1),
        labels=(Label("red", "Ruber", "yes"), Label("blue"), Label("green")),
        options={"width_mult": 0.1, "input_size": 48},
        epochs=10,
        batch_size=8,
        learning_rate=2e-3,
        jitter=0.0,
        seed=1,
    )
    assert train(settings, on_message=said.append) == out / "checkpoint.safetensors"
    return out, said


def test_it_learns(whole_run: tuple[Path, list[str]]) -> None:
    out, said = whole_run
    history = json.loads((out / "history.json").read_text())
    assert history["finished"]
    assert history["best"]["validation_accuracy"] >= 0.8  # by chance it is a third
    assert history["test_accuracy"] >= 0.8
    assert any("test accuracy" in line for line in said)
    assert len([line for line in said if line.startswith("epoch ")]) == len(history["epochs"])


def test_the_checkpoint_is_ready_to_export(whole_run: tuple[Path, list[str]]) -> None:
    out, _ = whole_run
    found = load_checkpoint(out / "checkpoint.safetensors")
    contract = found.contract
    assert contract.names == ("blue", "green", "red"), "the folders' order"
    assert contract.labels[2] == Label("red", "Ruber", "yes")
    assert contract.preprocessing.normalization.mean == (127.5, 127.5, 127.5)
    assert contract.preprocessing.resize_shorter_side == 55  # 48 * 256 / 224 = 54.9
    assert (contract.name, contract.architecture) == ("whole", "mobilenet_v2")
    assert found.options == {"width_mult": 0.1, "input_size": 48, "output_stride": 32}


def test_best_epoch_is_what_was_kept(whole_run: tuple[Path, list[str]]) -> None:
    """The stored accuracy is that of the stored weights, measured by another path."""
    from models.data.split import load_split

    out, _ = whole_run
    history = json.loads((out / "history.json").read_text())
    best = max(
        history["epochs"], key=lambda row: (row["validation_accuracy"], -row["validation_loss"])
    )
    assert history["best"] == best
    _, judging = load_split(out.parent / "train", TrainSettings(out=out).validation_fraction, 1)
    accuracy = measure(out / "checkpoint.safetensors", judging)
    assert accuracy == pytest.approx(best["validation_accuracy"], abs=1e-4)


def test_metrics_have_a_row_an_epoch(whole_run: tuple[Path, list[str]]) -> None:
    out, _ = whole_run
    with (out / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    history = json.loads((out / "history.json").read_text())
    assert [int(row["epoch"]) for row in rows] == [row["epoch"] for row in history["epochs"]]
    assert not list(out.glob("*.partial"))


def state_of(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".ckpt":
        return dict(torch.load(path, weights_only=True)["state_dict"])
    return dict(load_checkpoint(path).state)


def test_resumed_equals_uninterrupted(settings: TrainSettings, tmp_path: Path) -> None:
    straight = dataclasses.replace(settings, out=tmp_path / "straight")
    train(straight)

    def interrupt(text: str) -> None:
        if text.startswith("epoch 1/"):
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterruptedError) as caught:
        train(settings, on_message=interrupt)
    assert signal.getsignal(signal.SIGINT) is before, "Ctrl-C works again"
    assert caught.value.exit_code == 130
    assert "after 1 of 3 epochs" in caught.value.what
    assert "checkpoint.safetensors" in caught.value.why
    assert "--resume" in caught.value.mend
    load_checkpoint(settings.out / "checkpoint.safetensors")  # usable at once

    torch.manual_seed(12345)  # what else the process does must not matter
    train(dataclasses.replace(settings, resume=True))
    for name in BOTH:
        first, second = state_of(tmp_path / "straight" / name), state_of(settings.out / name)
        assert all(torch.equal(first[key], second[key]) for key in first)
    rows = [
        [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in json.loads((out / "history.json").read_text())["epochs"]
        ]
        for out in (straight.out, settings.out)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3


def test_a_real_ctrl_c(data: Path, tmp_path: Path) -> None:
    """SIGINT into a training process, in the middle of an epoch."""
    code = (
        "import sys; from pathlib import Path; from models.finetune import *\n"
        f"s = TrainSettings(out=Path({str(tmp_path / 'run')!r}), data=Path({str(data)!r}),"
        f" options={OPTIONS!r}, epochs=10000, batch_size=8, patience=100000)\n"
        "try:\n    train(s, on_message=lambda m: print(m, flush=True))\n"
        "except TrainingInterruptedError as error:\n"
        "    print('SAID', error.why); sys.exit(error.exit_code)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        assert process.wait() == 130
    finally:
        watchdog.cancel()
        process.kill()
        process.stdout.close()
    assert "SAID the best weights so far" in rest
    load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert "epoch" in torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)


def test_resuming_asks_for_the_same_run(settings: TrainSettings) -> None:
    once = dataclasses.replace(settings, epochs=1)
    train(once)
    with pytest.raises(TrainingError) as caught:
        train(dataclasses.replace(once, resume=True, epochs=5, seed=1, batch_size=4))
    for words in ("epochs was 1 and is now 5", "seed was 0 and is now 1", "images are others"):
        assert words in caught.value.what
    said: list[str] = []
    train(dataclasses.replace(once, resume=True, workers=1), on_message=said.append)
    assert "finished already" in said[-1]


def test_an_earlier_run_is_not_clobbered(settings: TrainSettings) -> None:
    settings.out.mkdir()
    (settings.out / "notes.txt").write_text("mine")
    once = dataclasses.replace(settings, epochs=1)
    train(once)

    def held() -> dict[str, bytes]:
        files = (path for path in settings.out.rglob("*") if path.is_file())
        return {path.name: path.read_bytes() for path in files}

    kept = held()
    with pytest.raises(TrainingError, match="holds a run already"):
        train(once)
    assert held() == kept
    train(dataclasses.replace(once, force=True, seed=1))
    assert (settings.out / "notes.txt").read_text() == "mine"
    assert (settings.out / "last.ckpt").read_bytes() != kept["last.ckpt"]


def test_out_that_is_a_file_or_no_run(settings: TrainSettings) -> None:
    with pytest.raises(TrainingError, match="no run to resume"):
        train(dataclasses.replace(settings, resume=True))
    settings.out.write_text("in the way")
    with pytest.raises(TrainingError, match="in the way"):
        train(settings)


def test_early_stopping(settings: TrainSettings) -> None:
    # At this rate nothing changes, so no epoch after the first is better.
    train(dataclasses.replace(settings, epochs=9, patience=2, learning_rate=1e-8))
    history = json.loads((settings.out / "history.json").read_text())
    assert len(history["epochs"]) == 3
    assert history["finished"]


def test_divergence_is_an_error_with_a_mend(settings: TrainSettings) -> None:
    broken = dataclasses.replace(settings, learning_rate=10.0, weight_decay=10.0, epochs=30)
    with pytest.raises(TrainingError, match="diverged") as caught:
        train(broken)
    assert "--learning-rate" in caught.value.mend


def test_a_full_disk_is_an_error_and_leaves_what_was_kept(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training.record import RunFolder

    write = RunFolder.write_history

    def full(folder: RunFolder, epochs: list[dict[str, object]], **more: object) -> None:
        if len(epochs) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(folder, epochs, **more)

    monkeypatch.setattr(RunFolder, "write_history", full)
    with pytest.raises(TrainingError, match="cannot be written") as caught:
        train(settings)
    assert "--resume" in caught.value.mend
    monkeypatch.undo()
    load_checkpoint(train(dataclasses.replace(settings, resume=True)))
    assert len(json.loads((settings.out / "history.json").read_text())["epochs"]) == 3


def weights_of_another(tmp_path: Path) -> str:
    torch.save({"layer.weight": torch.ones(3)}, tmp_path / "other.pth")
    return str(tmp_path / "other.pth")


def test_mistakes_leave_no_folder(settings: TrainSettings, tmp_path: Path) -> None:
    few = (Label("red"), Label("blue"))
    empty = tmp_path / "empty"
    empty.mkdir()
    for change, kind in (
        ({"epochs": 0}, TrainingError),
        ({"labels": few}, TrainingError),
        ({"data": empty}, UserError),
        ({"data": None}, TrainingError),
        ({"validation": settings.data}, DataError),
        ({"test": settings.data}, DataError),
        ({"weights": weights_of_another(tmp_path)}, CheckpointError),
    ):
        with pytest.raises(kind):
            train(dataclasses.replace(settings, **change))  # type: ignore[arg-type]
        assert not settings.out.exists(), change


def test_a_broken_image_stops_it_before_the_first_epoch(
    settings: TrainSettings, tmp_path: Path
) -> None:
    folder = draw(tmp_path / "data", 4, 3)
    (folder / "red" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DataError, match=r"0\.png"):
        train(dataclasses.replace(settings, data=folder))
    assert not settings.out.exists()


def test_images_given_by_the_caller(settings: TrainSettings, tmp_path: Path) -> None:
    sets = load_folder(draw(tmp_path / "a", 8, 5)), load_folder(draw(tmp_path / "b", 2, 6))
    said: list[str] = []
    train(dataclasses.replace(settings, data=None, epochs=1), sets, said.append)
    assert said[0] == "3 classes, 24 training and 6 validation images"


def test_nothing_but_our_messages_is_printed(
    settings: TrainSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    train(dataclasses.replace(settings, epochs=1))
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "lightning" not in shown.err.lower()
    assert os.linesep * 2 not in shown.err
