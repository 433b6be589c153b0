"""`exporter train` from the command line: what it refuses, what it leaves, what it says next."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from support import bundles
from support.cli import run_cli

needs_lightning = pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None, reason="not run: lightning is not installed"
)


def test_it_wants_to_know_what_to_train_on(tmp_path: Path) -> None:
    for words in ((), ("--synthetic", "--data", tmp_path)):
        ran = run_cli("train", "--out", tmp_path / "run", *words)
        assert ran.code == 2
        assert "--synthetic" in ran.err
        assert not (tmp_path / "run").exists()


@needs_lightning
def test_broken_images_are_listed_and_left_out_or_refused(tmp_path: Path) -> None:
    folder = bundles.write_class_images(tmp_path / "photos", 3)
    (folder / "species 3" / "broken.png").write_bytes(b"no image")
    words = ("train", "--data", folder, "--out", tmp_path / "run", "--epochs", 1, "--width", 0.1,
             "--input-size", 32)  # fmt: skip
    ran = run_cli(*words, "--most-broken", 0)
    assert ran.code == 2
    assert "broken.png" in ran.err
    assert not (tmp_path / "run").exists()
    ran = run_cli(*words)
    assert ran.code == 0, ran.text
    assert "1 broken image left out" in ran.out
    assert "broken.png" in ran.out


@needs_lightning
def test_one_class_only(tmp_path: Path) -> None:
    bundles.write_images(tmp_path / "photos" / "alone", 5)
    ran = run_cli("train", "--data", tmp_path / "photos", "--out", tmp_path / "run")
    assert ran.code == 2
    assert "alone" in ran.err


@needs_lightning
def test_a_trained_checkpoint_can_be_exported(tmp_path: Path) -> None:
    folder = bundles.write_class_images(tmp_path / "photos", 6)
    ran = run_cli("train", "--data", folder, "--out", tmp_path / "run", "--epochs", 1,
                  "--width", 0.35, "--input-size", 32, "--batch-size", 8)  # fmt: skip
    assert ran.code == 0, ran.text
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    assert f"exporter export {checkpoint} --calibration {folder}" in ran.out
    ran = run_cli("export", checkpoint, "--out", tmp_path / "dist", "--formats", "tflite-float32",
                  "--images", folder, "--images-limit", 10, "--runs", 0)  # fmt: skip
    assert ran.code == 0, ran.text


@needs_lightning
def test_an_exported_bundle_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "manifest.json").write_text("{}")
    ran = run_cli("train", "--synthetic", "--out", tmp_path / "dist")
    assert ran.code == 2
    assert "exported bundle" in ran.err


@pytest.mark.parametrize("flag", ["--validation", "--labels"])
def test_the_drawn_snakes_have_their_own(tmp_path: Path, flag: str) -> None:
    ran = run_cli("train", "--synthetic", "--out", tmp_path / "run", flag, tmp_path)
    assert ran.code == 2
    assert f"--synthetic and {flag} exclude each other" in ran.err
    assert not (tmp_path / "run").exists()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where pictures would have been drawn."""
    from models.data import synthetic

    folders: list[Path] = []
    monkeypatch.setattr(synthetic, "draw_dataset", lambda folder, *_: folders.append(folder))
    return folders


@needs_lightning
@pytest.mark.parametrize(
    ("words", "said"),
    [(("--seed", -1), "--seed"), (("--width", 99), "width_mult"), (("--resume",), "no run to"),
     (("--learning-rate", 0), "--learning-rate"), (("--weights", "none.pth"), "none.pth")],
)  # fmt: skip
def test_settings_are_refused_before_anything_is_drawn(
    tmp_path: Path, drawn: list[Path], words: tuple[object, ...], said: str
) -> None:
    ran = run_cli("train", "--synthetic", "--out", tmp_path / "run", *words)
    assert ran.code == 2
    assert said in ran.err
    assert not drawn
    assert not (tmp_path / "run").exists()


@needs_lightning
def test_another_run_is_refused_before_anything_is_drawn(tmp_path: Path, drawn: list[Path]) -> None:
    (tmp_path / "run.json").write_text("{}")
    ran = run_cli("train", "--synthetic", "--out", tmp_path)
    assert ran.code == 2
    assert "holds a run already" in ran.err
    assert not drawn


