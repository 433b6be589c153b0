"""LiteRT's ARM64 kernels under emulation, against the same files on this machine's kernels."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exporter.prove.runtimes import registry
from exporter.prove.runtimes.errors import ArtifactError
from exporter.prove.runtimes.litert_arm64 import NOT_FETCHED, LiteRtArm64Runtime, setup
from exporter.prove.runtimes.litert_arm64.layout import CPU, Layout
from exporter.prove.runtimes.litert_arm64.machine import (
    Machine,
    RefusedError,
    StoppedError,
)
from exporter.prove.runtimes.litert_arm64.session import LiteRtArm64Session
from models.contract import Contract, Preprocessing
from models.errors import UserError
from support import arm64, tinyfiles


@pytest.fixture(scope="session")
def layout() -> Layout:
    return arm64.system()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("arm64")
    for precision in ("float32", "float16", "int8"):
        tinyfiles.write_tflite(made / f"{precision}.tflite", precision)
    return made


@pytest.fixture
def machine(layout: Layout) -> Iterator[Machine]:
    made = Machine(layout)
    yield made
    made.close()


def alive(pid: int) -> bool:
    """Whether there is a process of that number, a zombie included."""
    return Path(f"/proc/{pid}").exists()


def differences(
    path: Path, pictures: list[np.ndarray]
) -> tuple[float, list[tuple[np.ndarray | None, np.ndarray | None]]]:
    """The largest probability difference, and both runtimes' integers of each picture."""
    worst, integers = 0.0, []
    with (
        registry.get("litert").open(path, tinyfiles.CONTRACT) as here,
        registry.get("litert-arm64").open(path, tinyfiles.CONTRACT) as there,
    ):
        assert there.labels() == tinyfiles.CONTRACT.names
        for pixels in pictures:
            made, expected = there.probabilities(pixels), here.probabilities(pixels)
            assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
            worst = max(worst, float(np.abs(made - expected).max()))
            integers.append((there.integers(pixels), here.integers(pixels)))
    return worst, integers


@pytest.mark.usefixtures("layout")
def test_int8_is_the_same_to_the_bit(folder: Path) -> None:
    worst, integers = differences(folder / "int8.tflite", tinyfiles.pictures())
    for there, here in integers:
        assert there is not None
        assert here is not None
        np.testing.assert_array_equal(there, here, strict=True)
    assert len({tuple(here.tolist()) for _, here in integers if here is not None}) > 1
    assert worst < 1e-6  # the softmax is float


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_float_differs_in_the_last_bits_only(folder: Path, precision: str) -> None:
    worst, integers = differences(folder / f"{precision}.tflite", tinyfiles.pictures(6))
    assert worst < 2e-6
    assert integers == [(None, None)] * 6


def test_it_runs_on_the_machine_that_it_names(layout: Layout, machine: Machine) -> None:
    stamp = layout.read_stamp()
    assert stamp is not None
    assert machine.versions()["machine"] == "aarch64"
    command = Path(f"/proc/{machine.pid}/cmdline").read_bytes().split(b"\0")
    assert command[command.index(b"-cpu") + 1] == CPU.encode() == b"cortex-a76"
    runtime = LiteRtArm64Runtime()
    assert runtime.unavailable() is None
    assert runtime.version().startswith(f"LiteRT {stamp['litert']} on ARM64 (emulated Cortex-A76")
    assert (runtime.timed, runtime.counterpart, runtime.evidence) == (False, "litert", "emulated")


def test_a_processor_that_qemu_emulates_wrongly_is_noticed(layout: Layout) -> None:
    stamp = layout.read_stamp()
    assert stamp is not None
    if not stamp["emulator"].startswith("7.2"):
        pytest.skip(f"the wrong arithmetic is that of QEMU 7.2, here is {stamp['emulator']}")
    machine = Machine(layout, cpu="max")
    try:
        with pytest.raises(UserError, match="computes wrongly"):
            setup.check(machine)
    finally:
        machine.close()


def test_a_damaged_file_is_named(layout: Layout, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "int8.tflite").read_bytes()
    damaged = tmp_path / "damaged.tflite"
    runtime = LiteRtArm64Runtime()
    for data, words in ((whole[:600], "cannot be opened"), (b"PK" * 40, "no TFLite file"), (b"", "empty")):  # fmt: skip # noqa: E501
        damaged.write_bytes(data)
        with pytest.raises(ArtifactError, match=words) as caught:
            runtime.open(damaged, tinyfiles.CONTRACT)
        assert "damaged.tflite" in caught.value.what


