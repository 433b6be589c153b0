"""flowers17 from the ImageNet weights: with a frozen backbone, and with blocks let go."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from bench.train.commands import FLOWERS, WEIGHTS, Bench, Ran
from bench.train.rows import Row

_PICTURES = 256  # enough to know the backbone's speed


def _learned(bench: Bench, name: str, *more: object) -> Ran:
    flowers = bench.file(FLOWERS)
    words = ["train", "--data", flowers / "train", "--test", flowers / "test",
             "--weights", bench.file(WEIGHTS), *more]  # fmt: skip
    return bench.run(words, name)


def frozen(bench: Bench) -> list[Row]:
    """The head alone, on features that are computed once."""
    cache = bench.work / "features-of-frozen"
    ran = _learned(bench, "frozen", "--freeze", "backbone", "--views", 2, "--feature-cache", cache)
    history = ran.read("history.json")
    accuracy = float(history["test_accuracy"])
    cached = median(float(row["seconds"]) for row in history["epochs"][1:])
    images = sum(1 for _ in (bench.file(FLOWERS) / "train").rglob("*.jpg"))
    without = cached + images * _backbone_seconds(ran.out / "checkpoint.safetensors", bench)
    ratio = without / cached
    how = (ran.command,)
    return [
        Row("flowers17, frozen backbone: test accuracy (272 photographs)", f"{accuracy:.1%}",
            "95 %", accuracy >= 0.95, how),
        Row("the whole command, features computed in it", f"{ran.seconds:.0f} s", "240 s",
            ran.seconds <= 240, how),
        Row("an epoch from the second on, against one that runs the backbone",
            f"{ratio:.0f} times as fast ({cached:.2f} s against {without:.1f} s)", "20 times",
            ratio >= 20, how),
    ]  # fmt: skip


def unfrozen(bench: Bench) -> list[Row]:
    """All layers, as `exporter train` does without further flags."""
    ran = _learned(bench, "unfrozen")
    accuracy = float(ran.read("history.json")["test_accuracy"])
    figure = "flowers17, all layers: test accuracy (272 photographs)"
    measured = f"{accuracy:.1%} in {ran.seconds:.0f} s"
    return [Row(figure, measured, "97 %", accuracy >= 0.97, (ran.command,))]


def _backbone_seconds(checkpoint: Path, bench: Bench) -> float:
    """Of one picture, decoded already: what an epoch without kept features spends besides."""
    import torch

    from models.checkpoint import build, load_checkpoint
    from models.classifier import Classifier
    from models.features import Backbone
    from models.images import load_batches
    from models.views import BATCH

    found = load_checkpoint(checkpoint)
    backbone = Backbone(found.architecture, found.options, Classifier(build(found), found.contract))
    paths = sorted((bench.file(FLOWERS) / "train").rglob("*.jpg"))[:_PICTURES]
    batches = list(load_batches(paths, found.contract.preprocessing, BATCH))
    backbone.features(torch.from_numpy(batches[0]))
    started = time.perf_counter()
    for pixels in batches:
        backbone.features(torch.from_numpy(pixels))
    return (time.perf_counter() - started) / len(paths)
