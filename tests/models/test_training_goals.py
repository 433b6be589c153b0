"""Whole runs with other losses and goals: what is kept is what was judged."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.checkpoint import build, load_checkpoint
from models.classifier import Classifier
from models.data.labelled import Item, LabelledSet
from models.images import content_hash, load_batches
from models.training.settings import TrainingError, TrainSettings
from models.training.techniques import Descent, Keeping, LossChoice, Mixing, Stages, Techniques

if importlib.util.find_spec("lightning") is None:
    pytest.skip("needs the extra 'train'", allow_module_level=True)
import torch

from models.finetune import TrainingInterruptedError, train
from models.training.judging import Goal, Judge
from models.training.measuring import measure_all
from models.training.task import Task

LDAM = LossChoice("ldam", reweight_from=0.5)
NAMES = ("blue", "green", "red")
STRIPES = {0: (40, 40, 230), 1: (60, 255, 60), 2: (230, 40, 40)}


def draw(folder: Path, labels: list[tuple[int, ...]], seed: int, several: bool) -> LabelledSet:
    """Grey pictures with a stripe in the colour of each class, at a height of its own."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    items = []
    for number, own in enumerate(labels):
        pixels = np.clip(rng.normal(128, 20, (36, 36, 3)), 0, 255)
        for index in own:
            pixels[12 * index : 12 * index + 12] = STRIPES[index]
        path = folder / f"{number:03}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        items.append(Item(path, own, content_hash(path)))
    return LabelledSet(folder, NAMES, tuple(items), multi_label=several)


@pytest.fixture(scope="module")
def tail(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledSet, LabelledSet]:
    """Images of one class each, few of the last."""
    root = tmp_path_factory.mktemp("tail")
    learned = draw(root / "train", [(0,)] * 24 + [(1,)] * 8 + [(2,)] * 2, 0, several=False)
    return learned, draw(root / "val", [(0,), (1,), (2,)] * 5, 1, several=False)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledSet, LabelledSet]:
    """Images of any number of classes."""
    root = tmp_path_factory.mktemp("several")
    kinds: list[tuple[int, ...]] = [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]
    return (
        draw(root / "train", kinds * 10, 0, several=True),
        draw(root / "val", kinds * 4, 1, several=True),
    )


@pytest.fixture
def settings(tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        out=tmp_path / "run", architecture="lenet5_relu", epochs=2, batch_size=8,
        learning_rate=2e-3, crop_scale=(0.9, 1.0), jitter=0.0, temperature=False, progress=False,
    )  # fmt: skip


def judged_again(out: Path, part: LabelledSet) -> dict[str, float]:
    """What the stored file answers, by the road that every artifact goes."""
    found = load_checkpoint(out / "checkpoint.safetensors")
    classifier = Classifier(build(found), found.contract).eval()
    judge = Judge(part.multi_label)
    paths = [item.path for item in part.items]
    with torch.inference_mode():
        for pixels in load_batches(paths, found.contract.preprocessing, 8):
            logits = classifier.logits(torch.from_numpy(pixels))
            targets = torch.zeros(len(logits), len(NAMES))
            first = len(torch.cat([torch.zeros(0), *(x[:, 0] for x in judge.logits)]))
            for row in range(len(logits)):
                targets[row, list(part.items[first + row].labels)] = 1
            judge.update(logits, targets if part.multi_label else targets.argmax(1))
    return judge.compute()


def best_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "history.json").read_text())["best"]


@pytest.mark.parametrize(
    "descent",
    [Descent(), Descent(ema=0.5), Descent(precision="bf16")],
    ids=["plain", "ema", "bf16"],
)
def test_ldam_keeps_a_plain_head_that_answers_as_it_was_judged(
    settings: TrainSettings, tail: Any, descent: Descent
) -> None:
    asked = dataclasses.replace(settings, techniques=Techniques(LDAM, descent=descent))
    train(asked, data=tail)
    best, again = best_of(settings.out), judged_again(settings.out, tail[1])
    for name, value in again.items():
        assert value == pytest.approx(best[name], rel=1e-3, abs=1e-4)
    state = load_checkpoint(settings.out / "checkpoint.safetensors").state
    lengths = state["classifier.4.weight"].norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand(3))


def test_ldam_on_frozen_features_and_beyond(settings: TrainSettings, tail: Any) -> None:
    train(settings, data=tail)
    stages = Stages(freeze_backbone=True, unfreeze_blocks=1, stage_epochs=2, views=1)
    later = dataclasses.replace(
        settings, out=settings.out.with_name("later"),
        weights=str(settings.out / "checkpoint.safetensors"),
        techniques=Techniques(LDAM, stages=stages, mixing=Mixing(balanced_sampling=True)),
    )  # fmt: skip
    train(later, data=tail)
    best, again = best_of(later.out), judged_again(later.out, tail[1])
    for name, value in again.items():
        assert value == pytest.approx(best[name], rel=1e-3, abs=1e-4)


