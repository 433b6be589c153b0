"""Results that cannot be written: an error in plain words, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter import bundle
from exporter.pipeline import reports
from exporter.prove.results import ParityReport
from models.contract import Contract, Label, Preprocessing
from models.errors import UserError

REPORT = ParityReport("snakes", "torch", "drawn", 0, 0, ())
CONTRACT = Contract((Label("plain"), Label("banded")), Preprocessing(8, 8, 8))
KINDS = ("junit", "markdown", "json")
FULL = Path("/dev/full")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose proof takes no time."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr(reports, "run_parity", lambda *_, **__: REPORT)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "contract.json").write_text(CONTRACT.dumps(), encoding="utf-8")
    manifest: dict[str, Any] = {"artifacts": {}, "reference": "reference/model.onnx"}
    bundle.write_manifest(tmp_path / "dist", manifest)
    return tmp_path / "dist"


def prove(folder: Path, **files: Path) -> ParityReport:
    return reports.parity(
        folder, None, limit=None, evaluated_limit=None, runtimes=(), gates=(), threads=1, runs=0,
        files=files,
    )  # fmt: skip


def test_every_kind_is_written(folder: Path, tmp_path: Path) -> None:
    assert prove(folder, **{kind: tmp_path / kind for kind in KINDS}) is REPORT
    assert json.loads((tmp_path / "json").read_text())["model"] == "snakes"
    assert "<testsuites" in (tmp_path / "junit").read_text()
    assert "## Parity" in (tmp_path / "markdown").read_text()


@pytest.mark.skipif(not FULL.exists(), reason="not run: there is no /dev/full")
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(folder: Path, kind: str) -> None:
    with pytest.raises(UserError, match="/dev/full cannot be written") as caught:
        prove(folder, **{kind: FULL})
    assert "No space left" in caught.value.why


def test_a_place_without_the_right_to_write_is_found_before_the_proof(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object, **__: object) -> ParityReport:
        raise AssertionError("proved before the file was looked at")

    monkeypatch.setattr(reports, "run_parity", late)
    monkeypatch.setattr(reports.os, "access", lambda path, mode: path != tmp_path.resolve())
    with pytest.raises(UserError, match="cannot be written") as caught:
        prove(folder, json=tmp_path / "p.json")
    assert "right to write" in caught.value.why


@pytest.mark.skipif(not FULL.exists(), reason="not run: there is no /dev/full")
def test_a_job_summary_that_cannot_be_written_is_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(FULL))
    assert prove(folder) is REPORT
    assert "Note: The job summary /dev/full cannot be written." in capsys.readouterr().out
