"""Where a training begins: fresh, from a file, from a checkpoint, from the network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from models import zoo
from models.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from models.contract import Contract, Label, Preprocessing
from models.normalization import renormalize
from models.training.settings import TrainingError, TrainSettings
from models.training.start import published_state, starting_network

torch = pytest.importorskip("torch")
OPTIONS = {"width_mult": 0.1, "input_size": 32}
LABELS = (Label("a"), Label("b"), Label("c"))
SETTINGS = TrainSettings(out=Path("nowhere"), options=OPTIONS)
HEAD = "classifier.1."
STEM = ("features.0.0.weight", "features.0.1.running_mean")


def start(weights: object, labels: tuple[Label, ...] = LABELS) -> dict[str, Any]:
    said: list[str] = []
    settings = dataclasses.replace(SETTINGS, weights=str(weights))
    net = starting_network(settings, labels, said.append)
    assert len(said) == 1
    return dict(net.state_dict())


@pytest.fixture
def state() -> dict[str, Any]:
    torch.manual_seed(7)
    return dict(zoo.create("mobilenet_v2", 5, **OPTIONS).state_dict())


def test_fresh_weights_follow_the_seed() -> None:
    first, again = start("none"), start("none")
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = starting_network(dataclasses.replace(SETTINGS, seed=1), LABELS, lambda _: None)
    assert not torch.equal(first[STEM[0]], other.state_dict()[STEM[0]])


def test_a_bare_state_dict_gets_a_new_head_and_a_new_stem(
    state: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "w.pth")
    found = start(tmp_path / "w.pth")
    assert found[HEAD + "weight"].shape[0] == 3
    entry = zoo.get("mobilenet_v2")
    expected = renormalize(state, entry.stem, zoo.IMAGENET, Preprocessing().normalization)
    for name in found:
        if not name.startswith(HEAD):
            torch.testing.assert_close(found[name], expected[name], msg=name)
    assert not torch.equal(found[STEM[0]], state[STEM[0]])
    assert not torch.equal(found[STEM[1]], state[STEM[1]])


def checkpoint_file(state: dict[str, Any], labels: int, path: Path) -> Path:
    rule = Preprocessing(height=32, width=32, resize_shorter_side=40)
    named = tuple(Label("abcdefg"[i]) for i in range(labels))
    save_checkpoint(Checkpoint("mobilenet_v2", OPTIONS, state, Contract(named, rule)), path)
    return path


def test_our_own_checkpoint_is_not_rewritten_again(state: dict[str, Any], tmp_path: Path) -> None:
    found = start(checkpoint_file(state, 5, tmp_path / "c.safetensors"))
    assert all(torch.equal(found[name], state[name]) for name in STEM)
    assert found[HEAD + "weight"].shape[0] == 3


def test_the_same_labels_keep_their_head(tmp_path: Path) -> None:
    kept = dict(zoo.create("mobilenet_v2", 3, **OPTIONS).state_dict())
    found = start(checkpoint_file(kept, 3, tmp_path / "c.safetensors"))
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    renamed = start(tmp_path / "c.safetensors", (*LABELS[:2], Label("other")))
    assert not torch.equal(renamed[HEAD + "weight"], kept[HEAD + "weight"])


def test_weights_of_another_width(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    settings = dataclasses.replace(SETTINGS, weights=str(tmp_path / "w.pth"), options={})
    with pytest.raises(CheckpointError, match=r"width_mult=1\.0"):
        starting_network(settings, LABELS, lambda _: None)


def test_published_weights_come_from_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision's own loading code, on a file where a download would have put it."""
    entry = zoo.get("mobilenet_v2")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    net = entry.create(1000, {})
    (tmp_path / "checkpoints").mkdir()
    torch.save(net.state_dict(), tmp_path / "checkpoints" / "mobilenet_v2-7ebf99e0.pth")
    found = published_state(entry)
    assert torch.equal(found[STEM[0]], net.state_dict()[STEM[0]])


@pytest.mark.parametrize(
    "error",
    [URLError("Name or service not known"), ConnectionResetError("reset"), TimeoutError("slow")],
)
def test_no_network_is_said_clearly(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(TrainingError) as caught:
        start_published()
    assert "no way to the network" in caught.value.what
    assert "mobilenet_v2-7ebf99e0.pth" in caught.value.why
    assert "--weights FILE" in caught.value.mend
    assert not list(tmp_path.rglob("*.pth"))


def start_published() -> None:
    settings = dataclasses.replace(SETTINGS, weights="imagenet", options={})
    starting_network(settings, LABELS, lambda _: None)


def test_a_download_that_is_not_what_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real download, of a local file that has not the hash in its name."""
    (tmp_path / "mobilenet_v2-0123abcd.pth").write_bytes(b"an error page")
    url = (tmp_path / "mobilenet_v2-0123abcd.pth").as_uri()
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    from torchvision.models import MobileNet_V2_Weights

    replaced = dataclasses.replace(MobileNet_V2_Weights.IMAGENET1K_V2.value, url=url)
    monkeypatch.setattr(MobileNet_V2_Weights.IMAGENET1K_V2, "_value_", replaced)
    with pytest.raises(TrainingError, match="not stored") as caught:
        start_published()
    assert "0123abcd" in caught.value.why
