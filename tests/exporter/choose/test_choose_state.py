"""What is finished, on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.choose import stored
from exporter.choose.request import LEDGER
from exporter.choose.results import Budget, Comparison, Latency, Outcome
from exporter.choose.state import Stages, workplace
from exporter.pipeline.request import RequestError
from models.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from exporter.choose.state import workplace
with workplace(Path(sys.argv[1]), False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_stage_counts_under_its_own_key_only(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "deep" / "state.json")
    assert stages.result("learn", "k1") is None
    stages.keep("learn", "k1", {"seconds": 1.5})
    stages.keep("export", "k2", {})
    again = Stages(tmp_path / "deep" / "state.json")
    assert again.result("learn", "k1") == {"seconds": 1.5}
    assert again.result("learn", "k2") is None
    assert again.result("export", "k2") == {}
    stages.keep("learn", "k3", {"seconds": 2.0})
    assert again.result("learn", "k1") is None
    assert list((tmp_path / "deep").iterdir()) == [stages.file]  # nothing half written beside it


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 2, "stages": {"a": {"key": "k"}}}',
        '{"schema": 1, "stages": {"a": {"key": "k", "result": 3}}}',
    ],
)
def test_a_damaged_list_counts_for_nothing(text: str, tmp_path: Path) -> None:
    stages = Stages(tmp_path / "state.json")
    stages.file.write_text(text)
    assert stages.result("a", "k") is None
    stages.keep("a", "k", {"b": 1})
    assert stages.result("a", "k") == {"b": 1}


def test_the_folder_is_marked_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with workplace(out, force=False) as ledger:
        ledger.keep("images", "k", {})
        (out / "cache").mkdir()
    with workplace(out, force=False) as ledger:
        assert ledger.result("images", "k") == {}
        assert (out / "cache").is_dir()
    with workplace(out, force=True) as ledger:
        assert ledger.result("images", "k") is None
        assert not (out / "cache").exists()
    assert (out / LEDGER).is_file()


def test_two_at_once_are_refused_and_a_killed_one_is_not_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="there are no such locks here")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(RequestError, match="Another exporter choose"),
            workplace(tmp_path / "out", force=False),
        ):
            pass
        process.kill()
    with workplace(tmp_path / "out", force=False):
        pass


def test_a_comparison_comes_back_from_its_file(tmp_path: Path) -> None:
    outcome = Outcome(
        "a:width_mult=0.5", "a", {"width_mult": 0.5, "input_size": 96}, "file", "a.pth", 3, 1.25,
        10, 20, {"onnx": 7}, {"onnx": Latency(1.5, 2.5)}, {"tflite-int8": 9}, {"torch": 0.75}, 8,
        {"tflite-int8": "agreement"}, "", {"onnx": 1.0}, "",
    )  # fmt: skip
    whole = Comparison(
        (outcome, Outcome("b", "b", {"input_size": 32}, failure="diverged")),
        Budget(20.0, None), "data", "machine", 8, ("a note",),
    )  # fmt: skip
    path = stored.save(whole, tmp_path)
    assert json.loads(path.read_text())["schema"] == 1
    assert stored.load(path) == whole
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(UserError, match="cannot be read"):
        stored.load(path)
