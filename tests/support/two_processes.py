"""What `tests/models/test_training_processes.py` lets two processes do, by way of torchrun.

    python -m torch.distributed.run ... two_processes.py DATA OUT

Two trainings: all layers of a small network, then its head on kept features and one block
more. Each process writes down which files it wrote.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.finetune import TrainSettings, train
from models.training.techniques import Descent, Stages, Techniques


def plain(data: Path, out: Path, devices: int) -> TrainSettings:
    """All layers, averaged weights; no dropout and no batch norm, so that sums are equal."""
    return TrainSettings(
        out=out / "plain", data=data, architecture="lenet5_relu", epochs=3, batch_size=8,
        learning_rate=5e-3, progress=False, devices=devices, split=out / "split.csv",
        techniques=Techniques(descent=Descent(ema=0.8, clip_norm=5.0)),
    )  # fmt: skip


def staged(data: Path, out: Path, devices: int) -> TrainSettings:
    """The head on features of what `plain` has trained, then a block more."""
    stages = Stages(freeze_backbone=True, unfreeze_blocks=1, stage_epochs=2, views=1)
    return replace(
        plain(data, out, devices), out=out / "staged", epochs=2,
        weights=str(out / "plain" / "checkpoint.safetensors"), techniques=Techniques(stages=stages),
    )  # fmt: skip


def main() -> None:
    data, out = map(Path, sys.argv[1:])
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    written: list[str] = []
    said: list[str] = []

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(details[0], str | os.PathLike):
            mode = details[1] or ""
            path = str(os.fspath(details[0]))
            if any(letter in str(mode) for letter in "wxa+") and path.startswith(str(out)):
                written.append(path)

    sys.addaudithook(watch)
    for settings in (plain(data, out, count), staged(data, out, count)):
        train(settings, on_message=said.append)
    text = json.dumps({"written": sorted(set(written)), "said": said})
    Path(f"{out}-{rank}.json").write_text(text)


if __name__ == "__main__":
    main()
