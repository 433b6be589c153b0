"""A run that is killed in the middle of an epoch and resumed, against one that is left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.train.commands import Bench
from bench.train.rows import Row
from models.errors import UserError

EPOCHS, KILLED_AFTER = 5, 2
_WORDS = ("train", "--synthetic", "--width", "0.25", "--input-size", "48", "--epochs", str(EPOCHS))
_PATIENCE_S = 900.0


def measure(bench: Bench) -> list[Row]:
    """The largest difference in any epoch's training or validation loss."""
    whole = bench.run(_WORDS, "whole")
    killed = bench.work / "killed"
    command = [sys.executable, "-m", "exporter.cli", *_WORDS, "--out", str(killed)]
    if bench.anew or not (killed / "history.json").is_file():
        _kill([*command, "--force"], killed / "history.json")
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"the resumed run ended with {done.returncode}: {done.stdout[-400:]}")
    pairs = zip(_losses(whole.out), _losses(killed), strict=True)
    worst = max(abs(a - b) for a, b in pairs)
    figure = (
        f"killed in epoch {KILLED_AFTER + 1} of {EPOCHS} and resumed: largest difference of a loss"
    )
    commands = (whole.command, f"{whole.command.replace('whole', 'killed')} --resume")
    return [Row(figure, f"{worst:.1e}", "1e-6", worst <= 1e-6, commands)]


def _kill(command: list[str], history: Path) -> None:
    """Start a run and kill it, SIGKILL, a moment after its second epoch."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + _PATIENCE_S
    try:
        while time.monotonic() < ends and process.poll() is None:
            if history.is_file() and len(_epochs(history)) >= KILLED_AFTER:
                time.sleep(1.0)  # into the next epoch
                break
            time.sleep(0.05)
    finally:
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
    if ended or len(_epochs(history)) >= EPOCHS:
        raise UserError("the run was over before it could be killed")


def _epochs(history: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads(history.read_text(encoding="utf-8"))["epochs"]
    return found


def _losses(run: Path) -> list[float]:
    rows = _epochs(run / "history.json")
    return [row[name] for row in rows for name in ("training_loss", "validation_loss")]
