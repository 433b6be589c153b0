"""A trained checkpoint whose species are partly venomous, hard photographs, and a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporter.evaluate import files
from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from models.contract import Contract, Label
from support import bundles
from support.cli import Ran, run_cli

VENOM = ("yes", "no", "unknown", "no", "yes", "no", "yes", "no", "unknown", "no")
PER_CLASS = 6


def labels() -> tuple[Label, ...]:
    return tuple(
        Label(f"species {index}", f"Genus species{index}", venomous)
        for index, venomous in enumerate(VENOM)  # type: ignore[arg-type]
    )


def hard_image(group: int, other: int, share: float, seed: int) -> Any:
    """A picture of one class with something of another in it: at a share of 0.5 of both."""
    mixed = (1 - share) * bundles.class_image(group, seed, 96).astype(float)
    mixed += share * bundles.class_image(other, seed + 1, 96)
    return np.clip(mixed, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class World:
    checkpoint: Path
    data: Path
    dist: Path
    contract: Contract


def write_checkpoint(path: Path, **changes: Any) -> Path:
    """The decided network with species' names, and its contract changed."""
    from models.checkpoint import load_checkpoint, save_checkpoint

    bundles.write_decided_checkpoint(path)
    found = load_checkpoint(path)
    contract = replace(found.contract, **{"labels": labels(), "name": "snakes", **changes})
    save_checkpoint(replace(found, contract=contract), path)
    return path


class Said(Session):
    """Gives what it was told, image after image."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self.rows = rows

    def probabilities(self, pixels: Pixels) -> Probabilities:
        return np.asarray(next(self.rows), dtype=np.float32)


class SaidRuntime(Runtime):
    """A runtime whose files answer with given rows.

    Args:
        rows: `[n, classes]`, in the order of the photographs.
    """

    name = "said"

    def __init__(self, rows: Any, evidence: Any = "run") -> None:
        self.rows, self.evidence = rows, evidence

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return "said 1.0"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        return Said(iter(self.rows))


def numbers(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / files.JSON).read_text(encoding="utf-8"))
    return found


def evaluate(*words: object) -> Ran:
    """One thread: several would wait for each other where the tests share the processor."""
    return run_cli("evaluate", *words, "--threads", 1)


def refused(*words: object) -> str:
    ran = evaluate(*words)
    assert ran.code == 2, ran.text
    assert "Traceback" not in ran.text
    return ran.text
