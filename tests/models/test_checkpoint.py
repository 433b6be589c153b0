"""Checkpoints: what is written comes back, and what is wrong is said."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import checkpoint as checkpoints
from models import state_files, zoo
from models.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from models.contract import Contract, ContractError, Label, Normalization, Preprocessing

torch = pytest.importorskip("torch")
OPTIONS = {"width_mult": 0.1, "input_size": 32}
LABELS = (Label("adder", "Vipera berus", "yes"), Label("grass snake", None, "no"), Label("other"))
IMAGENET_FILE = (
    Path(__file__).parents[3] / "shared" / "data" / "weights" / "mobilenet_v2_imagenet.pth"
)
needs_imagenet = pytest.mark.skipif(
    not IMAGENET_FILE.exists(), reason="no ImageNet weights in ../shared"
)


@pytest.fixture
def state() -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(zoo.create("mobilenet_v2", 3, **OPTIONS).state_dict())


@pytest.fixture
def checkpoint(state: dict[str, Any]) -> Checkpoint:
    rule = Preprocessing(height=32, width=32, resize_shorter_side=40)
    return Checkpoint("mobilenet_v2", OPTIONS, state, Contract(LABELS, rule, name="snakes"))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        call()
    assert caught.value.mend, "an error says how to mend it"
    return str(caught.value)


def same(first: Any, second: Any) -> bool:
    return list(first) == list(second) and all(torch.equal(first[k], second[k]) for k in first)


def test_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "new" / "snakes.safetensors"
    save_checkpoint(checkpoint, path)
    found = load_checkpoint(path)
    assert found.architecture == "mobilenet_v2"
    assert found.options == {**OPTIONS, "output_stride": 32}
    assert found.contract == dataclasses.replace(checkpoint.contract, architecture="mobilenet_v2")
    assert same(found.state, checkpoint.state)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_same_bytes_each_time_whatever_the_memory_layout(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    hashes = set()
    for number in range(3):
        net = zoo.create("mobilenet_v2", 3, **OPTIONS)
        net.load_state_dict(checkpoint.state)
        if number:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(dataclasses.replace(checkpoint, state=net.state_dict()), path)
        hashes.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_torch_zip_is_read_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    header = state_files.read(tmp_path / "a.safetensors").header
    torch.save({"exporter": header, "state_dict": dict(checkpoint.state)}, tmp_path / "b.pt")
    found = load_checkpoint(tmp_path / "b.pt")
    assert found.contract.names == ("adder", "grass snake", "other")
    assert same(found.state, checkpoint.state)


def test_build_gives_eval_mode_and_its_own_weights(checkpoint: Checkpoint) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    net = checkpoints.build(checkpoint)
    assert torch.equal(torch.rand(1), expected), "building must not draw from the caller's seed"
    assert not any(module.training for module in net.modules())
    with torch.no_grad():
        net.get_parameter("classifier.1.bias").fill_(9.0)
    assert float(checkpoint.state["classifier.1.bias"].max()) != 9.0


def test_importing_does_not_import_torch() -> None:
    code = "import sys, models.checkpoint; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_missing_file(tmp_path: Path) -> None:
    assert "No such file" in refused(lambda: load_checkpoint(tmp_path / "none.pt"))


def test_empty_file_and_other_files(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(b"")
    assert "empty" in refused(lambda: load_checkpoint(path))
    path.write_bytes(b"once upon a time there was a snake")
    assert "not a weights file" in refused(lambda: load_checkpoint(path))
    path.write_bytes(b"PK\x03\x04 but no archive")
    assert "damaged" in refused(lambda: load_checkpoint(path))


@pytest.mark.parametrize("kept", [8, 100, 5000, -1])
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_truncated(checkpoint: Checkpoint, tmp_path: Path, kind: str, kept: int) -> None:
    whole = tmp_path / f"whole.{kind}"
    if kind == "pt":
        torch.save(dict(checkpoint.state), whole)
    else:
        save_checkpoint(checkpoint, whole)
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[:kept])
    text = refused(lambda: load_checkpoint(cut))
    assert "damaged" in text or "not a weights file" in text


class Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("bomb-went-off",))


def test_unsafe_pickles_do_not_run(
    tmp_path: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": state, "extra": Bomb()}, "bomb.pt")
    text = refused(lambda: load_checkpoint(tmp_path / "bomb.pt"))
    assert "holds more than weights" in text
    assert "mkdir" in text
    Path("plain.pkl").write_bytes(pickle.dumps({"x": Bomb()}))
    refused(lambda: load_checkpoint(tmp_path / "plain.pkl"))
    assert not Path("bomb-went-off").exists()


def test_a_whole_pickled_module_and_other_pickles(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    text = refused(lambda: load_checkpoint(tmp_path / "module.pt"))
    assert "Linear" in text
    assert "state_dict()" in text
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2, 3]))
    refused(lambda: load_checkpoint(tmp_path / "list.pkl"))
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "other.pt")
    assert "epoch" in refused(lambda: load_checkpoint(tmp_path / "other.pt"))


def test_torchscript_is_named(tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    assert "TorchScript" in refused(lambda: load_checkpoint(tmp_path / "script.pt"))


def test_bare_state_dict_asks_for_arch_and_labels(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "bare.pth")
    assert "--arch" in refused(lambda: load_checkpoint(tmp_path / "bare.pth"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinite_weights(checkpoint: Checkpoint, tmp_path: Path, bad: float) -> None:
    broken = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    broken["features.3.conv.2.weight"].view(-1)[0] = bad
    save_checkpoint(dataclasses.replace(checkpoint, state=broken), tmp_path / "nan.safetensors")
    text = refused(lambda: load_checkpoint(tmp_path / "nan.safetensors"))
    assert "features.3.conv.2.weight" in text


@pytest.mark.parametrize("labels", [2, 4])
def test_labels_that_do_not_match_the_head(
    state: dict[str, Any], tmp_path: Path, labels: int
) -> None:
    torch.save(state, tmp_path / "bare.pth")
    named = tuple(Label(str(i)) for i in range(labels))
    text = refused(
        lambda: checkpoints.load_state_dict_file(
            tmp_path / "bare.pth", "mobilenet_v2", named, OPTIONS
        )
    )
    assert "3 outputs" in text
    assert f"{labels} labels" in text


def test_save_refuses_labels_that_do_not_match(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = dataclasses.replace(checkpoint.contract, labels=LABELS[:2])
    text = refused(
        lambda: save_checkpoint(dataclasses.replace(checkpoint, contract=other), tmp_path / "x")
    )
    assert "3 outputs" in text
    assert not (tmp_path / "x").exists()


def test_state_of_another_architecture_names_a_few_keys(
    state: dict[str, Any], tmp_path: Path
) -> None:
    state["layer1.0.conv1.weight"] = state.pop("features.1.conv.0.0.weight")
    torch.save(state, tmp_path / "resnet.pth")
    text = refused(
        lambda: checkpoints.load_state_dict_file(
            tmp_path / "resnet.pth", "mobilenet_v2", LABELS, OPTIONS
        )
    )
    assert "1 missing: features.1.conv.0.0.weight" in text
    assert "1 unexpected: layer1.0.conv1.weight" in text


def test_state_of_another_width_names_shapes(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "thin.pth")
    text = refused(
        lambda: checkpoints.load_state_dict_file(
            tmp_path / "thin.pth", "mobilenet_v2", LABELS, {"width_mult": 1.4}
        )
    )
    assert "width_mult=1.4" in text
    assert "features.0.0.weight is [8, 3, 3, 3], not [48, 3, 3, 3]" in text


@pytest.mark.parametrize("what", ["without", "of other classes"])
def test_heads_of_the_training_only_may_be_missing(what: str) -> None:
    """torchvision's GoogLeNet with weights has none, and who replaces `fc` leaves theirs."""
    torch.manual_seed(5)
    whole = zoo.create("googlenet", 3, input_size=32).state_dict()
    state = {name: value for name, value in whole.items() if not name.startswith("aux")}
    if what == "of other classes":
        other = zoo.create("googlenet", 7, input_size=32).state_dict()
        state |= {name: value for name, value in other.items() if name.startswith("aux")}
    before = torch.random.get_rng_state()
    found = state_files.check_match(state, "googlenet", 3, {"input_size": 32}, "x.pth")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        name: tuple(value.shape) for name, value in whole.items()
    }
    assert found["aux1.fc2.weight"].shape == (3, 1024)
    kept = [name for name in whole if not name.startswith("aux")]
    assert all(found[name] is state[name] for name in kept)
    again = state_files.check_match(whole, "googlenet", 3, {"input_size": 32}, "x.pth")
    assert all(again[name] is whole[name] for name in whole), "what fits stays"
    del state["fc.bias"]
    with pytest.raises(CheckpointError, match="does not fit googlenet"):
        state_files.check_match(state, "googlenet", 3, {"input_size": 32}, "x.pth")


