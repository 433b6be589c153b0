"""What a run is asked: the recipe's figures, and every mistake refused before the work."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.contract import ContractError, Label, load_labels
from models.errors import UserError
from models.finetune import FINE_TUNE, FROM_SCRATCH, TrainingError, TrainSettings, settle_labels
from models.training.settings import check
from models.training.techniques import LossChoice, Techniques

SETTINGS = TrainSettings(out=Path("nowhere"))


def test_recipe_follows_the_weights_and_the_flags() -> None:
    assert SETTINGS.recipe == FROM_SCRATCH
    tuned = dataclasses.replace(SETTINGS, weights="imagenet")
    assert tuned.recipe == FINE_TUNE
    own = dataclasses.replace(tuned, epochs=3, learning_rate=0.5).recipe
    assert (own.epochs, own.learning_rate) == (3, 0.5)
    assert own.head_factor == FINE_TUNE.head_factor
    assert (SETTINGS.picture_size, tuned.picture_size) == (192, 160)  # 192.6 and 161.3, by 16


def test_the_contracts_rule() -> None:
    rule = dataclasses.replace(SETTINGS, options={"input_size": 112}).preprocessing
    assert (rule.height, rule.width, rule.resize_shorter_side) == (112, 112, 128)
    assert rule.normalization.mean == rule.normalization.std == (127.5, 127.5, 127.5)


def test_importing_does_not_import_torch() -> None:
    code = "import sys, models.finetune; print({'torch', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": 2.5}, "--epochs is 2.5"),
        ({"batch_size": 1}, "--batch-size is 1"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"seed": -1}, "--seed is -1"),
        ({"patience": 0}, "patience is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"techniques": Techniques(LossChoice(label_smoothing=1.0))}, "label_smoothing is 1.0"),
        ({"warm_up": 0.0}, "warm_up is 0.0"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale[0] is 0.0"),
        ({"crop_scale": (0.5, 0.4)}, "crop_scale[1] is 0.4"),
        ({"train_size": 8}, "train_size is 8"),
        ({"resume": True, "force": True}, "exclude each other"),
        ({"architecture": "mobilenet_v9"}, "Unknown architecture"),
        ({"options": {"width_mult": 9.0}}, "width_mult is 9.0"),
        ({"weights": "no-such-file.pth"}, "no-such-file.pth does not exist"),
        ({"weights": "imagenet", "options": {"width_mult": 0.5}}, "width_mult=1.0, not 0.5"),
    ],
)
def test_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        check(dataclasses.replace(SETTINGS, **change))
    assert words in str(caught.value)
    assert caught.value.mend


def test_labels_are_put_in_the_folders_order() -> None:
    given = (Label("viper", "Vipera", "yes"), Label("adder", "Vipera berus", "yes"))
    assert settle_labels(given, ("adder", "viper")) == (given[1], given[0])
    assert settle_labels(None, ("a", "b")) == (Label("a"), Label("b"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("adder", "vipers"), "without a label: viper"),
        (("adder",), "without a label: viper"),
        (("adder", "viper", "boa"), "without images: boa"),
        (("adder", "viper", "viper"), "twice"),
    ],
)
def test_labels_that_do_not_match_the_folders(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(TrainingError) as caught:
        settle_labels(tuple(map(Label, names)), ("adder", "viper"))
    assert words in str(caught.value)


def test_labels_of_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        '\ufeffvenomous,name,scientific_name\nYes,"Adder, common",Vipera berus\n,viper,\n',
        encoding="utf-8",
    )
    expected = (Label("Adder, common", "Vipera berus", "yes"), Label("viper"))
    assert load_labels(path) == expected
    assert settle_labels(path, ("viper", "Adder, common")) == expected[::-1]
    path.write_text("name\nadder\n")
    assert load_labels(path) == (Label("adder"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,venom\nadder,yes\n", "begins with 'name,venom'"),
        ("name,name\nadder,yes\n", "each once"),
        ("scientific_name\nVipera berus\n", "begins with 'scientific_name'"),
        ("", "begins with 'nothing'"),
        ("name,venomous\n", "is empty"),
        ("name,venomous\nadder, common,yes\n", "Label 1 in .* has 3 cells"),
        ("name,venomous\nadder,perhaps\n", "venomous='perhaps'"),
        ("name,venomous\n,yes\n", "no name"),
    ],
)
def test_csv_labels_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ContractError, match=words):
        load_labels(path)
