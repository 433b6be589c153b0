"""Where each candidate's weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.choose import starts
from exporter.choose.candidates import parse
from exporter.choose.results import NONE_PUBLISHED, NOT_WITHIN_REACH
from exporter.choose.starts import file_in, names_of, settle
from models import zoo
from models.errors import UserError
from models.training.settings import TrainingError

torch = pytest.importorskip("torch", reason="weights are torch's")

PUBLISHED = "squeezenet1_1-b8a52dc0.pth"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the shapes of SqueezeNet 1.1 of seven classes."""
    path = tmp_path_factory.mktemp("weights") / "any.pth"
    with torch.random.fork_rng():
        torch.save(zoo.create("squeezenet1_1", 7, input_size=224).state_dict(), path)
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No download works; the names of those that were tried."""
    tried: list[str] = []

    def fail(entry: Any) -> dict[str, Any]:
        tried.append(entry.name)
        raise TrainingError("The ImageNet weights cannot be downloaded.", "no way", "")

    monkeypatch.setattr("models.training.start.published_state", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tried


@pytest.mark.parametrize("name", [PUBLISHED, "squeezenet1_1.pth", "squeezenet1_1_imagenet.pth"])
def test_a_file_is_found_by_its_published_name_or_the_architectures(
    name: str, weights: Path, tmp_path: Path, no_network: list[str]
) -> None:
    (tmp_path / name).write_bytes(weights.read_bytes())
    found = settle(parse("squeezenet1_1"), tmp_path)["squeezenet1_1"]
    assert (found.start, found.name, found.why_scratch) == ("file", name, "")
    assert len(found.sha256) == 64
    assert no_network == []


def test_the_published_name_goes_before_the_others(weights: Path, tmp_path: Path) -> None:
    for name in ("squeezenet1_1.pth", PUBLISHED):
        (tmp_path / name).write_bytes(weights.read_bytes())
    assert file_in(tmp_path, parse("squeezenet1_1")[0]) == tmp_path / PUBLISHED
    assert names_of(parse("squeezenet1_1")[0])[0] == PUBLISHED


def test_only_the_published_options_start_from_published_weights(
    weights: Path, tmp_path: Path, no_network: list[str]
) -> None:
    (tmp_path / PUBLISHED).write_bytes(weights.read_bytes())
    (tmp_path / "mobilenet_v2.pth").write_bytes(b"never opened")
    found = settle(parse("squeezenet1_1:input_size=96,mobilenet_v2:width_mult=0.35"), tmp_path)
    assert found["squeezenet1_1:input_size=96"].start == "file"  # any size takes them
    narrow = found["mobilenet_v2:width_mult=0.35"]
    assert (narrow.start, narrow.why_scratch) == ("scratch", NONE_PUBLISHED)
    assert no_network == []


def test_out_of_reach_is_said_once_and_is_no_error(no_network: list[str]) -> None:
    said: list[str] = []
    found = settle(parse("squeezenet1_1,resnet18,mobilenet_v2:width_mult=0.35"), None, said.append)
    assert {each.start for each in found.values()} == {"scratch"}
    assert found["resnet18"].why_scratch == NOT_WITHIN_REACH
    assert found["mobilenet_v2:width_mult=0.35"].why_scratch == NONE_PUBLISHED
    assert no_network == ["squeezenet1_1"]  # the second is not tried: it would take as long
    assert "cannot be downloaded" in said[0]
    assert all(each.sha256 == "" and each.name == "" for each in found.values())


def test_what_torch_has_downloaded_before_is_used(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / PUBLISHED).write_bytes(weights.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("models.training.start.published_state", lambda entry: {})
    found = settle(parse("squeezenet1_1"), None)["squeezenet1_1"]
    assert (found.start, found.name) == ("published", PUBLISHED)


def test_a_folder_without_a_usable_file_is_refused(tmp_path: Path, no_network: list[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match="holds no file for any candidate") as error:
        settle(parse("squeezenet1_1,resnet18"), tmp_path)
    assert PUBLISHED in error.value.why
    with pytest.raises(UserError, match="of no use here"):
        settle(parse("mobilenet_v2:width_mult=0.35"), tmp_path)
    assert no_network == []


def test_files_that_do_not_fit_are_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").write_bytes(weights.read_bytes())
    with pytest.raises(UserError, match="does not fit resnet18"):
        settle(parse("resnet18"), tmp_path)
    (tmp_path / "resnet18.pth").write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"damaged|not a weights file"):
        settle(parse("resnet18"), tmp_path)


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    seen = []
    monkeypatch.setattr(
        "models.training.start.published_state",
        lambda entry: seen.append(socket.getdefaulttimeout()) or {},
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "nowhere")
    settle(parse("squeezenet1_1"), None)
    assert seen == [starts._PATIENCE_S]
    assert socket.getdefaulttimeout() is None