def test_unknown_architecture_and_options(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(zoo.ZooError, match="Unknown architecture"):
        dataclasses.replace(checkpoint, architecture="nonet")
    with pytest.raises(zoo.ZooError, match="no option"):
        dataclasses.replace(checkpoint, options={"depth": 3})
    with pytest.raises(CheckpointError, match="input_size"):
        dataclasses.replace(checkpoint, options={"input_size": 64})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 4},
        lambda s: {"model": s, "optimizer": {"lr": 0.1}},
        lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
        lambda s: {k: v for k, v in s.items() if "num_batches_tracked" not in k},
    ],
    ids=["module", "compiled", "lightning", "model", "float16", "no counters"],
)
def test_what_training_scripts_write(wrap: Any, state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(wrap(state), tmp_path / "x.pth")
    found = checkpoints.load_state_dict_file(tmp_path / "x.pth", "mobilenet_v2", LABELS, OPTIONS)
    assert set(found.state) == set(state)
    for name, tensor in found.state.items():
        assert tensor.dtype == state[name].dtype
        torch.testing.assert_close(tensor, state[name], atol=1e-3, rtol=1e-3)


def test_state_dict_contract_is_torchvisions(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "flowers.pth")
    load = checkpoints.load_state_dict_file
    rule = load(
        tmp_path / "flowers.pth", "mobilenet_v2", LABELS, {**OPTIONS, "input_size": 128}
    ).contract.preprocessing
    assert (rule.height, rule.width, rule.resize_shorter_side) == (128, 128, 146)  # 128 * 8 / 7
    assert rule.normalization.mean == (0.485 * 255, 0.456 * 255, 0.406 * 255)
    assert rule.normalization.std == (0.229 * 255, 0.224 * 255, 0.225 * 255)
    found = load(tmp_path / "flowers.pth", "mobilenet_v2", LABELS, OPTIONS, 33)
    assert found.contract.preprocessing.resize_shorter_side == 33
    assert found.contract.name == "flowers"
    assert found.contract.architecture == "mobilenet_v2"


def test_a_checkpoint_is_not_taken_for_a_state_dict(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "c.safetensors")
    text = refused(
        lambda: checkpoints.load_state_dict_file(
            tmp_path / "c.safetensors", "mobilenet_v2", LABELS, OPTIONS
        )
    )
    assert "carries its own contract" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 9}, "another version"),
        ({"architecture": 3}, "another version"),
        ({"options": None}, "another version"),
    ],
)
def test_damaged_headers(
    checkpoint: Checkpoint, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    header = json.loads(state_files.read(tmp_path / "a.safetensors").header or "")
    content = {"exporter": json.dumps({**header, **change}), "state_dict": dict(checkpoint.state)}
    torch.save(content, tmp_path / "b.pt")
    assert words in refused(lambda: load_checkpoint(tmp_path / "b.pt"))
    torch.save({**content, "exporter": "{"}, tmp_path / "c.pt")
    assert "damaged header" in refused(lambda: load_checkpoint(tmp_path / "c.pt"))


def test_a_contract_that_was_tampered_with(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "b.safetensors").write_bytes(data.replace(b"grass snake", b"grass adder"))
    with pytest.raises(ContractError, match="label_hash"):
        load_checkpoint(tmp_path / "b.safetensors")


def test_a_place_that_cannot_be_written(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(lambda: save_checkpoint(checkpoint, tmp_path / "file" / "x.safetensors"))


def test_names_made_different() -> None:
    assert checkpoints.apart(["crane", "bus", "crane"]) == ("crane (0)", "bus", "crane (2)")


def test_imagenet_labels() -> None:
    labels = checkpoints.imagenet_labels()
    names = [label.name for label in labels]
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench"
    assert names[281] == "tabby"
    assert names[999] == "toilet tissue"


@needs_imagenet
def test_the_real_imagenet_weights() -> None:
    found = checkpoints.load_state_dict_file(
        IMAGENET_FILE, "mobilenet_v2", checkpoints.imagenet_labels()
    )
    assert found.contract.preprocessing.resize_shorter_side == 256
    assert found.contract.preprocessing.normalization != Normalization()
    text = refused(lambda: checkpoints.load_state_dict_file(IMAGENET_FILE, "mobilenet_v2", LABELS))
    assert "1000 outputs" in text
