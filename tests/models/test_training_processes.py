"""Several processes that train together do what one would do, and end together."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.training import processes
from models.training.processes import Place, connected
from models.training.settings import TrainingError, TrainSettings, check

if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)
import torch

from models.checkpoint import load_checkpoint
from models.finetune import train
from models.training.batches import EpochSampler, Share, judged_here
from support import two_processes
from support.cli import run_cli
from support.colours import draw

TESTS = Path(__file__).parents[1]
LIMIT = 300  # seconds for what takes some fifteen on a free machine


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "train", 15)


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine, which meet at a port that is free."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", "2", *map(str, words)]  # fmt: skip
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False
    )


@pytest.fixture(scope="module")
def both(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of what two processes did and of what one did."""
    root = tmp_path_factory.mktemp("runs")
    two, one = root / "two", root / "one"
    two.mkdir()
    ran = torchrun(TESTS / "support" / "two_processes.py", data, two)
    assert ran.returncode == 0, ran.stderr[-3000:]
    one.mkdir()
    train(two_processes.plain(data, one, 1))
    train(two_processes.staged(data, one, 1))
    return two, one


@pytest.mark.parametrize("name", ["plain", "staged"])
def test_two_processes_get_what_one_gets(both: tuple[Path, Path], name: str) -> None:
    tables = []
    for root in both:
        with (root / name / "metrics.csv").open() as stream:
            tables.append(list(csv.DictReader(stream)))
    two, one = tables
    assert len(two) == len(one) >= 3
    assert {row["training_loss"] for row in one} != {one[0]["training_loss"]}, "it learns"
    for mine, expected in zip(two, one, strict=True):
        for column, value in expected.items():
            if column in ("stage", "epoch", "validation_accuracy"):
                assert mine[column] == value
            elif column != "seconds":
                assert float(mine[column]) == pytest.approx(float(value), rel=2e-4, abs=1e-6)
    states = [dict(load_checkpoint(root / name / "checkpoint.safetensors").state) for root in both]
    assert states[0].keys() == states[1].keys()
    for key, value in states[1].items():
        assert torch.allclose(states[0][key], value, rtol=1e-3, atol=2e-5), key


def test_one_process_writes_and_speaks(both: tuple[Path, Path]) -> None:
    root, _ = both
    first, second = (json.loads(Path(f"{root}-{rank}.json").read_text()) for rank in (0, 1))
    assert second == {"written": [], "said": []}
    names = {Path(path).name for path in first["written"]}
    assert {"run.json.partial", "metrics.csv.partial", "features.npy"} <= names
    assert len([line for line in first["said"] if line.startswith("epoch 1/")]) == 2
    assert len(list((root / ".features").iterdir())) == 3, "plain, one view, validation"
    assert (root / "split.csv").exists()


def test_shares_make_up_the_batches_of_one() -> None:
    order = EpochSampler(21, seed=3)
    parts = [Share(EpochSampler(21, seed=3), 8, rank, 4) for rank in range(4)]
    for epoch in range(2):
        order.set_epoch(epoch)
        whole = list(order)
        for part in parts:
            part.set_epoch(epoch)
        taken = [list(part) for part in parts]
        assert all(len(each) == len(part) == 4 for each, part in zip(taken, parts, strict=True))
        for batch in range(2):
            together = [place for each in taken for place in each[2 * batch : 2 * batch + 2]]
            assert together == whole[8 * batch : 8 * batch + 8]


@pytest.fixture
def as_second_of_three() -> Iterator[None]:
    before = processes._here.place
    processes._here.place = Place(1, 3, 1, 3)
    try:
        yield
    finally:
        processes._here.place = before


def test_each_validation_image_is_judged_once(as_second_of_three: None) -> None:
    assert list(judged_here(8)) == [1, 4, 7]
    assert processes.share_of(12) == 4
    with pytest.raises(TrainingError, match="2 validation image"):
        judged_here(2)
    with pytest.raises(TrainingError, match="cannot be divided among 3") as caught:
        processes.share_of(8)
    assert "--batch-size 6" in caught.value.mend


