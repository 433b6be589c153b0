"""The PyTorch reference: the checkpoint as it was trained, whatever the process did."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from exporter.prove.runtimes import registry
from models.errors import UserError
from support import nets

torch = pytest.importorskip("torch", reason="the reference runs in torch")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from models.checkpoint import Checkpoint, save_checkpoint

    path = tmp_path_factory.mktemp("reference") / "checkpoint.safetensors"
    net = nets.small_net(nets.IMAGENET)
    options = {"width_mult": nets.WIDTH, "input_size": nets.SIZE}
    contract = nets.small_contract(nets.IMAGENET)
    save_checkpoint(Checkpoint("mobilenet_v2", options, net.state_dict(), contract), path)
    return path


def by_hand(pixels: np.ndarray) -> np.ndarray:
    net = nets.small_net(nets.IMAGENET)
    mean, std = np.array(nets.IMAGENET.mean), np.array(nets.IMAGENET.std)
    given = ((pixels - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    with torch.no_grad():
        logits = net(torch.from_numpy(given))[0].double().numpy()
    return np.exp(logits) / np.exp(logits).sum()


def test_the_reference_is_the_network_with_the_contract_around_it(checkpoint: Path) -> None:
    runtime = registry.get("torch")
    assert runtime.unavailable() is None
    assert runtime.version() == f"torch eager {importlib.metadata.version('torch')}"
    contract = nets.small_contract(nets.IMAGENET)
    with runtime.open(checkpoint, contract) as session:
        assert session.labels() == contract.names
        answers = []
        for picture in nets.images(6, seed=3):
            picture.setflags(write=False)
            found = session.probabilities(picture)
            assert found.dtype == np.float32
            assert np.abs(found - by_hand(picture)).max() < 1e-5
            answers.append(found)
        again = session.probabilities(nets.images(6, seed=3)[0])
        assert np.array_equal(again, answers[0])  # eval mode: no dropout, no statistics moved
    assert np.std(answers, axis=0).max() > 0.05


def test_the_thread_count_of_the_process_is_put_back(checkpoint: Path) -> None:
    before = torch.get_num_threads()
    with registry.get("torch").open(checkpoint, nets.small_contract(nets.IMAGENET), before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_labels_of_another_bundle_and_damaged_files(checkpoint: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    runtime = registry.get("torch")
    contract = nets.small_contract(nets.IMAGENET)
    with pytest.raises(UserError, match="are not those of the bundle"):
        runtime.open(checkpoint, replace(contract, labels=contract.labels[::-1]))
    cut = tmp_path / "checkpoint.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError):
        runtime.open(cut, contract)
    with pytest.raises(UserError, match="does not exist"):
        runtime.open(tmp_path / "nothing.safetensors", contract)
