"""LiteRT.js in Node against LiteRT on this machine, and what happens when something is wrong."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exporter.prove.runtimes import browser, browser_process, litertjs
from exporter.prove.runtimes.base import Session
from exporter.prove.runtimes.browser import BrowserRuntime
from exporter.prove.runtimes.browser_integers import Dequantized, dequantized
from exporter.prove.runtimes.browser_process import FramedProcess, ProcessError
from exporter.prove.runtimes.errors import ArtifactError
from exporter.prove.runtimes.litert import LiteRtRuntime
from models.contract import Contract, Preprocessing
from models.errors import UserError
from support import nets, page_bundle
from support.page_bundle import SIDE

LAST_BITS = 2.4e-7  # two steps of float32 below 1: the softmax is another kernel
PICTURES = nets.images(24, SIDE, seed=5)
needs_litertjs = pytest.mark.skipif(
    BrowserRuntime().unavailable() is not None, reason=str(BrowserRuntime().unavailable() or "")
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_bundle.write(tmp_path_factory.mktemp("browser") / "dist").root


@pytest.fixture(scope="module", params=["float32", "float16", "int8"])
def pair(request: pytest.FixtureRequest, root: Path) -> Iterator[tuple[Session, Session]]:
    path, contract = root / f"model_{request.param}.tflite", page_bundle.contract()
    with (
        BrowserRuntime().open(path, contract) as ours,
        LiteRtRuntime().open(path, contract) as theirs,
    ):
        yield ours, theirs


@needs_litertjs
def test_probabilities_are_litert_s_to_the_last_bits(pair: tuple[Session, Session]) -> None:
    ours, theirs = pair
    found = np.stack([ours.probabilities(picture) for picture in PICTURES])
    expected = np.stack([theirs.probabilities(picture) for picture in PICTURES])
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= LAST_BITS
    assert np.ptp(found, axis=0).max() > 0.3  # the answers depend on the picture


@needs_litertjs
def test_integers_are_litert_s_exactly(pair: tuple[Session, Session]) -> None:
    ours, theirs = pair
    for picture in PICTURES:
        found, expected = ours.integers(picture), theirs.integers(picture)
        if expected is None:
            assert found is None
            continue
        assert found is not None
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


@needs_litertjs
def test_labels_and_version(pair: tuple[Session, Session]) -> None:
    assert pair[0].labels() == page_bundle.contract().names
    version = BrowserRuntime().version()
    assert version.startswith(f"LiteRT.js {litertjs.VERSION} in Node ")
    assert version.endswith("(WebAssembly)")


def test_integers_come_back_from_every_dequantized_number() -> None:
    made = Dequantized(b"", np.int8, float(np.float32(0.0837)), -17)
    whole = np.arange(-128, 128)
    numbers = ((whole + 17).astype(np.float32) * np.float32(0.0837)).astype(np.float32)
    assert np.array_equal(made.integers(numbers), whole.astype(np.int8))
    with pytest.raises(ValueError, match="dequantized integers"):
        made.integers(numbers + np.float32(0.02))


def test_a_float_file_has_no_integers(root: Path) -> None:
    assert dequantized((root / "model_float32.tflite").read_bytes()) is None
    assert dequantized((root / "model_int8.tflite").read_bytes()) is not None


@needs_litertjs
@pytest.mark.parametrize("kept", [0.0, 0.002, 0.1, 0.5])
def test_files_cut_short_are_user_errors(root: Path, tmp_path: Path, kept: float) -> None:
    whole = (root / "model_int8.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ArtifactError) as caught:
        BrowserRuntime().open(path, page_bundle.contract())
    assert str(path) in caught.value.what
    assert caught.value.mend


@needs_litertjs
def test_a_file_for_another_contract_is_refused(root: Path) -> None:
    labels = page_bundle.contract().labels
    for other in (
        Contract(labels, Preprocessing(SIDE + 1, SIDE, SIDE + 5)),
        Contract(labels[:-1], Preprocessing(SIDE, SIDE, SIDE + 5)),
    ):
        with pytest.raises(ArtifactError, match=r"The (input|output) of"):
            BrowserRuntime().open(root / "model_int8.tflite", other)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    runtime = BrowserRuntime()
    monkeypatch.setattr(litertjs, "installed", lambda: None)
    assert runtime.unavailable() == "LiteRT.js is not fetched (exporter fetch browser)"
    with pytest.raises(UserError, match="cannot be run here"):
        runtime.open(root / "model_int8.tflite", page_bundle.contract())
    monkeypatch.setattr(litertjs, "installed", lambda: root)
    monkeypatch.setattr(browser, "node", lambda: None)
    assert runtime.unavailable() == "node is not installed"
    assert litertjs.VERSION in runtime.version()


def python(code: str) -> list[str | Path]:
    return [sys.executable, "-c", code]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_process_that_is_too_slow_or_dies_is_ended_and_says_so() -> None:
    slow = FramedProcess(python("import time; time.sleep(60)"), timeout_s=0.3)
    with pytest.raises(ProcessError, match=r"no answer within 0\.3 s"):
        slow.ask({})
    dying = FramedProcess(python("raise SystemError('out of memory')"), timeout_s=20)
    with pytest.raises(ProcessError, match="ended with status 1: SystemError: out of memory"):
        dying.ask({}, bytes(10_000_000))
    babbling = FramedProcess(python("print('no frame at all, ' * 9)"), timeout_s=20)
    with pytest.raises(ProcessError, match="ended with status"):
        babbling.ask({})
    for process in (slow, dying, babbling):
        process.close()
        assert gone(process.pid)
    with pytest.raises(ProcessError, match="cannot be started"):
        FramedProcess(["/no/such/program"], timeout_s=1)


def test_no_process_outlives_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = "import sys; sys.stdin.buffer.read()"
    closed = FramedProcess(python(reading), timeout_s=20)
    pid = closed.pid
    assert not gone(pid)
    closed.close()
    closed.close()  # twice does no harm
    assert gone(pid)
    forgotten = FramedProcess(python(reading), timeout_s=20)
    pid = forgotten.pid
    del forgotten
    gc.collect()
    assert gone(pid)
    monkeypatch.setattr(browser_process, "_END_S", 0.2)
    deaf = FramedProcess(python("import time; time.sleep(60)"), timeout_s=20)
    deaf.close()
    assert gone(deaf.pid)