def settings(**more: Any) -> TrainSettings:
    return TrainSettings(out=Path("nowhere"), data=Path("nowhere"), **more)


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(TrainingError, match="cannot be divided among 6") as caught:
        check(settings(devices=3, nodes=2, batch_size=4))
    assert "--batch-size 6" in caught.value.mend
    with pytest.raises(TrainingError, match="in 2 processes"):
        check(settings(devices=2, quantization_aware=True, weights="some.safetensors"))
    with pytest.raises(TrainingError, match="--devices is 0"):
        check(settings(devices=0))


def test_the_launcher_has_to_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(TrainingError, match="this is the only one") as caught,
        connected(settings(devices=2, nodes=3)),
    ):
        pass
    assert "torchrun --nnodes 3 --nproc-per-node 2" in caught.value.mend
    told = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "2"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for wrong in ({}, {"devices": 4}, {"devices": 2}):
        with (
            pytest.raises(TrainingError, match="torchrun started 4 process"),
            connected(settings(**wrong)),
        ):
            pass


def test_machines_are_started_with_torchrun(data: Path, tmp_path: Path) -> None:
    ran = run_cli("train", "--data", data, "--out", tmp_path / "run", "--nodes", 2)
    assert ran.code == 2
    assert "torchrun --nnodes 2 --nproc-per-node 1" in ran.err
    assert "--rdzv-endpoint HOST" in ran.err


def test_ctrl_c_ends_all_and_one_process_can_go_on(data: Path, tmp_path: Path) -> None:
    """`exporter train --devices 2` starts the other process itself."""
    out = tmp_path / "run"
    words = ["train", "--data", data, "--out", out, "--arch", "lenet5_relu", "--batch-size", 8,
             "--epochs", 100_000, "--patience", 100_000]  # fmt: skip
    command = [sys.executable, "-m", "exporter.cli", *map(str, words), "--devices", "2"]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("epoch 1/"):
                process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    finally:
        watchdog.cancel()
        process.kill()
        process.stdout.close()
    text = "".join(lines)
    assert text.count("The training was interrupted") == 1, text
    assert text.count("epoch 1/") == 1
    assert "death signal" not in text and "Traceback" not in text
    load_checkpoint(out / "checkpoint.safetensors")
    kept = json.loads((out / "history.json").read_text())["epochs"]

    def stop(text: str) -> None:
        if text.startswith("epoch "):
            raise KeyboardInterrupt

    from models.finetune import TrainingInterruptedError

    with pytest.raises(TrainingInterruptedError):
        train(
            TrainSettings(
                out=out, data=data, architecture="lenet5_relu", batch_size=8, epochs=100_000,
                patience=100_000, resume=True,
            ),
            on_message=stop,
        )  # fmt: skip
    history = json.loads((out / "history.json").read_text())["epochs"]
    assert history[: len(kept)] == kept
    assert len(history) == len(kept) + 1


FAILING = """
import sys
from pathlib import Path
from models.errors import UserError
from models.training import processes
from models.training.settings import TrainSettings
from exporter.cli import roof

def work():
    with processes.connected(TrainSettings(out=Path("x"), devices=2)) as place:
        assert processes.told(lambda: place.rank) == 0
        turns = Path(sys.argv[1])
        def turn():
            seen = turns.exists()
            turns.write_text("there")
            return seen
        assert processes.in_turn(turn) is (place.rank == 1)
        assert processes.alone(lambda: "mine") == ("mine" if place.first else None)
        def broken():
            if place.rank == 1:
                raise UserError("No such folder.", "it is on the other machine", "copy it")
        processes.together(broken)
        print("NOT REACHED")

roof.app = work
roof.main()
"""


def test_an_error_of_one_ends_all_and_is_said_once(tmp_path: Path) -> None:
    program = tmp_path / "failing.py"
    program.write_text(FAILING)
    ran = torchrun(program, tmp_path / "turn")
    assert ran.returncode != 0
    assert ran.stderr.count("No such folder.") == 1, ran.stderr
    assert "Process 1, on " in ran.stderr
    assert "copy it" in ran.stderr
    assert "NOT REACHED" not in ran.stdout
    assert "exitcode  : 2" in ran.stderr
