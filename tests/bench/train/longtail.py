"""A long tail of flowers17: LDAM with deferred re-weighting against plain cross-entropy.

The tail: class k of n keeps `round(most * ratio ** (-k / (n - 1)))` of its training photographs,
at least one: the profile of Cui et al. 2019 (arXiv:1901.05555, section 5.1); which class is how
rare and which photographs it keeps follow from the seed. 100:1 of 54 photographs would leave half
of one, so the rarest classes have one photograph and the true ratio is 54:1. Cross-entropy and LDAM
see the very same photographs and features.
"""

from __future__ import annotations

import csv
import hashlib
import random
from pathlib import Path
from statistics import mean, stdev

from bench.train.commands import FLOWERS, WEIGHTS, Bench
from bench.train.rows import Row

Photograph = tuple[Path, str]
SEEDS = (0, 1, 2)
RATIO = 100
JUDGING = 10  # photographs of each class
LOSSES = {
    "cross-entropy": ("--loss", "cross-entropy"),
    "LDAM, deferred re-weighting": ("--loss", "ldam", "--class-weights"),
}


def kept(counts: int, classes: int, ratio: float) -> list[int]:
    """How many photographs each class keeps, from the most to the fewest."""
    return [max(1, round(counts * ratio ** (-k / (classes - 1)))) for k in range(classes)]


def tail(train: Path, seed: int) -> tuple[list[Photograph], list[Photograph]]:
    """Photographs with their classes: what is learned, and what says which epoch is kept.

    `JUDGING` of each class judge the epochs; the tail is drawn from the rest, so the test
    photographs are looked at once, at the end.
    """
    folders = sorted(path for path in train.iterdir() if path.is_dir())
    drawn = {f: sorted(f.glob("*.jpg"), key=lambda path: _draw(path, seed)) for f in folders}
    sizes = kept(min(map(len, drawn.values())) - JUDGING, len(folders), RATIO)
    rare = list(folders)
    random.Random(seed).shuffle(rare)
    learned, judging = [], []
    for folder, size in zip(rare, sizes, strict=True):
        judging += [(path, folder.name) for path in drawn[folder][:JUDGING]]
        learned += [(path, folder.name) for path in drawn[folder][JUDGING:][:size]]
    return sorted(learned), sorted(judging)


def _draw(path: Path, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {path.parent.name}/{path.name}".encode()).digest()


def measure(bench: Bench) -> list[Row]:
    """Macro F1 on the balanced test photographs, mean and spread over the seeds."""
    flowers = bench.file(FLOWERS)
    scores: dict[str, list[float]] = {name: [] for name in LOSSES}
    commands: list[str] = []
    for seed in SEEDS:
        table, validation = _tables(bench, flowers, seed)
        for number, (name, flags) in enumerate(LOSSES.items()):
            words = ["train", "--data", table, "--validation", validation,
                     "--weights", bench.file(WEIGHTS), "--freeze", "backbone",
                     "--feature-cache", bench.work / "features-of-tails", "--epochs", 40,
                     "--best", "macro-f1", "--patience", 40, "--no-temperature",
                     "--seed", seed, *flags]  # fmt: skip
            ran = bench.run(words, f"tail-{seed}-{number}")
            judged = bench.run(
                ["evaluate", ran.out, "--data", flowers / "test"],
                f"tail-{seed}-{number}-judged",
                after=ran,
            )
            shown = judged.read("evaluation.json")
            scores[name].append(float(shown["files"][shown["main"]]["scores"]["macro"]["f1"]))
            if seed == SEEDS[0]:
                commands.append(ran.command)
    plain, ldam = (scores[name] for name in LOSSES)
    better = all(b > a for a, b in zip(plain, ldam, strict=True))
    words_of = {name: f"{mean(s):.3f} +- {stdev(s):.3f}" for name, s in scores.items()}
    gains = ", ".join(f"{b - a:+.3f}" for a, b in zip(plain, ldam, strict=True))
    first, second = LOSSES
    return [
        Row(f"long tail of flowers17, {len(SEEDS)} seeds, macro F1: {first}", words_of[first],
            commands=(commands[0],)),
        Row(f"the same: {second}", f"{words_of[second]} (by seed {gains})", "better than it",
            mean(ldam) > mean(plain) and better, (commands[1],)),
    ]  # fmt: skip


def _tables(bench: Bench, flowers: Path, seed: int) -> tuple[Path, Path]:
    """Both as CSV files."""
    learned, judging = tail(flowers / "train", seed)
    return (
        _write(bench.work / f"tail-{seed}.csv", learned),
        _write(bench.work / f"tail-{seed}-validation.csv", judging),
    )


def _write(path: Path, rows: list[Photograph]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file", "label"))
        writer.writerows(rows)
    return path
