"""VGG16 whole: 138 million parameters, exported and proven in bounded memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from exporter.pipeline.proof import _foreseen, _Memory
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from models.contract import Contract, Label, Preprocessing
from models.data import synthetic
from models.images import list_images, load_pixels

MEMORY = 10 * 2**30  # bytes, all processes together
TIMES = 10.0  # as long as MobileNetV2 at most
CALIBRATED_ON = 100


# What bounds the memory of a proof, on files that count how many are open


class Counting(Runtime):
    """Evaluates by the mean of the pixels; counts what is open."""

    name = "counting"
    evidence = "evaluated"
    timed = False

    def __init__(self) -> None:
        self.opened = self.asked = self.now = self.most = 0

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return "1"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        self.opened += 1
        self.now += 1
        self.most = max(self.most, self.now)
        return _CountingSession(self)


class _CountingSession(Session):
    def __init__(self, runtime: Counting) -> None:
        self._runtime = runtime

    def probabilities(self, pixels: Pixels) -> Probabilities:
        self._runtime.asked += 1
        return np.array([pixels.mean()], np.float32)

    def labels(self) -> tuple[str, ...] | None:
        return ("one", "two")

    def close(self) -> None:
        self._runtime.now -= 1


SMALL = Contract(
    (Label("one"), Label("two")),
    Preprocessing(height=8, width=8, resize_shorter_side=8),
    name="small",
)


def test_files_that_are_evaluated_are_never_open_together(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Counting()
    monkeypatch.setattr(registry, "get", lambda name: inner)
    pixels = [np.full((8, 8, 3), shade, np.uint8) for shade in range(4)]
    with _Memory(pixels[:3]) as memory:
        for _ in range(2):  # the golden answers, then the proof
            sessions = [memory.get("counting").open(Path(name), SMALL) for name in "abc"]
            for session in sessions:
                assert [float(session.probabilities(p)[0]) for p in pixels[:3]] == [0.0, 1.0, 2.0]
                assert session.labels() == ("one", "two")
                session.close()
        assert (inner.opened, inner.asked, inner.most, inner.now) == (3, 9, 1, 0)
        assert float(sessions[0].probabilities(pixels[3])[0]) == 3.0  # not foreseen: opened again
        assert (inner.opened, inner.asked) == (4, 10)
    assert inner.now == 0


def test_files_that_run_are_opened_once_and_closed_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = Counting()
    inner.evidence = "run"
    monkeypatch.setattr(registry, "get", lambda name: inner)
    with _Memory([np.zeros((8, 8, 3), np.uint8)]) as memory:
        for _ in range(2):
            memory.get("counting").open(Path("a"), SMALL).close()
        assert (inner.opened, inner.asked, inner.now) == (1, 0, 1)
    assert inner.now == 0


def test_golden_images_and_those_of_the_proof_are_foreseen(tmp_path: Path) -> None:
    synthetic.draw_dataset(tmp_path, per_class=4, seed=3, size=64)
    files = list_images(tmp_path)
    seen = {pixels.tobytes() for pixels in _foreseen(files, SMALL, 3)}
    wanted = [files[0], files[len(files) // 3], files[2 * len(files) // 3]]
    assert {load_pixels(f.path, SMALL.preprocessing).tobytes() for f in wanted} <= seen
    assert 8 <= len(seen) <= 11
    assert _foreseen(files, SMALL, None) == ()


# The whole


@dataclass(frozen=True)
class Ran:
    """One export: wall seconds, and the most memory of all its processes together in bytes."""

    seconds: float
    peak: int
    bundle: Path


def checkpoint(name: str, pictures: Path, path: Path) -> None:
    """A network of 17 classes, random (He et al. 2015), batch norms calibrated on drawings."""
    import torch

    from models.checkpoint import Checkpoint, save_checkpoint
    from models.zoo import create

    labels = tuple(Label(f"class {index}") for index in range(17))
    contract = Contract(labels, Preprocessing(), name=name, architecture=name)
    torch.manual_seed(0)
    net = create(name, 17)
    if name == "vgg16":
        for part in net.modules():
            if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(part.weight)
    files = list_images(pictures)[::12]
    pixels = np.stack([load_pixels(file.path, contract.preprocessing) for file in files])
    if name != "vgg16":
        with torch.no_grad():
            net.train()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
    save_checkpoint(Checkpoint(name, {}, net.eval().state_dict(), contract), path)


def resident(root: int) -> int:
    """Bytes of a process and all below it; what they share counts for each."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def export(model: Path, pictures: Path, out: Path) -> Ran:
    program = Path(sys.executable).parent / "exporter"
    command = [str(program), "export", str(model), "--out", str(out), "--no-cache"]
    command += ["--calibration", str(pictures), "--calibration-limit", str(CALIBRATED_ON)]
    started, peak = time.monotonic(), 0
    with (out.parent / f"{out.name}.log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.1)
        log.seek(0)
        assert process.returncode == 0, log.read()[-3000:]
    return Ran(time.monotonic() - started, peak, out)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads memory from /proc")
def test_vgg16_is_exported_within_10_gib_and_10_times_mobilenet_v2(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="makes the networks with torch")
    pictures = tmp_path / "pictures"
    synthetic.draw_dataset(pictures, per_class=-(-110 // len(synthetic.LABELS)), seed=0, size=256)
    ran = {}
    for name in ("mobilenet_v2", "vgg16"):
        model = tmp_path / f"{name}.safetensors"
        checkpoint(name, pictures, model)
        ran[name] = export(model, pictures, tmp_path / name)
    manifest = json.loads((ran["vgg16"].bundle / "manifest.json").read_text(encoding="utf-8"))
    statuses = {key: row["status"] for key, row in manifest["parity"]["artifacts"].items()}
    assert set(statuses) >= {"onnx", "tflite-float32", "tflite-float16", "tflite-int8"}
    assert set(statuses.values()) == {"passed"}
    told = {name: (round(each.seconds), each.peak) for name, each in ran.items()}
    assert ran["vgg16"].peak < MEMORY, told
    assert ran["vgg16"].seconds <= TIMES * ran["mobilenet_v2"].seconds, told
