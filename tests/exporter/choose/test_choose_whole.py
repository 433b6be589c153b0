"""`exporter choose` as a whole: tiny networks, killed in the middle, gone on with.

One network starts from a weights file (a head on frozen features), the other one from
nothing. Nothing is replaced but the data.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from exporter.choose import stored
from exporter.choose.results import Comparison
from support import bundles, nets

torch = pytest.importorskip("torch", reason="candidates are trained with torch")
if importlib.util.find_spec("lightning") is None:
    pytest.skip("candidates are trained with lightning", allow_module_level=True)

HEAD_ONLY, FRESH = "squeezenet1_1:input_size=64", "lenet5"
CLASSES = 3
START_S = 240.0


def draw(root: Path) -> Path:
    """Three hues, which a network can tell apart within an epoch or two."""
    for name, count, first in (("train", 8, 0), ("test", 4, 100)):
        for group in range(CLASSES):
            folder = root / name / f"hue {group}"
            folder.mkdir(parents=True)
            for index in range(count):
                picture = bundles.class_image(3 * group, first + index, 72)
                Image.fromarray(picture).save(folder / f"{index}.png")
    return root


def write_weights(folder: Path) -> Path:
    """SqueezeNet as it is first drawn, of five classes, under an architecture's name."""
    from models import zoo

    folder.mkdir()
    with torch.random.fork_rng(), nets.one_thread():
        torch.manual_seed(5)
        torch.save(
            zoo.create("squeezenet1_1", 5, input_size=64).state_dict(),
            folder / "squeezenet1_1.pth",
        )
    return folder


def started(out: Path, root: Path) -> subprocess.Popen[str]:
    words = [
        "choose", "--data", root / "photos", "--weights-dir", root / "weights", "--epochs", 2,
        "--archs", f"{HEAD_ONLY},{FRESH}", "--formats", "tflite-float32,tflite-int8",
        "--budget-ms", 50, "--out", out,
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "exporter.cli", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def kill_when(process: subprocess.Popen[str], there: Callable[[], bool]) -> None:
    """SIGKILL to the command and its children as soon as something is there."""
    end = time.monotonic() + START_S
    while not there():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finished_stages(out: Path, slug: str) -> list[str]:
    path = out / "candidates" / slug / "state.json"
    try:
        return list(json.loads(path.read_text())["stages"])
    except (OSError, ValueError):
        return []


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[float]]:
    """The folder, what the last call said, and when the first checkpoint was written."""
    if os.name != "posix":
        pytest.skip("there is no SIGKILL here")
    root = tmp_path_factory.mktemp("choose")
    draw(root / "photos")
    write_weights(root / "weights")
    out, slug = root / "out", HEAD_ONLY.replace(":", "-").replace("=", "-")
    checkpoint = out / "candidates" / slug / "checkpoint.safetensors"
    kill_when(started(out, root), lambda: "learn" in finished_stages(out, slug))
    assert not (out / "candidates" / slug / "dist").exists()
    written = [checkpoint.stat().st_mtime]
    process = started(out, root)
    said = process.communicate(timeout=START_S)[0]
    assert process.returncode == 0, said
    return out, said, [*written, checkpoint.stat().st_mtime]


@pytest.fixture(scope="module")
def comparison(killed_and_resumed: tuple[Path, str, list[float]]) -> Comparison:
    return stored.load(killed_and_resumed[0] / stored.FILE)


def test_what_was_trained_before_the_kill_is_not_trained_again(
    killed_and_resumed: tuple[Path, str, list[float]],
) -> None:
    _, said, written = killed_and_resumed
    assert written[0] == written[1]
    assert said.count("trained already") == 1
    assert "looking at every image" not in said
    assert said.index(f"1 of 2: {HEAD_ONLY}") < said.index("trained already")
    assert said.index("trained already") < said.index(f"2 of 2: {FRESH}")
    assert "training from nothing, 2 epochs" in said


def test_every_figure_is_there(comparison: Comparison) -> None:
    made = {"onnx", "tflite-float32", "tflite-int8"}
    for outcome in comparison.outcomes:
        assert outcome.failure == ""
        assert set(outcome.sizes) == set(outcome.latency) == made
        assert {"torch", *made} == set(outcome.accuracy)
        assert set(outcome.peak_memory) == made - {"onnx"}
        assert all(size > 10_000 for size in outcome.sizes.values())
        assert all(0 < each.median <= each.p90 for each in outcome.latency.values())
        assert all(0 <= share <= 1 for share in outcome.accuracy.values())
        assert abs(outcome.accuracy["onnx"] - outcome.accuracy["torch"]) < 1e-9
        assert outcome.sizes["tflite-int8"] < outcome.sizes["tflite-float32"]
        assert outcome.peak_memory["tflite-float32"] > outcome.sizes["tflite-float32"]
        assert (outcome.epochs, outcome.test_images) == (2, 12)
        assert outcome.training_seconds > 0
        assert min(outcome.multiply_adds, outcome.parameters) > 10_000
    assert comparison.test_images == 12
    assert comparison.data == "photos: 3 classes, 21 training, 3 validation and 12 test images"
    assert comparison.budget.ms == 50


def test_the_starts_are_told(comparison: Comparison) -> None:
    first, second = comparison.outcomes
    assert (first.start, first.weights, first.why_scratch) == ("file", "squeezenet1_1.pth", "")
    assert (second.start, second.weights) == ("scratch", "")
    assert second.why_scratch == "none are published"


def test_the_head_was_trained_and_the_backbone_was_not(
    killed_and_resumed: tuple[Path, str, list[float]],
) -> None:
    from models import state_files, zoo
    from models.checkpoint import load_checkpoint
    from models.contract import Normalization
    from models.normalization import renormalize
    from models.training.settings import TrainSettings
    from models.training.start import starting_network

    out = killed_and_resumed[0]
    entry = zoo.get("squeezenet1_1")
    given = state_files.read(out.parent / "weights" / "squeezenet1_1.pth").state
    frozen = renormalize(given, entry.stem, entry.normalization, Normalization())
    slug = HEAD_ONLY.replace(":", "-").replace("=", "-")
    found = load_checkpoint(out / "candidates" / slug / "checkpoint.safetensors")
    assert found.training["frozen_backbone"]["weights"] == "squeezenet1_1.pth"
    for name, value in found.state.items():
        if name.startswith(entry.head):
            assert value.shape[0] == CLASSES
        else:
            torch.testing.assert_close(value, frozen[name], msg=name)
    fresh = starting_network(
        TrainSettings(
            out, architecture="squeezenet1_1", options={"input_size": 64},
            weights=str(out.parent / "weights" / "squeezenet1_1.pth"),
        ),
        found.contract.labels, lambda text: None,
    ).state_dict()  # fmt: skip
    weight = f"{entry.head}.weight"
    assert not torch.allclose(found.state[weight], fresh[weight], atol=1e-4)


def test_the_folder_holds_what_is_promised(
    killed_and_resumed: tuple[Path, str, list[float]],
) -> None:
    out, said, _ = killed_and_resumed
    for outcome in stored.load(out / stored.FILE).outcomes:
        slug = outcome.name.replace(":", "-").replace("=", "-")
        bundle = "dist.failed" if outcome.gates_failed else "dist"
        assert (out / "candidates" / slug / bundle / "model_int8.tflite").is_file()
    with (out / "choose.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert len(list(csv.reader(stream))) == 3
    assert "<svg" in (out / "choose.html").read_text(encoding="utf-8")
    assert f"Wrote {out / 'choose.html'}" in said
    assert "Next: exporter train --data" in said
    assert not list(out.rglob("*.partial*"))
