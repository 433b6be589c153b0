"""Temperature and thresholds are fitted on the weights that are kept, and stored with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.contract import Contract, Label
from models.data.labelled import Item, LabelledSet

torch = pytest.importorskip("torch", reason="a checkpoint holds a torch network")

from models import zoo  # noqa: E402
from models.calibration import activate, fit_temperature  # noqa: E402
from models.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint  # noqa: E402
from models.classifier import Classifier  # noqa: E402
from models.images import load_pixels  # noqa: E402
from models.thresholds import tune_thresholds  # noqa: E402
from models.training.calibrating import calibrate  # noqa: E402
from models.training.settings import TrainSettings  # noqa: E402

OPTIONS = {"width_mult": 0.1, "input_size": 32}
LABELS = tuple(Label(name) for name in "abc")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(24)]
    for number, path in enumerate(paths):
        rng = np.random.default_rng(number)
        flat = rng.integers(0, 256, (1, 1, 3)) + rng.normal(0, 20, (32, 32, 3))
        Image.fromarray(np.clip(flat, 0, 255).astype(np.uint8)).save(path)
    return paths


def checkpoint(path: Path, activation: Any) -> Checkpoint:
    """A network whose answers move with the picture, and are too sure by far."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = zoo.get("mobilenet_v2").create(3, OPTIONS)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            net(torch.rand(64, 3, 1, 1) * 2 - 1 + torch.randn(64, 3, 32, 32) / 4)
            net.classifier[1].weight.mul_(25)
    rule = TrainSettings(out=Path("nowhere"), options=OPTIONS).preprocessing
    contract = Contract(LABELS, rule, activation=activation)
    made = Checkpoint("mobilenet_v2", OPTIONS, net.state_dict(), contract)
    save_checkpoint(made, path)
    return made


def logits_of(made: Checkpoint, paths: list[Path]) -> Any:
    rule = made.contract.preprocessing
    pixels = torch.from_numpy(np.stack([load_pixels(path, rule) for path in paths]))
    with torch.inference_mode():
        return Classifier(build(made), made.contract).eval().logits(pixels).numpy()


def labelled(paths: list[Path], labels: list[tuple[int, ...]], several: bool) -> LabelledSet:
    items = tuple(Item(path, each, path.name) for path, each in zip(paths, labels, strict=True))
    return LabelledSet(Path("images"), ("a", "b", "c"), items, multi_label=several)


def test_the_temperature_is_that_of_the_stored_weights(images: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    made = checkpoint(path, "softmax")
    raw = logits_of(made, images)
    targets = raw.argmax(1)
    targets[::6] = (targets[::6] + 1) % 3  # wrong every sixth time, and yet sure
    part = labelled(images, [(int(each),) for each in targets], several=False)
    expected = fit_temperature(raw, targets, "softmax")
    said: list[str] = []
    history = calibrate(path, part, said.append)
    assert 1.2 < expected < 9.0
    assert history == {"temperature": pytest.approx(expected, rel=1e-3)}
    found = load_checkpoint(path)
    assert found.temperature == history["temperature"]
    assert found.contract.thresholds is None
    assert all(torch.equal(found.state[name], made.state[name]) for name in made.state)
    np.testing.assert_allclose(
        logits_of(found, images), raw / found.temperature, rtol=1e-4, atol=1e-4
    )
    assert said[0].startswith("temperature ")
    assert "calibration error" in said[0]
    assert calibrate(path, part, said.append) == history, "doing it twice changes nothing"


def test_thresholds_of_a_multi_label_set(images: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    raw = logits_of(checkpoint(path, "sigmoid"), images)
    rng = np.random.default_rng(0)
    there = raw + rng.normal(0, raw.std(), raw.shape) > np.median(raw, axis=0)
    part = labelled(images, [tuple(np.flatnonzero(row).tolist()) for row in there], several=True)
    history = calibrate(path, part, lambda text: None)
    found = load_checkpoint(path)
    assert found.temperature == history["temperature"] != 1.0
    expected = tune_thresholds(activate(raw, "sigmoid", found.temperature), there.astype(int))
    assert found.contract.thresholds == pytest.approx(expected, abs=2e-5)
    assert list(found.contract.thresholds or ()) == history["thresholds"]
    assert len(set(expected)) == 3


@pytest.mark.parametrize("several", [False, True])
def test_without_a_temperature(images: list[Path], tmp_path: Path, several: bool) -> None:
    path = tmp_path / "model.safetensors"
    made = checkpoint(path, "sigmoid" if several else "softmax")
    save_checkpoint(dataclasses.replace(made, temperature=3.0), path)  # of an earlier time
    part = labelled(images, [(number % 3,) for number in range(len(images))], several)
    before = path.read_bytes()
    history = calibrate(path, part, lambda text: None, temperature=False)
    assert "temperature" not in history
    if several:
        assert load_checkpoint(path).temperature == 1.0
        assert load_checkpoint(path).contract.thresholds is not None
    else:
        assert path.read_bytes() == before, "it leaves what is there"
