"""The commands for the phone side as a shell sees them: exit code, plain words, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import bundle
from models.contract import Contract, Label, Preprocessing
from support import fake_adb
from support.cli import Ran, run_cli
from support.fake_adb import Scenario

CONTRACT = Contract((Label("plain"), Label("banded")), Preprocessing(8, 8, 8), name="snakes")
COMMANDS = ("serve", "android", "bench")


def make(root: Path, *keys: str) -> Path:
    """A bundle of invented bytes."""
    root.mkdir()
    (root / "contract.json").write_text(CONTRACT.dumps(), encoding="utf-8")
    for key in keys:
        (root / bundle.BY_KEY[key].path).write_bytes(b"invented")
    bundle.write_manifest(root, {"artifacts": {key: {} for key in keys}, "reference": "model.onnx"})
    return root


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return make(tmp_path / "dist", "onnx", "tflite-int8")


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """The first bytes of a program for 64-bit x86, and nothing of a phone's."""
    path = tmp_path / "benchmark_model"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00")
    return path


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in fake_adb.install(tmp_path / "fake", Scenario()).items():
        monkeypatch.setenv(name, value)


def refused(ran: Ran, *words: str) -> None:
    """A user error: exit code 2, what is wrong and what mends it, nothing of Python's."""
    assert ran.code == 2, ran.text
    assert "Traceback" not in ran.text
    assert "Error" in ran.err
    flat = " ".join(ran.err.split())
    for word in words:
        assert word in flat


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("serve", ("--host", "--port", "--no-open", "--certificate", "--key")),
        ("android", ("--app", "--format")),
        ("fetch", ("--force", "arm64", "browser")),
        ("bench", ("--adb", "--benchmark-tool", "--serial", "--delegate", "--pause-limit")),
        ("parity", ("--runtime",)),
    ],
)
def test_help_names_the_options(command: str, options: tuple[str, ...]) -> None:
    ran = run_cli(command, "--help")
    assert ran.code == 0
    for option in options:
        assert option in ran.out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_no_bundle(command: str, tmp_path: Path) -> None:
    ran = run_cli(command, tmp_path, *(["--adb"] if command == "bench" else []))
    refused(ran, f"{tmp_path} is no bundle", "exporter export")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fetch",), "Missing argument"),
        (("fetch", "arm"), "'arm' is not one of"),
        (("serve", "dist", "--port", "70000"), "65535"),
        (("bench", "dist", "--adb", "--delegate", "npu"), "'npu' is not one of"),
        (("bench", "dist", "--adb", "--rounds", "0"), "--rounds"),
    ],
)
def test_what_the_parser_refuses(words: tuple[str, ...], said: str) -> None:
    refused(run_cli(*words), said)


def test_serve_and_android_need_a_tflite_file(tmp_path: Path) -> None:
    empty = make(tmp_path / "empty", "onnx")
    refused(run_cli("serve", empty, "--no-open"), ".tflite", "To mend it")
    main = tmp_path / "app" / "src" / "main"
    main.mkdir(parents=True)
    (main / "AndroidManifest.xml").write_text("<manifest/>", encoding="utf-8")
    refused(run_cli("android", empty, "--app", main.parents[1]), "tflite-int8", "To mend it")
    refused(run_cli("bench", empty, "--adb"), "has no .tflite file", "export with --formats")


def test_android_needs_an_app(dist: Path, tmp_path: Path) -> None:
    refused(run_cli("android", dist, "--app", tmp_path), "is no Android app")
    refused(run_cli("android", dist, "--format", "onnx"), "onnx is no format for an Android app")


def test_fetch_without_apt_or_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(run_cli("fetch", "browser"), "LiteRT.js cannot be fetched", "npm is not installed")
    ran = run_cli("fetch", "arm64", "browser")
    refused(ran, "The ARM64 system cannot be set up", "LiteRT.js cannot be fetched")
    assert "Next" not in ran.out
    left = tmp_path / "cache"
    assert not left.exists() or list(left.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "file"))
    refused(run_cli("fetch", "browser"), "LiteRT.js cannot be fetched", "can be written")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--serial", "X"),
        ("--formats", "onnx"),
        ("--benchmark-tool", "x"),
        ("--delegate", "gpu"),
        ("--rounds", "5"),
        ("--pause-limit", "0"),
    ],
)
def test_options_of_adb_need_adb(dist: Path, option: str, value: str) -> None:
    refused(run_cli("bench", dist, option, value), f"{option} was given without --adb", "add --adb")


def test_bench_adb_without_adb_or_a_tool(
    dist: Path, tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(run_cli("bench", dist, "--adb"), "No benchmark tool was named", "--benchmark-tool PATH")
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = run_cli("bench", dist, "--adb", "--benchmark-tool", tool)
    refused(ran, "adb was not found", "platform-tools")


@pytest.mark.usefixtures("phone")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--formats", "onnx"), "has no .tflite file onnx"),
        (("--serial", "nobody"), "No device nobody is attached"),
        (("--json", "/no/such/folder/bench.json"), "there is no folder"),
        (("--runs", "50", "--rounds", "51"), "51 rounds"),
        ((), "is built for x86_64"),
    ],
)
def test_what_bench_adb_refuses(
    dist: Path, tool: Path, options: tuple[str, ...], said: str
) -> None:
    refused(run_cli("bench", dist, "--adb", "--benchmark-tool", tool, *options), said)


@pytest.mark.usefixtures("phone")
def test_a_benchmark_tool_that_is_missing(dist: Path, tmp_path: Path) -> None:
    ran = run_cli("bench", dist, "--adb", "--benchmark-tool", tmp_path / "nothing")
    refused(ran, "cannot be read", "--benchmark-tool")