def test_another_contract_and_another_shape_are_refused(layout: Layout, folder: Path) -> None:
    path = folder / "int8.tflite"
    other = Contract(tinyfiles.CONTRACT.labels, Preprocessing(8, 8, 8))
    with pytest.raises(ArtifactError, match="input"):
        LiteRtArm64Runtime().open(path, other)
    with LiteRtArm64Runtime().open(path, tinyfiles.CONTRACT) as session:
        turned = np.zeros((tinyfiles.SIDE // 2, tinyfiles.SIDE * 2, 3), np.uint8)
        for wrong in (turned, np.zeros((tinyfiles.SIDE, tinyfiles.SIDE, 3), np.float32)):
            with pytest.raises(ArtifactError, match="was given"):
                session.probabilities(wrong)  # type: ignore[arg-type]
        assert session.probabilities(tinyfiles.pictures()[0]).sum() == pytest.approx(1, abs=1e-5)


def test_the_machine_goes_on_after_a_file_that_it_refuses(machine: Machine, folder: Path) -> None:
    with pytest.raises(RefusedError):
        machine.open(b"\x1c\0\0\0TFL3" + bytes(40))
    model = machine.open((folder / "int8.tflite").read_bytes())
    assert model.outputs == (("float32", [1, tinyfiles.CLASSES]),)


def test_a_killed_process_is_an_error_of_that_file_and_leaves_nothing(
    layout: Layout, folder: Path
) -> None:
    session = LiteRtArm64Session(folder / "int8.tflite", tinyfiles.CONTRACT, layout)
    pid = session._machine.pid
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):  # and it stays one
        with pytest.raises(ArtifactError, match="stopped at") as caught:
            session.probabilities(tinyfiles.pictures()[0])
        assert "int8.tflite" in caught.value.what
    assert not alive(pid)
    session.close()


def test_an_emulator_that_does_not_start_is_an_error_of_the_set_up(
    layout: Layout, folder: Path, tmp_path: Path
) -> None:
    broken = Layout(tmp_path)
    for path in (broken.emulator.parent, broken.root):
        path.mkdir()
    for content, words in (
        ("", "Exec format|stopped"),
        ("#!/bin/sh\necho no >&2; exit 4", "code 4"),
    ):
        broken.emulator.write_text(content)
        broken.emulator.chmod(0o755)
        with pytest.raises(ArtifactError, match=words):
            LiteRtArm64Session(folder / "int8.tflite", tinyfiles.CONTRACT, broken)
    broken.emulator.unlink()
    with pytest.raises(ArtifactError, match="does not start"):
        LiteRtArm64Session(folder / "int8.tflite", tinyfiles.CONTRACT, broken)


def test_no_answer_in_time_ends_the_process(layout: Layout, folder: Path) -> None:
    machine = Machine(layout, timeout=30)
    machine.versions()
    os.kill(machine.pid, signal.SIGSTOP)
    machine._timeout = 0.2
    with pytest.raises(StoppedError, match=r"no answer within 0\.2 seconds"):
        machine.versions()
    with pytest.raises(StoppedError):
        machine.open((folder / "int8.tflite").read_bytes())
    assert not alive(machine.pid)


def test_closing_or_forgetting_ends_the_process(layout: Layout) -> None:
    first, second = Machine(layout), Machine(layout)
    pids = first.pid, second.pid
    first.close()
    first.close()
    del second
    gc.collect()
    assert [alive(pid) for pid in pids] == [False, False]
    with pytest.raises(StoppedError, match="closed"):
        first.versions()


def test_the_process_ends_with_ours_even_when_ours_is_killed(layout: Layout) -> None:
    program = (
        "import sys, time\n"
        "from exporter.prove.runtimes.litert_arm64.layout import Layout\n"
        "from exporter.prove.runtimes.litert_arm64.machine import Machine\n"
        "from pathlib import Path\n"
        "machine = Machine(Layout(Path(sys.argv[1])))\n"
        "machine.versions()\n"
        "print(machine.pid, flush=True)\n"
        "time.sleep(float(sys.argv[2]))\n"
    )
    for seconds, killed in (("0", False), ("60", True)):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(layout.home), seconds], stdout=subprocess.PIPE
        ) as ours:
            assert ours.stdout is not None
            pid = int(ours.stdout.readline())
            if killed:
                ours.kill()
        deadline = time.monotonic() + 10
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(pid)


def test_without_the_system_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    if setup.unsupported():
        pytest.skip(f"no emulated ARM64: {setup.unsupported()}")
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path))

    def no_process(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    runtime = LiteRtArm64Runtime()
    assert runtime.unavailable() == NOT_FETCHED
    with pytest.raises(UserError, match=r"exporter fetch arm64"):
        runtime.open(folder / "int8.tflite", tinyfiles.CONTRACT)
    assert list(tmp_path.iterdir()) == []
