"""Drawn pictures of several snakes: macro F1 before and after int8, thresholds tuned on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.train.commands import Bench, Ran
from bench.train.rows import Row

IMAGES, SEED, SIZE = 400, 2026, 112  # pictures that taught nothing and set no threshold


def measure(bench: Bench) -> list[Row]:
    """Trained on the drawn set, exported to int8, both measured on pictures of another seed."""
    from models.data.synthetic import draw_multi_label

    words = ["train", "--synthetic", "--variant", "multi-label"]
    ran = bench.run(words, "several")
    test = bench.work / "several-test"
    if not test.exists():
        draw_multi_label(test, IMAGES, SEED, SIZE)
    exported = bench.run(
        ["export", ran.out / "checkpoint.safetensors", "--calibration", ran.out / "data" / "train",
         "--images", ran.out / "data" / "validation", "--formats", "onnx,tflite-int8"],
        "several-dist", after=ran,
    )  # fmt: skip
    before = _judged(bench, ran.out, test, "several-float", ran)
    after = _judged(bench, exported.out / "model_int8.tflite", test, "several-int8", exported)
    f1, int8 = (_macro_f1(each) for each in (before, after))
    figure = f"drawn pictures of several snakes ({IMAGES} new ones), macro F1 at tuned thresholds"
    return [
        Row(figure, f"{f1:.3f}, trained in {ran.seconds:.0f} s", "0.9", f1 >= 0.9,
            (ran.command, exported.command, before.command)),
        Row("the same, int8 file", f"{int8:.3f} ({int8 - f1:+.3f})", "within 0.02",
            abs(int8 - f1) <= 0.02, (after.command,)),
    ]  # fmt: skip


def _judged(bench: Bench, model: Path, test: Path, name: str, after: Ran) -> Ran:
    return bench.run(["evaluate", model, "--data", test / "labels.csv"], name, after)


def _macro_f1(ran: Ran) -> float:
    found: dict[str, Any] = ran.read("evaluation.json")
    return float(found["files"][found["main"]]["scores"]["macro"]["f1"])