def test_a_resumed_run_goes_on_exactly(settings: TrainSettings, tail: Any) -> None:
    mixing = Mixing(mixup=0.4, cutmix=1.0, randaugment=1, balanced_sampling=True)
    techniques = Techniques(LDAM, mixing, descent=Descent(ema=0.9), keeping=Keeping("macro-f1"))
    whole = dataclasses.replace(settings, epochs=4, techniques=techniques)
    train(whole, data=tail)
    again = dataclasses.replace(whole, out=settings.out.with_name("again"))

    def interrupt(text: str) -> None:
        if text.startswith("epoch 2/"):
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterruptedError, match="validation macro F1"):
        train(again, data=tail, on_message=interrupt)
    torch.manual_seed(99)
    train(dataclasses.replace(again, resume=True), data=tail)
    first, second = (
        json.loads((run.out / "history.json").read_text())["epochs"] for run in (whole, again)
    )
    for one, other in zip(first, second, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    states = [torch.load(run.out / "last.ckpt", weights_only=True) for run in (whole, again)]
    assert states[0]["even_rows"] == states[1]["even_rows"]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])


@pytest.mark.parametrize(
    "loss", [LossChoice(), LossChoice("focal", balanced=True)], ids=["bce", "focal"]
)
def test_several_classes_are_learned(
    settings: TrainSettings, several: Any, loss: LossChoice
) -> None:
    techniques = Techniques(loss, Mixing(balanced_sampling=True))
    asked = dataclasses.replace(
        settings, epochs=12, techniques=techniques
    )  # fmt: skip
    said: list[str] = []
    checkpoint = train(asked, data=several, on_message=said.append)
    found = load_checkpoint(checkpoint)
    assert found.contract.activation == "sigmoid"
    assert found.contract.thresholds is not None
    history = json.loads((settings.out / "history.json").read_text())
    best, again = history["best"], judged_again(settings.out, several[1])
    assert best["validation_map"] == max(row["validation_map"] for row in history["epochs"]) > 0.9
    assert "validation_accuracy" not in best
    for name, value in again.items():
        assert value == pytest.approx(best[name], rel=1e-3, abs=1e-4)
    # with the thresholds that are stored, and not with a half, that is the macro F1
    figures = measure_all(checkpoint, several[1])
    assert figures["macro_f1"] == pytest.approx(best["validation_macro_f1"], abs=1e-3)
    assert any("validation mAP" in line for line in said)


def test_a_resumed_run_of_several_classes(settings: TrainSettings, several: Any) -> None:
    techniques = Techniques(mixing=Mixing(mixup=0.4))
    whole = dataclasses.replace(settings, techniques=techniques)
    train(whole, data=several)
    again = dataclasses.replace(whole, out=settings.out.with_name("again"))

    def interrupt(text: str) -> None:
        if text.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterruptedError, match="validation mAP"):
        train(again, data=several, on_message=interrupt)
    train(dataclasses.replace(again, resume=True), data=several)
    first, second = (
        json.loads((run.out / "history.json").read_text())["epochs"] for run in (whole, again)
    )
    assert [row["training_loss"] for row in first] == [row["training_loss"] for row in second]


def test_the_best_epoch_by_macro_f1(settings: TrainSettings, tail: Any) -> None:
    keeping = Techniques(keeping=Keeping("macro-f1"))
    train(dataclasses.replace(settings, epochs=4, techniques=keeping), data=tail)
    history = json.loads((settings.out / "history.json").read_text())
    ranked = [(row["validation_macro_f1"], -row["validation_loss"]) for row in history["epochs"]]
    assert history["best"] == history["epochs"][ranked.index(max(ranked))]


def test_rare_classes_count_in_macro_f1() -> None:
    """By hand: nine of ten are right, and one class is never found."""
    judge = Judge(multi_label=False)
    targets = torch.tensor([0] * 9 + [1])
    judge.update(torch.tensor([[1.0, 0.0]]).expand(10, 2), targets)
    found = judge.compute()
    assert found["validation_accuracy"] == pytest.approx(0.9)
    assert found["validation_macro_f1"] == pytest.approx((18 / 19 + 0) / 2)


def test_several_by_hand() -> None:
    judge = Judge(multi_label=True)
    logits = torch.tensor([[2.0, -1.0], [1.0, 1.0], [-1.0, 0.5]])
    judge.update(logits[:2], torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    judge.update(logits[2:], torch.tensor([[0.0, 0.0]]))
    found = judge.compute()
    # the first image of class 0 and the second of class 1 lead their columns
    assert found["validation_map"] == pytest.approx(1.0)
    assert found["validation_macro_f1"] == pytest.approx(1.0)
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    expected = float(torch.log1p(torch.exp(-signs * logits)).mean())
    assert found["validation_loss"] == pytest.approx(expected)


def test_the_training_loss_is_the_one_chosen(settings: TrainSettings) -> None:
    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor([[0.5, -1.0, 2.0]]))

        def forward(self, x: Any) -> Any:
            return self.logits.expand(len(x), -1)

    asked = dataclasses.replace(settings, techniques=Techniques(LossChoice("focal", gamma=0.0)))
    task = Task(Fixed(), asked, 4, goal=Goal((1, 1, 1), multi_label=True))
    task.on_train_epoch_start()
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    pixels = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    expected = np.log1p(np.exp(-np.array([0.5, 1.0, 2.0]))).mean()
    found = task.training_step((pixels, targets), 0)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("techniques", "words"),
    [
        (Techniques(LossChoice("ldam")), "loss 'ldam' does not fit"),
        (Techniques(keeping=Keeping("accuracy")), "cannot be told by 'accuracy'"),
    ],
)
def test_contradictions_are_refused_before_the_work(
    settings: TrainSettings, several: Any, techniques: Techniques, words: str
) -> None:
    with pytest.raises(TrainingError, match=words):
        train(dataclasses.replace(settings, techniques=techniques), data=several)
    assert not settings.out.exists()
