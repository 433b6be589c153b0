"""Latency in turns and memory in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.choose import measuring, worker
from exporter.choose.measuring import FileToMeasure, MeasuringError, latencies, memory
from support import bundles
from support.cli import run_cli


@pytest.fixture(scope="module")
def bundle(small_onnx_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a small model.onnx and its .tflite file."""
    out = tmp_path_factory.mktemp("measured") / "dist"
    ran = run_cli(
        "export", small_onnx_path, "--formats", "tflite-float32", "--no-cache", "--out", out
    )
    assert ran.code == 0, ran.text
    return out


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = bundles.write_class_images(tmp_path_factory.mktemp("photos") / "photos", 1)
    return sorted(folder.rglob("*.png"))[0]


class FakeClock:
    """Nanoseconds that only pass while something answers."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_every_round_times_each_answer_once_warm_and_begins_with_another() -> None:
    clock, calls = FakeClock(), []

    def answering(name: str, cold: int, warm: int) -> object:
        def answer(picture: str) -> None:
            again = bool(calls) and calls[-1] == (name, picture)
            calls.append((name, picture))
            clock.now += warm if again else cold

        return answer

    rounds: list[int] = []
    times = worker.in_turns(
        [answering("a", 9_000_000, 2_000_000), answering("b", 7_000_000, 500_000)],
        [["p", "q"], ["r"]], rounds=4, warmup=1, on_round=rounds.append, clock=clock,
    )  # fmt: skip
    assert times == [[2.0] * 4, [0.5] * 4]
    assert rounds == [1, 2, 3, 4, 5]
    assert calls[:4] == [("a", "p"), ("a", "p"), ("b", "r"), ("b", "r")]
    assert calls[4:8] == [("b", "r"), ("b", "r"), ("a", "q"), ("a", "q")]


def test_files_are_timed_in_a_process_of_their_own(bundle: Path, photograph: Path) -> None:
    seen: list[int] = []
    files = [FileToMeasure("one", bundle, "onnx"), FileToMeasure("one", bundle, "tflite-float32")]
    found = latencies(files, [photograph], 1, lambda: seen.append(1), rounds=50)
    assert len(seen) == 50 + measuring.WARMUP
    assert all(0 < each.median <= each.p90 < 1000 for each in found)


def test_what_is_wrong_in_that_process_is_said(bundle: Path, tmp_path: Path) -> None:
    missing = FileToMeasure("one", tmp_path / "nowhere", "onnx")
    with pytest.raises(MeasuringError, match="ended early") as error:
        latencies([missing], [], 1)
    assert "nowhere" in error.value.why
    with pytest.raises(MeasuringError, match="memory"):
        memory(tmp_path / "nowhere.tflite", 1)


def test_memory_is_that_of_the_file_alone(bundle: Path) -> None:
    path = FileToMeasure("one", bundle, "tflite-float32").path
    empty, small = memory(None, 1), memory(path, 1)
    assert 10e6 < empty < small < empty + 100e6


def test_the_largest_resident_set_is_this_processes_own() -> None:
    """And counts what has been let go since."""
    before = worker._largest_resident_set()
    held = bytearray(b"1") * (before + 30_000_000)
    del held
    assert worker._largest_resident_set() > before + 20_000_000


def test_which_formats_are_timed_and_weighed() -> None:
    assert measuring.timed("onnx")
    assert measuring.timed("tflite-int8")
    assert not measuring.timed("coreml")
    assert not measuring.timed("saved-model")
    assert measuring.weighed("tflite-int8")
    assert not measuring.weighed("onnx")


def test_the_key_is_that_of_the_files(bundle: Path) -> None:
    one = FileToMeasure("one", bundle, "onnx")
    other = FileToMeasure("other", bundle, "onnx")
    assert measuring.key_of([one], 1) == measuring.key_of([one], 1)
    keys = {
        measuring.key_of([one], 1),
        measuring.key_of([one], 2),
        measuring.key_of([other], 1),
        measuring.key_of([one, other], 1),
        measuring.key_of([FileToMeasure("one", bundle, "tflite-float32")], 1),
    }
    assert len(keys) == 5