@needs_lightning
def test_a_flag_moves_its_own_setting_of_the_recipe_only(
    tmp_path: Path, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import finetune
    from models.recipes import SYNTHETIC

    asked: list[finetune.TrainSettings] = []

    def train(settings: finetune.TrainSettings, **_: Any) -> Path:
        asked.append(settings)
        return settings.out / "checkpoint.safetensors"

    monkeypatch.setattr(finetune, "train", train)
    for words in ((), ("--width", 1.0), ("--input-size", 64, "--batch-size", 4)):
        assert run_cli("train", "--synthetic", "--out", tmp_path / "run", *words).code == 0
    plain, wide, small = asked
    assert plain.options == SYNTHETIC.options
    assert wide.options == {**SYNTHETIC.options, "width_mult": 1.0}
    assert wide.train_size == plain.train_size == SYNTHETIC.train_size
    assert small.options == {**SYNTHETIC.options, "input_size": 64}
    assert small.picture_size <= 64
    assert (plain.batch_size, small.batch_size) == (SYNTHETIC.batch_size, 4)
    assert len(drawn) == 6


@needs_lightning
@pytest.mark.parametrize("place", ["file", "file/x", "file/x/y"])
def test_a_folder_below_a_file(tmp_path: Path, drawn: list[Path], place: str) -> None:
    (tmp_path / "file").write_text("mine")
    ran = run_cli("train", "--synthetic", "--out", tmp_path / place)
    assert ran.code == 2
    assert "is a file" in ran.err
    assert not drawn


@needs_lightning
def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.data import synthetic

    def denied(folder: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(synthetic, "draw_dataset", denied)
    ran = run_cli("train", "--synthetic", "--out", tmp_path / "run")
    assert ran.code == 2
    assert f"{tmp_path / 'run' / 'data' / 'train'} cannot be used" in ran.err
    assert "Permission denied" in ran.err


@needs_lightning
def test_the_variants_of_the_drawn_snakes(
    tmp_path: Path, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import finetune
    from models.data import synthetic
    from models.recipes import IMBALANCED, MULTI_LABEL

    asked: list[finetune.TrainSettings] = []
    calls: list[tuple[object, ...]] = []

    def train(settings: finetune.TrainSettings, **_: Any) -> Path:
        asked.append(settings)
        return settings.out / "checkpoint.safetensors"

    monkeypatch.setattr(finetune, "train", train)
    for name in ("draw_imbalanced", "draw_multi_label"):
        monkeypatch.setattr(synthetic, name, lambda *given, name=name: calls.append((name, *given)))
    for variant in ("imbalanced", "multi-label"):
        ran = run_cli("train", "--synthetic", "--variant", variant, "--out", tmp_path / "run")
        assert ran.code == 0, ran.text
    data = tmp_path / "run" / "data"
    assert calls[0][:4] == ("draw_imbalanced", data / "train", 250, IMBALANCED.ratio)
    assert drawn == [data / "validation"], "as many of each where the long tail is judged"
    species = len(synthetic.LABELS)
    assert [call[:3] for call in calls[1:]] == [
        ("draw_multi_label", data / "train", MULTI_LABEL.train_per_class * species),
        ("draw_multi_label", data / "validation", MULTI_LABEL.validation_per_class * species),
    ]
    tail, several = asked
    assert (tail.data, tail.validation) == (data / "train", data / "validation")
    assert several.data == data / "train" / "labels.csv"
    assert several.options == MULTI_LABEL.options
    ran = run_cli("train", "--data", tmp_path, "--variant", "plain", "--out", tmp_path / "x")
    assert ran.code == 2
    assert "--variant plain without --synthetic" in ran.err


@needs_lightning
def test_weights_of_another_architecture(tmp_path: Path) -> None:
    from models import zoo
    from models.checkpoint import Checkpoint, save_checkpoint
    from models.contract import Contract, Label, Preprocessing

    net = zoo.create("squeezenet1_1", 3, input_size=32)
    labels = (Label("a"), Label("b"), Label("c"))
    other = tmp_path / "squeeze.safetensors"
    contract = Contract(labels, Preprocessing(32, 32, 36))
    save_checkpoint(Checkpoint("squeezenet1_1", {}, net.state_dict(), contract), other)
    folder = bundles.write_class_images(tmp_path / "photos", 4)
    ran = run_cli("train", "--data", folder, "--weights", other, "--freeze", "backbone",
                  "--out", tmp_path / "run", "--input-size", 32)  # fmt: skip
    assert ran.code == 2
    assert "holds a squeezenet1_1" in ran.err
    assert "--arch squeezenet1_1" in ran.err
    assert not (tmp_path / "run").exists()


@needs_lightning
def test_a_frozen_backbone_from_the_command_line(tmp_path: Path) -> None:
    """And what it says in the end: the next commands, ready for a shell."""
    from models import zoo
    from models.checkpoint import load_checkpoint

    torch = pytest.importorskip("torch")
    net = zoo.create("squeezenet1_1", 5, input_size=32)
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    folder = bundles.write_class_images(tmp_path / "my photos", 6)
    ran = run_cli("train", "--data", folder, "--weights", tmp_path / "weights.pth", "--arch",
                  "squeezenet1_1", "--input-size", 32, "--freeze", "backbone", "--unfreeze-from", 1,
                  "--epochs", 2, "--stage-epochs", 1, "--batch-size", 4,
                  "--out", tmp_path / "run")  # fmt: skip
    assert ran.code == 0, ran.text
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    assert f"exporter export {checkpoint} --calibration '{folder}'" in ran.out
    assert f"exporter evaluate {checkpoint} --data '{folder}'" in ran.out
    assert "epoch 3/3, head and last block" in ran.out
    assert "temperature" in ran.out
    assert 0.05 <= load_checkpoint(checkpoint).temperature <= 20
