"""The short training itself: what it goes on with, and what decides its key."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from exporter.choose import learning
from exporter.choose.candidates import parse
from exporter.choose.learning import key_of, learn
from exporter.choose.photographs import Photographs
from exporter.choose.starts import Origin
from models.data.folder import load_folder
from models.finetune import TrainingInterruptedError
from models.images import content_hash
from support import bundles

torch = pytest.importorskip("torch", reason="candidates are trained with torch")
if importlib.util.find_spec("lightning") is None:
    pytest.skip("candidates are trained with lightning", allow_module_level=True)

NOTHING = Origin("scratch", why_scratch="none are published")
LENET, SQUEEZENET = parse("lenet5:input_size=28,squeezenet1_1:input_size=32")
EPOCHS = 3


class Steps:
    """A `Progress` that notes what it is told; it may stop everything once."""

    def __init__(self, stop_at: str = "", after: int = 0) -> None:
        self.stages: list[tuple[str, int]] = []
        self._stop_at, self._after = stop_at, after

    def start(self, stage: str, total: int | None = None) -> None:
        self.stages.append((stage, 0))

    def advance(self) -> None:
        stage, count = self.stages[-1]
        self.stages[-1] = (stage, count + 1)
        if self._stop_at and self._stop_at in stage and count + 1 == self._after:
            raise KeyboardInterrupt

    def done(self, note: str = "") -> None:
        pass


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    root, parts = tmp_path_factory.mktemp("photos"), []
    for name, count, first in (("train", 12, 0), ("validation", 4, 50), ("test", 4, 100)):
        for group in range(2):
            folder = root / name / f"hue {group}"
            folder.mkdir(parents=True)
            for index in range(count):
                picture = bundles.class_image(4 * group, first + index, 40)
                Image.fromarray(picture).save(folder / f"{index}.png")
        parts.append(load_folder(root / name))
    return Photographs(*parts, "hues")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    from models import zoo

    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    with torch.random.fork_rng():
        torch.save(zoo.create("squeezenet1_1", 5, input_size=32).state_dict(), path)
    return Origin("file", path, content_hash(path))


def state_of(path: Path) -> dict[str, Any]:
    from models.checkpoint import load_checkpoint

    return dict(load_checkpoint(path).state)


def test_an_interrupted_training_from_nothing_goes_on(
    photographs: Photographs, tmp_path: Path
) -> None:
    given = (LENET, NOTHING, photographs)
    with pytest.raises(TrainingInterruptedError):
        learn(*given, tmp_path / "a", tmp_path, EPOCHS, 0, Steps("from nothing", after=1))
    history = tmp_path / "a" / "run" / "history.json"
    assert len(json.loads(history.read_text())["epochs"]) < EPOCHS
    steps = Steps()
    resumed = learn(*given, tmp_path / "a", tmp_path, EPOCHS, 0, steps)
    assert steps.stages == [(f"training from nothing, {EPOCHS} epochs", EPOCHS)]
    assert len(json.loads(history.read_text())["epochs"]) == EPOCHS
    whole = learn(*given, tmp_path / "b", tmp_path, EPOCHS, 0, Steps())
    one, other = state_of(resumed.checkpoint), state_of(whole.checkpoint)
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=name)
    epochs = json.loads(history.read_text())["epochs"]
    assert resumed.seconds >= sum(row["seconds"] for row in epochs) * 0.9


def test_an_interrupted_head_finds_its_features_again(
    photographs: Photographs, origin: Origin, tmp_path: Path
) -> None:
    given, cache = (SQUEEZENET, origin, photographs), tmp_path / "features"
    with pytest.raises(KeyboardInterrupt):  # in the second of three sets of features
        learn(*given, tmp_path / "a", cache, EPOCHS, 0, Steps("features", after=8 + 24 + 3))
    assert len([path for path in cache.iterdir() if not path.name.startswith(".")]) == 2
    with pytest.raises(KeyboardInterrupt):
        learn(*given, tmp_path / "a", cache, EPOCHS, 0, Steps("head", after=1))
    kept = {path: (path / "features.npy").stat().st_mtime_ns for path in cache.iterdir()}
    assert len(kept) == 1 + learning.VIEWS
    steps = Steps()
    found = learn(*given, tmp_path / "a", cache, EPOCHS, 0, steps)
    assert [stage for stage, _ in steps.stages] == [
        "features of the frozen backbone", f"training the head, {EPOCHS} epochs",
    ]  # fmt: skip
    assert steps.stages[0][1] == 8 + 24 * learning.VIEWS
    assert kept == {path: (path / "features.npy").stat().st_mtime_ns for path in cache.iterdir()}
    whole = learn(*given, tmp_path / "b", tmp_path / "other", EPOCHS, 0, Steps())
    one, other = state_of(found.checkpoint), state_of(whole.checkpoint)
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=name, rtol=1e-4, atol=1e-5)
    recorded = sum(
        json.loads((path / "features.json").read_text())["seconds"] for path in cache.iterdir()
    )
    assert found.seconds > recorded  # the time that features took when they were made


def test_the_key_is_that_of_all_that_decides(photographs: Photographs, origin: Origin) -> None:
    base = (LENET, NOTHING, photographs, EPOCHS, 0)
    keys = {
        key_of(*base),
        key_of(SQUEEZENET, *base[1:]),
        key_of(parse("lenet5:input_size=32")[0], *base[1:]),
        key_of(LENET, origin, *base[2:]),
        key_of(*base[:3], EPOCHS + 1, 0),
        key_of(*base[:4], 1),
        key_of(LENET, NOTHING, Photographs(photographs.train, photographs.test,
                                           photographs.validation, "hues"), EPOCHS, 0),
    }  # fmt: skip
    assert len(keys) == 7
    assert key_of(*base) in keys


@pytest.mark.parametrize(("name", "normalized"), [("lenet5", False), ("mobilenet_v2", True)])
def test_the_rate_follows_from_batch_norm(name: str, normalized: bool) -> None:
    from models import zoo

    with torch.device("meta"):
        net = zoo.get(name).create(2, {})
    assert learning._has_batch_norm(net) is normalized
