"""The temperature of a checkpoint: in every network of the zoo it divides the logits."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from models import checkpoint as checkpoints
from models import state_files, zoo
from models.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from models.contract import Contract, Label, Preprocessing
from models.training import start
from models.training.settings import TrainSettings
from tests.support.narrow_zoo import narrow

torch = pytest.importorskip("torch")
LABELS = (Label("adder"), Label("grass snake"), Label("other"))
OPTIONS = {"width_mult": 0.1, "input_size": 32}


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    state = zoo.create("mobilenet_v2", 3, **OPTIONS).state_dict()
    rule = Preprocessing(height=32, width=32, resize_shorter_side=40)
    return Checkpoint("mobilenet_v2", OPTIONS, state, Contract(LABELS, rule), temperature=1.75)


@pytest.fixture(params=zoo.names())
def narrowed(request: Any, monkeypatch: Any) -> Checkpoint:
    """Every entry with few channels or blocks, at its smallest input, with random weights.

    They are not drawn as the entry would draw them, which takes seconds for some.
    """
    entry, options = narrow(request.param)
    size = int(entry.options["input_size"].smallest)
    options = entry.settle({**options, "input_size": size})
    monkeypatch.setitem(zoo.registry._ENTRIES, request.param, entry)
    with torch.device("meta"):
        wanted = entry.create(3, options).state_dict()
    source = torch.Generator().manual_seed(1)
    state = {name: _drawn(value, source) for name, value in wanted.items()}
    rule = Preprocessing(size, size, size, grayscale=entry.grayscale)
    return Checkpoint(request.param, options, state, Contract(LABELS, rule))


def _drawn(like: Any, source: Any) -> Any:
    """Random numbers for a weight, ones for a scale or a variance, something over zero for a
    bias."""
    if like.ndim > 1:
        fan = like[0].numel()
        return torch.randn(like.shape, generator=source) * (2 / fan) ** 0.5
    return torch.full(like.shape, 1).to(like.dtype) * (0.5 if like.dtype.is_floating_point else 1)


def test_a_divided_head_divides_the_logits(narrowed: Checkpoint) -> None:
    rule = narrowed.contract.preprocessing
    source = torch.Generator().manual_seed(2)
    size = (2, 1 if rule.grayscale else 3, rule.height, rule.width)
    given = torch.rand(size, generator=source) * 2 - 1
    with torch.no_grad():
        raw = checkpoints.build(narrowed)(given)
        divided = checkpoints.build(dataclasses.replace(narrowed, temperature=3.0))(given)
    assert float(raw.abs().max()) > 0  # a net of zeros would stay what it is
    bound = 4e-6 * float(raw.abs().max())  # 32 units in the last place of float32
    assert float((divided * 3 - raw).abs().max()) <= bound


def test_the_weights_at_rest_stay_raw(checkpoint: Checkpoint) -> None:
    kept = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    first, second = checkpoints.build(checkpoint), checkpoints.build(checkpoint)
    for name, tensor in kept.items():
        assert torch.equal(checkpoint.state[name], tensor)
        scale = 1.75 if name.startswith("classifier.1.") else 1.0
        assert torch.equal(first.state_dict()[name], tensor / scale if scale != 1 else tensor)
        assert torch.equal(first.state_dict()[name], second.state_dict()[name])


def test_it_is_stored_and_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    found = load_checkpoint(tmp_path / "a.safetensors")
    assert found.temperature == 1.75
    assert all(torch.equal(found.state[name], checkpoint.state[name]) for name in found.state)


def test_one_leaves_the_file_as_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(dataclasses.replace(checkpoint, temperature=1), tmp_path / "a.safetensors")
    header = state_files.read(tmp_path / "a.safetensors").header
    assert header is not None
    assert set(json.loads(header)) == {"schema", "architecture", "options", "contract"}
    assert load_checkpoint(tmp_path / "a.safetensors").temperature == 1.0


WRONG = [0.0, -1.0, 0.049, 20.1, math.inf, math.nan, True, "2", None]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_temperature_is_refused(checkpoint: Checkpoint, wrong: Any) -> None:
    with pytest.raises(CheckpointError, match="temperature is") as caught:
        dataclasses.replace(checkpoint, temperature=wrong)
    assert "1 leaves" in str(caught.value.mend)


def test_it_is_refused_in_a_file_as_well(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    header = json.loads(state_files.read(tmp_path / "a.safetensors").header or "")
    header["temperature"] = "warm"
    torch.save(
        {"exporter": json.dumps(header), "state_dict": dict(checkpoint.state)}, tmp_path / "b.pt"
    )
    with pytest.raises(CheckpointError, match="'warm'"):
        load_checkpoint(tmp_path / "b.pt")


@pytest.mark.parametrize("aware", [False, True])
def test_training_goes_on_from_the_raw_weights(
    checkpoint: Checkpoint, tmp_path: Path, aware: bool
) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    settings = TrainSettings(
        tmp_path / "run",
        options=OPTIONS,
        weights=str(tmp_path / "a.safetensors"),
        quantization_aware=aware,
    )
    said: list[str] = []
    net = start.starting_network(settings, LABELS, said.append)
    name = "classifier.1.weight"
    assert torch.equal(net.state_dict()[name], checkpoint.state[name])
    assert any("1.75, is left behind" in line for line in said)
