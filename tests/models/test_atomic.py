"""Folders appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models import atomic


def fill(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(text)


def test_new_folder_appears(tmp_path: Path) -> None:
    with atomic.beside(tmp_path / "out") as staging:
        fill(staging.folder, "new")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("atomic_exchange", [True, False])
def test_old_folder_is_replaced_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atomic_exchange: bool
) -> None:
    if not atomic_exchange:
        monkeypatch.setattr(atomic, "exchange", lambda first, second: False)
    fill(tmp_path / "out", "old")
    (tmp_path / "out" / "left over").write_text("x")
    with atomic.beside(tmp_path / "out") as staging:
        fill(staging.folder, "new")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["file"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    with pytest.raises(RuntimeError), atomic.beside(tmp_path / "out") as staging:
        fill(staging.folder, "new")
        raise RuntimeError
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failing_rename_moves_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "out", "old")
    fill(tmp_path / "new", "new")
    monkeypatch.setattr(atomic, "exchange", lambda first, second: False)
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="no"):
        atomic.put_in_place(tmp_path / "new", tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "old"


def test_target_may_change_on_the_way(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    with atomic.beside(tmp_path / "out") as staging:
        fill(staging.folder, "bad")
        staging.target = tmp_path / "out.failed"
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert (tmp_path / "out.failed" / "file").read_text() == "bad"


def test_killed_in_the_middle_leaves_the_old_folder_and_is_tidied(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    code = (
        "import sys, time; from pathlib import Path; from models.atomic import beside\n"
        f"with beside(Path({str(tmp_path / 'out')!r})) as s:\n"
        " (s.folder / 'file').write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    with atomic.beside(tmp_path / "out") as staging:
        fill(staging.folder, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_running_exports_folder_is_not_tidied(tmp_path: Path) -> None:
    other = tmp_path / f".out.partial-{os.getppid()}-abc"
    fill(other, "someone else's")
    with atomic.beside(tmp_path / "out") as staging:
        fill(staging.folder, "new")
    assert other.is_dir()


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="needs an atomic exchange")
def test_a_reader_never_sees_a_missing_folder(tmp_path: Path) -> None:
    fill(tmp_path / "out", "0")
    if not atomic.exchange(tmp_path / "out", tmp_path / "out"):
        pytest.skip("this file system has no atomic exchange")
    code = (
        "import sys; from pathlib import Path\n"
        f"path = Path({str(tmp_path / 'out')!r}); print('ready', flush=True)\n"
        f"stop = Path({str(tmp_path / 'stop')!r})\n"
        "while not stop.exists():\n"
        " assert path.is_dir()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    for turn in range(100):
        with atomic.beside(tmp_path / "out") as staging:
            fill(staging.folder, str(turn))
    time.sleep(0.05)
    (tmp_path / "stop").write_text("")
    assert process.wait() == 0
