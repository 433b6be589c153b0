"""A whole export: what it writes, that it can be repeated, killed, and refused by a gate."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from exporter import bundle
from support import bundles
from support.cli import Ran, run_cli

EXPORTER = Path(sys.executable).parent / "exporter"
CORE = ("--formats", "tflite-float32,tflite-float16,tflite-int8", "--runs", "0")


def test_every_file_is_there_and_proven(exported: tuple[Path, Ran]) -> None:
    out, ran = exported
    opened = bundle.open_bundle(out)
    usual = [row for row in bundle.FORMATS if row.usual]
    assert list(opened.formats()) == usual
    for row in usual:
        assert opened.path(row.key).exists()
        assert row.path in ran.out
    parity = opened.manifest["parity"]
    assert parity["passed"] is True
    assert {entry["status"] for entry in parity["artifacts"].values()} == {"passed"}
    assert opened.manifest["calibration"]["count"] == 30
    assert len(opened.manifest["calibration"]["files"]) == 30
    assert (out / bundle.LABELS).read_text().splitlines() == list(opened.contract.names)
    golden = json.loads((out / "golden" / "golden.json").read_text())
    assert len(golden["images"]) == 8
    assert set(golden["images"][0]["probabilities"]) == {"reference", *(row.key for row in usual)}
    assert (out / bundle.REPORT).stat().st_size > 5_000


def test_checksums_cover_every_file(exported: tuple[Path, Ran]) -> None:
    out, _ = exported
    listed = {entry["path"] for entry in bundle.open_bundle(out).manifest["files"]}
    there = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert there - listed == {bundle.MANIFEST, bundle.REPORT}


def test_verify_and_parity_from_the_bundle_alone(
    exported: tuple[Path, Ran], image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = exported
    assert run_cli("verify", out).code == 0
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    ran = run_cli(
        "parity", out, "--images", image_folder, "--limit", 6, "--evaluated", 2, "--runs", 0,
        "--junit", tmp_path / "p.xml", "--markdown", tmp_path / "p.md", "--json",
        tmp_path / "p.json",
    )  # fmt: skip
    assert ran.code == 0, ran.text
    suite = ElementTree.parse(tmp_path / "p.xml").getroot()
    cases = list(suite.iter("testcase"))
    assert len(cases) > 9
    assert not list(suite.iter("failure"))
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["passed"] is True
    assert found["images"] == 6
    by_key = {entry["key"]: entry for entry in found["artifacts"]}
    assert by_key["coreml"]["images"] == 2 or by_key["coreml"]["evidence"] == "run"
    assert "tflite-int8" in (tmp_path / "p.md").read_text()
    assert "tflite-int8" in (tmp_path / "summary.md").read_text()


def test_a_failing_gate_is_exit_code_1(exported: tuple[Path, Ran], image_folder: Path) -> None:
    out, _ = exported
    ran = run_cli("parity", out, "--images", image_folder, "--limit", 4, "--evaluated", 1,
                  "--runs", 0, "--gate", "int8.min_sqnr_db=99")  # fmt: skip
    assert ran.code == 1, ran.text


def test_a_damaged_file_fails_verify(exported: tuple[Path, Ran], tmp_path: Path) -> None:
    import shutil

    out, _ = exported
    shutil.copytree(out, tmp_path / "dist")
    path = tmp_path / "dist" / "model_int8.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ran = run_cli("verify", tmp_path / "dist")
    assert ran.code == 1
    assert "model_int8.tflite" in ran.out


def test_a_second_export_comes_from_the_cache(
    checkpoint_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    words = ("export", checkpoint_file, "--calibration", image_folder, *CORE)
    for _ in range(2):
        ran = run_cli(*words, "--out", tmp_path / "dist")
        assert ran.code == 0, ran.text
    assert ran.out.count("from the cache") == 6
    other = bundles.write_class_images(tmp_path / "others", 2, seed=3)
    ran = run_cli("export", checkpoint_file, "--calibration", other, *CORE, "--out",
                  tmp_path / "dist")  # fmt: skip
    assert ran.code == 0, ran.text
    assert ran.out.count("from the cache") == 3  # all but the images and int8


def test_dry_run_writes_nothing(checkpoint_file: Path, image_folder: Path, tmp_path: Path) -> None:
    ran = run_cli("export", checkpoint_file, "--calibration", image_folder, "--dry-run",
                  "--out", tmp_path / "dist", *CORE)  # fmt: skip
    assert ran.code == 0, ran.text
    assert "tflite-int8" in ran.out
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_fails_its_gates_does_not_replace_a_good_one(
    small_onnx_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    words = ("export", small_onnx_file, "--calibration", image_folder, *CORE, "--out")
    assert run_cli(*words, tmp_path / "dist").code == 0
    before = (tmp_path / "dist" / "manifest.json").read_bytes()
    ran = run_cli(*words, tmp_path / "dist", "--gate", "int8.min_sqnr_db=99")
    assert ran.code == 1
    assert "dist.failed" in ran.out
    assert (tmp_path / "dist" / "manifest.json").read_bytes() == before
    assert "Do not ship it" in (tmp_path / "dist.failed" / "report.html").read_text()
    assert run_cli(*words, tmp_path / "dist").code == 0
    assert not (tmp_path / "dist.failed").exists()


def shell(*words: object, hash_seed: str = "0", **options: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "COLUMNS": "120"}
    return subprocess.Popen(
        [str(EXPORTER), *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,  # type: ignore[call-overload]
    )


def test_the_same_inputs_give_the_same_bytes(
    checkpoint_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Two processes with different hash seeds, nothing cached, every usual format."""
    judges = bundles.write_class_images(tmp_path / "judges", 1, seed=9)
    for name in ("one", "two"):
        process = shell(
            "export", checkpoint_file, "--calibration", image_folder, "--no-cache", "--runs", 0,
            "--out", tmp_path / name, "--images-limit", 8, "--images", judges,
            hash_seed=str(len(name) + ord(name[0])),
        )  # fmt: skip
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output.decode()
    listed = [
        {
            entry["path"]: entry["sha256"]
            for entry in bundle.open_bundle(tmp_path / name).manifest["files"]
        }
        for name in ("one", "two")
    ]
    assert listed[0].keys() == listed[1].keys()
    assert [path for path in listed[0] if listed[0][path] != listed[1][path]] == []
    manifests = [(tmp_path / n / bundle.MANIFEST).read_bytes() for n in ("one", "two")]
    assert manifests[0] == manifests[1]


