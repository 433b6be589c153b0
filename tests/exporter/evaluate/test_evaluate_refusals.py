"""What `exporter evaluate` refuses, and how it says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support import bundles
from support.evaluating import World, evaluate, refused


@pytest.mark.usefixtures("quick")
def test_what_cannot_be_evaluated_is_refused(world: World, tmp_path: Path) -> None:
    data = ("--data", world.data)
    assert "does not exist" in refused(tmp_path / "none", *data)
    (tmp_path / "notes.txt").write_text("x")
    assert "nothing that can be evaluated" in refused(tmp_path / "notes.txt", *data)
    assert "holds weights only" in refused(bundles.DECIDED, *data)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    assert "is not an ONNX model" in refused(bad, *data)
    stripped = tmp_path / "m.tflite"
    stripped.write_bytes((world.dist / "model_float32.tflite").read_bytes().split(b"PK\3\4")[0])
    assert "carries no contract" in refused(stripped, *data)
    contract = ("--contract", world.dist / "contract.json")
    assert evaluate(stripped, *data, *contract, "--limit", 5).code == 0
    assert "leave --contract away" in refused(world.dist, *data, *contract)


@pytest.mark.usefixtures("quick")
def test_data_that_does_not_fit_is_refused(world: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(world.data / "species 1", data / "species 1")
    shutil.copytree(world.data / "species 2", data / "a stranger")
    said = refused(world.checkpoint, "--data", data)
    assert "a class that the model does not know: a stranger" in said
    assert "species 0" in said
    assert not (tmp_path / "snakes-evaluation").exists()
    broken = tmp_path / "broken"
    for name in ("species 1", "species 2"):
        (broken / name).mkdir(parents=True)
        (broken / name / "a.png").write_bytes(name.encode())
    assert "None of the photographs can be decoded" in refused(world.checkpoint, "--data", broken)


@pytest.mark.usefixtures("quick")
def test_a_rate_that_cannot_be_counted_is_refused(world: World, tmp_path: Path) -> None:
    plain = bundles.write_decided_checkpoint(tmp_path / "plain.safetensors")
    rate = ("--most-missed", 0.01)
    assert "no class is known to be venomous" in refused(plain, "--data", world.data, *rate)
    assert "is no share" in refused(world.checkpoint, "--data", world.data, "--most-missed", 1.5)
    harmless = tmp_path / "harmless"
    for name in ("species 1", "species 3"):
        shutil.copytree(world.data / name, harmless / name)
    said = refused(world.checkpoint, "--data", harmless, *rate)
    assert "no image of a venomous species" in said


def test_a_folder_with_other_files_is_not_replaced(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in refused(world.checkpoint, "--data", world.data, "--out", out)
    assert (out / "thesis.txt").exists()
