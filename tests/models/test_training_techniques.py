"""The parts of a training as data: ranges, what a run's record says of them."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from models.contract import Label
from models.data.labelled import Item, LabelledSet
from models.errors import UserError
from models.training.ranges import TrainingError
from models.training.record import RunFolder, describe
from models.training.settings import TrainSettings
from models.training.techniques import (
    Descent,
    LossChoice,
    Mixing,
    Stages,
    Techniques,
    check_techniques,
    settled_loss,
)

SETTINGS = TrainSettings(out=Path("nowhere"))
LABELS = (Label("a"), Label("b"))


def part(*labels: tuple[int, ...], multi_label: bool = False) -> LabelledSet:
    items = tuple(Item(Path(f"{n}.png"), each, f"{n:064}") for n, each in enumerate(labels))
    return LabelledSet(Path("data"), ("a", "b"), items, (), multi_label)


def test_the_defaults_pass() -> None:
    check_techniques(Techniques())


@pytest.mark.parametrize(
    ("techniques", "words"),
    [
        (Techniques(LossChoice(name="hinge")), "loss is 'hinge'"),  # type: ignore[arg-type]
        (Techniques(LossChoice(label_smoothing=1.0)), "label_smoothing is 1.0"),
        (Techniques(LossChoice(margin=-0.1)), "loss.margin is -0.1"),
        (Techniques(LossChoice(scale=0.0)), "loss.scale is 0.0"),
        (Techniques(LossChoice(reweight_from=1.1)), "loss.reweight_from is 1.1"),
        (Techniques(LossChoice(gamma=float("nan"))), "loss.gamma is nan"),
        (Techniques(LossChoice(alpha=1.0)), "loss.alpha is 1.0"),
        (Techniques(mixing=Mixing(mixup=-1.0)), "mixup is -1.0"),
        (Techniques(mixing=Mixing(cutmix=float("inf"))), "cutmix is inf"),
        (Techniques(mixing=Mixing(randaugment=2.5)), "randaugment is 2.5"),  # type: ignore[arg-type]
        (Techniques(mixing=Mixing(magnitude=31)), "magnitude is 31"),
        (Techniques(stages=Stages(unfreeze_blocks=-1)), "unfreeze_blocks is -1"),
        (Techniques(stages=Stages(rate_decay=0.0)), "rate_decay is 0.0"),
        (Techniques(stages=Stages(views=True)), "views is True"),
        (Techniques(descent=Descent(optimizer="adam")), "optimizer is 'adam'"),  # type: ignore[arg-type]
        (Techniques(descent=Descent(ema=1.0)), "ema is 1.0"),
        (Techniques(descent=Descent(clip_norm=-1.0)), "clip_norm is -1.0"),
    ],
)
def test_refused(techniques: Techniques, words: str) -> None:
    with pytest.raises(UserError) as caught:
        check_techniques(techniques)
    assert words in str(caught.value)
    assert caught.value.mend


def test_the_loss_follows_the_images() -> None:
    assert settled_loss(LossChoice(), multi_label=False) == "cross-entropy"
    assert settled_loss(LossChoice(), multi_label=True) == "bce"
    assert settled_loss(LossChoice("ldam"), multi_label=False) == "ldam"
    assert settled_loss(LossChoice("focal"), multi_label=True) == "focal"
    with pytest.raises(TrainingError, match="exactly one class"):
        settled_loss(LossChoice("focal"), multi_label=False)
    with pytest.raises(TrainingError, match="several classes"):
        settled_loss(LossChoice("ldam"), multi_label=True)


def test_the_record_says_what_is_not_as_usual() -> None:
    both = part((0,), (1,)), part((0,))
    usual = describe(SETTINGS, LABELS, *both)["settings"]
    assert usual["label_smoothing"] == 0.1
    assert not [name for name in usual if "." in name or name == "techniques"]
    own = Techniques(
        LossChoice("ldam", label_smoothing=0.0), stages=Stages(rate_decay=0.25, cache="elsewhere")
    )
    asked = describe(dataclasses.replace(SETTINGS, techniques=own), LABELS, *both)["settings"]
    added = {name: value for name, value in asked.items() if usual.get(name) != value}
    assert added == {
        "loss.name": "ldam", "label_smoothing": 0.0, "stages.rate_decay": 0.25,
    }  # fmt: skip


def test_a_run_begun_with_another_loss_is_not_resumed(tmp_path: Path) -> None:
    both = part((0,), (1,)), part((0,))
    folder = RunFolder(tmp_path)
    folder.begin(describe(SETTINGS, LABELS, *both))
    folder.compare(describe(SETTINGS, LABELS, *both))
    other = dataclasses.replace(SETTINGS, techniques=Techniques(LossChoice("ldam")))
    with pytest.raises(TrainingError, match=r"loss\.name was None and is now 'ldam'"):
        folder.compare(describe(other, LABELS, *both))


def test_every_class_of_an_image_counts_in_the_record() -> None:
    one = describe(SETTINGS, LABELS, part((0,), (), multi_label=True), part((0,)))
    two = describe(SETTINGS, LABELS, part((0, 1), (), multi_label=True), part((0,)))
    assert one["images"] != two["images"]
    # sha256 of "0 <digest>\n--\n--\n", as it was when images had one class
    single = describe(SETTINGS, LABELS, part((0,)), part())
    text = f"0 {0:064}\n--\n--\n"
    assert single["images"] == hashlib.sha256(text.encode()).hexdigest()
