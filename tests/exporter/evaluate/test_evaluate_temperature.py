"""`exporter evaluate --fit-temperature`: what is fitted is stored, built in and exported."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.evaluate import files
from models import calibration
from models.checkpoint import build, load_checkpoint, save_checkpoint
from models.classifier import Classifier
from models.images import load_pixels
from support.cli import run_cli
from support.evaluating import PER_CLASS, World


def logits(world: World, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    import torch

    checkpoint = replace(load_checkpoint(world.checkpoint), temperature=temperature)
    net = Classifier(build(checkpoint), checkpoint.contract)
    paths = sorted(world.data.rglob("*.png"))
    batch = np.stack([load_pixels(path, world.contract.preprocessing) for path in paths])
    with torch.inference_mode():
        found = net.logits(torch.from_numpy(batch)).numpy()
    return found, np.array([int(path.parent.name.split()[1]) for path in paths])


def said_errors(text: str) -> tuple[float, float]:
    found = re.search(r"calibration error (\S+) % before, (\S+) % after", text)
    assert found is not None, text
    return float(found[1]), float(found[2])


def test_the_fitted_temperature_is_stored_and_makes_the_error_smaller(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "calibrated.safetensors"
    before = world.checkpoint.read_bytes()
    ran = run_cli(
        "evaluate", world.checkpoint, "--data", world.data, "--fit-temperature", "--to", new
    )
    assert ran.code == 0, ran.text
    assert world.checkpoint.read_bytes() == before
    scores, truth = logits(world)
    wanted = calibration.fit_temperature(scores, truth, "softmax")
    stored = load_checkpoint(new)
    assert stored.temperature == pytest.approx(wanted, rel=1e-4)
    assert abs(wanted - 1) > 0.2  # else nothing was shown
    old = load_checkpoint(world.checkpoint)
    assert all((stored.state[name] == value).all() for name, value in old.state.items())
    # what is said: the error as it was, and each half with the other's temperature
    error, after = said_errors(ran.out)
    first = calibration.expected_calibration_error(calibration.activate(scores, "softmax"), truth)
    assert error == pytest.approx(100 * first, abs=0.06)
    halves = calibration.cross_validated(scores, truth, "softmax")
    assert halves is not None
    assert after == pytest.approx(100 * halves.after, abs=0.06)
    assert after < error
    # and an evaluation of the new checkpoint sees it
    monkeypatch.setattr(files, "_draw", lambda *_: None)
    out = tmp_path / "out"
    run_cli("evaluate", new, "--data", world.data, "--out", out, "--threads", 1)
    found = json.loads((out / files.JSON).read_text(encoding="utf-8"))["files"][0]
    same = calibration.expected_calibration_error(
        calibration.activate(scores, "softmax", wanted), truth
    )
    assert found["calibration"]["error"] == pytest.approx(same, abs=1e-4)
    assert found["calibration"]["temperature"] == pytest.approx(1, abs=0.01)


def test_fitted_again_it_starts_from_the_raw_logits(world: World, tmp_path: Path) -> None:
    """A second fit must not multiply two temperatures."""
    there = tmp_path / "m.safetensors"
    save_checkpoint(replace(load_checkpoint(world.checkpoint), temperature=4.0), there)
    scores, truth = logits(world)
    wanted = calibration.fit_temperature(scores, truth, "softmax")
    ran = run_cli("evaluate", there, "--data", world.data, "--fit-temperature")
    assert ran.code == 0, ran.text
    assert "it was 4.000" in ran.out
    assert load_checkpoint(there).temperature == pytest.approx(wanted, rel=1e-4)
    quarter = calibration.activate(scores, "softmax", 4.0)
    error = 100 * calibration.expected_calibration_error(quarter, truth)
    assert said_errors(ran.out)[0] == pytest.approx(error, abs=0.06)


def test_the_exported_file_has_it_in_its_graph(world: World, tmp_path: Path) -> None:
    import onnxruntime

    warm = tmp_path / "warm.safetensors"
    save_checkpoint(replace(load_checkpoint(world.checkpoint), temperature=3.0), warm)
    made = run_cli(
        "export", warm, "--out", tmp_path / "dist", "--formats", "onnx", "--no-cache",
        "--runs", 0, "--images", world.data, "--images-limit", 2,
    )  # fmt: skip
    assert made.code == 0, made.text
    session = onnxruntime.InferenceSession(tmp_path / "dist" / "model.onnx")
    paths = sorted(world.data.rglob("*.png"))[:4]
    scores, _ = logits(world)
    for path, row in zip(paths, scores, strict=False):
        pixels = load_pixels(path, world.contract.preprocessing)[None]
        (found,) = session.run(None, {session.get_inputs()[0].name: pixels})
        wanted = calibration.activate(row[None], "softmax", 3.0)
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_where_every_answer_is_right_it_stays_and_says_so(world: World, tmp_path: Path) -> None:
    sure = world.data.parent / "calibration"
    new = tmp_path / "new.safetensors"
    ran = run_cli("evaluate", world.checkpoint, "--data", sure, "--fit-temperature", "--to", new)
    assert ran.code == 0, ran.text
    assert "every answer is right" in ran.out
    assert load_checkpoint(new).temperature == 1.0


def test_broken_images_are_left_out(world: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(world.data, data)
    (data / "species 3" / "0.png").write_bytes(b"cut")
    ran = run_cli(
        "evaluate", world.checkpoint, "--data", data, "--fit-temperature",
        "--to", tmp_path / "new.safetensors",
    )  # fmt: skip
    assert f"on {10 * PER_CLASS - 1} images" in ran.out
    assert "species 3/0.png" in ran.out


def test_only_a_checkpoint_takes_a_temperature(world: World, tmp_path: Path) -> None:
    ran = run_cli("evaluate", world.dist, "--data", world.data, "--fit-temperature")
    assert ran.code == 2
    assert "is no checkpoint" in ran.text
    ran = run_cli("evaluate", world.checkpoint, "--data", world.data, "--to", tmp_path / "x")
    assert ran.code == 2
    assert "without --fit-temperature" in ran.text
    ran = run_cli(
        "evaluate", world.checkpoint, "--data", world.data, "--fit-temperature",
        "--most-missed", 0.01,
    )  # fmt: skip
    assert ran.code == 2
    assert "--most-missed was given with --fit-temperature" in ran.text