def test_killed_in_the_middle_the_old_bundle_is_intact(
    small_onnx_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    words = ("export", small_onnx_file, "--calibration", image_folder, *CORE, "--out")
    assert run_cli(*words, tmp_path / "dist").code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "dist").rglob("*") if p.is_file()}
    process = shell(*words, tmp_path / "dist", "--force", "--no-cache")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".dist.partial-*")):
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    after = {p: p.read_bytes() for p in (tmp_path / "dist").rglob("*") if p.is_file()}
    assert after == before
    assert run_cli(*words, tmp_path / "dist").code == 0
    assert not list(tmp_path.glob(".dist.partial-*"))


def test_a_disk_that_takes_no_more(
    small_onnx_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    """A real limit on the size of files, as of a full disk, in a process of its own."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = shell(
        "export", small_onnx_file, "--calibration", image_folder, *CORE, "--out",
        tmp_path / "dist", preexec_fn=limit,
    )  # fmt: skip
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert "disk is full" in output
    assert [p.name for p in tmp_path.iterdir() if p.name != ".exporter-cache"] == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from exporter.cli import app; "
        "heavy = {'numpy', 'torch', 'onnx', 'onnxruntime', 'tensorflow', 'coremltools', 'PIL', "
        "'jinja2', 'ai_edge_litert', 'lightning'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_onnx_export_imports_neither_torch_nor_tensorflow_nor_coremltools(
    small_onnx_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from exporter import cli\n"
        "try:\n cli.main()\nexcept SystemExit as e:\n assert not e.code, e.code\n"
        "print(sorted({'torch', 'tensorflow', 'coremltools', 'onnxsim'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "export", small_onnx_file, "--calibration", image_folder,
         "--out", tmp_path / "dist", *CORE],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
