"""Flags in groups: what typer sees of them, and that each one reaches its own setting."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from exporter.cli.grouped import given, grouped
from models.training.settings import TrainSettings
from models.training.techniques import Techniques
from support.cli import run_cli


@dataclasses.dataclass(frozen=True)
class One:
    place: Annotated[Path, typer.Option("--place")]
    count: Annotated[int | None, typer.Option("--count", min=1)] = None


@dataclasses.dataclass(frozen=True)
class Other:
    loud: Annotated[bool, typer.Option("--loud")] = False


def test_groups_are_flags() -> None:
    seen: list[Any] = []
    app = typer.Typer()

    @app.command()
    @grouped
    def command(one: One, other: Other) -> None:
        """Says something."""
        seen.extend([one, other])

    run = CliRunner().invoke
    assert run(app, ["--place", "here", "--count", "3", "--loud"]).exit_code == 0
    assert seen == [One(Path("here"), 3), Other(True)]
    assert run(app, ["--count", "3"]).exit_code == 2, "--place is required"
    assert run(app, ["--place", "here", "--count", "0"]).exit_code == 2
    assert given(seen[0], count="number") == {"place": Path("here"), "number": 3}
    assert given(One(Path("here"))) == {"place": Path("here")}


def test_a_field_of_two_groups_is_refused() -> None:
    def twice(one: One, other: One) -> None: ...

    def plain(one: int) -> None: ...

    with pytest.raises(TypeError, match="place is in two groups"):
        grouped(twice)
    with pytest.raises(TypeError, match="no dataclass"):
        grouped(plain)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TrainSettings]:
    """The settings of each training that would have been."""
    from exporter.pipeline import training

    found: list[TrainSettings] = []
    monkeypatch.setattr(training, "train", lambda request: found.append(request.settings))
    return found


FLAGS: dict[tuple[object, ...], dict[str, object]] = {
    ("--epochs", 3): {"epochs": 3},
    ("--batch-size", 4): {"batch_size": 4},
    ("--patience", 5): {"patience": 5},
    ("--no-temperature",): {"temperature": False},
    ("--seed", 6): {"seed": 6},
    ("--resume",): {"resume": True},
    ("--force",): {"force": True},
    ("--data", "e"): {"data": (Path("d"), Path("e"))},
    ("--images-root", "i"): {"images": Path("i")},
    ("--class-map", "c"): {"class_map": Path("c")},
    ("--multi-label",): {"multi_label": True},
    ("--single-label",): {"multi_label": False},
    ("--split", "s"): {"split": Path("s")},
    ("--validation", "v", "--validation", "w"): {"validation": (Path("v"), Path("w"))},
    ("--validation-fraction", 0.3): {"validation_fraction": 0.3},
    ("--test", "t"): {"test": (Path("t"),)},
    ("--test-fraction", 0.1): {"test_fraction": 0.1},
    ("--most-broken", 0.2): {"most_broken": 0.2},
    ("--labels", "l"): {"labels": Path("l")},
    ("--arch", "resnet18"): {"architecture": "resnet18"},
    ("--weights", "w"): {"weights": "w"},
    ("--width", 0.5, "--option", "output_stride=16"): {
        "options": {"width_mult": 0.5, "output_stride": 16}
    },
    ("--input-size", 96): {"options": {"input_size": 96}},
    ("--quantization-aware",): {"quantization_aware": True},
    ("--learning-rate", 0.5): {"learning_rate": 0.5},
    ("--warm-up", 0.3): {"warm_up": 0.3},
    ("--weight-decay", 0.1): {"weight_decay": 0.1},
    ("--freeze", "backbone"): {"stages.freeze_backbone": True},
    ("--views", 2): {"stages.views": 2},
    ("--unfreeze-from", 3): {"stages.unfreeze_blocks": 3},
    ("--stage-epochs", 4): {"stages.stage_epochs": 4},
    ("--stage-rate", 0.02): {"stages.stage_rate": 0.02},
    ("--rate-decay", 0.4): {"stages.rate_decay": 0.4},
    ("--feature-cache", "f"): {"stages.cache": "f"},
    ("--loss", "ldam"): {"loss.name": "ldam"},
    ("--class-weights",): {"loss.balanced": True},
    ("--label-smoothing", 0.0): {"loss.label_smoothing": 0.0},
    ("--ldam-margin", 0.4): {"loss.margin": 0.4},
    ("--ldam-scale", 20): {"loss.scale": 20.0},
    ("--reweight-from", 0.7): {"loss.reweight_from": 0.7},
    ("--focal-gamma", 1.5): {"loss.gamma": 1.5},
    ("--focal-alpha", 0.25): {"loss.alpha": 0.25},
    ("--best", "macro-f1"): {"keeping.best": "macro-f1"},
    ("--mixup", 0.2): {"mixing.mixup": 0.2},
    ("--cutmix", 1.0): {"mixing.cutmix": 1.0},
    ("--randaugment", 2): {"mixing.randaugment": 2},
    ("--magnitude", 7): {"mixing.magnitude": 7},
    ("--balanced-sampling",): {"mixing.balanced_sampling": True},
    ("--optimizer", "sgd"): {"descent.optimizer": "sgd"},
    ("--schedule", "cosine"): {"descent.schedule": "cosine"},
    ("--clip-norm", 1.0): {"descent.clip_norm": 1.0},
    ("--ema", 0.99): {"descent.ema": 0.99},
    ("--precision", "bf16"): {"descent.precision": "bf16"},
}


def flat(settings: TrainSettings) -> dict[str, object]:
    found = {name: getattr(settings, name) for name in TrainSettings.__dataclass_fields__}
    techniques = found.pop("techniques")
    for part in dataclasses.fields(techniques):
        for name, value in dataclasses.asdict(getattr(techniques, part.name)).items():
            found[f"{part.name}.{name}"] = value
    return found


@pytest.mark.parametrize("words", FLAGS, ids=lambda words: str(words[0]))
def test_a_flag_is_its_setting_and_no_other(
    words: tuple[object, ...], asked: list[TrainSettings]
) -> None:
    assert run_cli("train", "--out", "run", "--data", "d").code == 0
    assert run_cli("train", "--out", "run", "--data", "d", *words).code == 0
    usual, found = map(flat, asked)
    assert usual == flat(TrainSettings(out=Path("run"), data=(Path("d"),)))
    changed = {name: value for name, value in found.items() if usual[name] != value}
    assert changed == FLAGS[words]
    assert all(type(changed[name]) is type(FLAGS[words][name]) for name in changed)


def test_every_technique_has_a_flag() -> None:
    reached = {name for settings in FLAGS.values() for name in settings}
    every = {name for name in flat(TrainSettings(out=Path("run"))) if "." in name}
    assert every <= reached
    assert {part.name for part in dataclasses.fields(Techniques)} == {
        name.split(".")[0] for name in every
    }
