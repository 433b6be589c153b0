"""The workflow that builds android_demo, and the script that looks at the APK.

The workflow itself is not run here; neither are Google's zipalign and aapt2, which two small
scripts stand in for. unzip and readelf are real.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from android.stubs.android_app import DEMO

ROOT = DEMO.parent
WORKFLOW = ROOT / ".github" / "workflows" / "android.yml"
SCRIPT = DEMO / "tools" / "check_apk.sh"
LIBRARIES = ("lib/arm64-v8a/liblitert.so", "lib/x86_64/liblitert.so")
needs_tools = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("bash", "unzip", "readelf", "gcc")),
    reason="bash, unzip, readelf and gcc are not all installed",
)


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    yaml = pytest.importorskip("yaml")
    loaded = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def commands(job: dict[str, Any]) -> str:
    return "\n".join(
        str(step.get("run", "")) + str(step.get("with", {}).get("script", ""))
        for step in job["steps"]
    )


def test_every_step_does_one_thing_and_every_action_has_a_version(workflow: dict[Any, Any]) -> None:
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60, name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w/-]+@v\d+", step["uses"]), step


def test_it_copies_builds_tests_and_replays(workflow: dict[Any, Any]) -> None:
    jobs = workflow["jobs"]
    assert "make export" in commands(jobs["model"])
    assert "make android" in commands(jobs["model"])
    for task in (":core:test", ":app:testDebugUnitTest", ":app:assembleRelease"):
        assert task in commands(jobs["build"])
    assert commands(jobs["build"]).count("android_demo/tools/check_apk.sh") == 2
    assert ":app:connectedDebugAndroidTest" in commands(jobs["emulator"])
    assert jobs["build"]["needs"] == jobs["emulator"]["needs"] == "model"


def test_it_runs_on_the_oldest_android_that_the_app_takes(workflow: dict[Any, Any]) -> None:
    catalog = tomllib.loads((DEMO / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))
    levels = workflow["jobs"]["emulator"]["strategy"]["matrix"]["api-level"]
    assert min(levels) == int(catalog["versions"]["minSdk"])


def test_the_readme_names_the_same_gradle(workflow: dict[Any, Any]) -> None:
    version = workflow["env"]["GRADLE_VERSION"]
    assert f"--gradle-version {version}" in (DEMO / "README.md").read_text(encoding="utf-8")


def fake_sdk(folder: Path, permissions: str) -> Path:
    tools = folder / "build-tools" / "36.0.0"
    tools.mkdir(parents=True)
    (tools / "zipalign").write_text('#!/bin/sh\n[ "$1 $2 $3 $4" = "-c -P 16 4" ]\n')
    (tools / "aapt2").write_text(f'#!/bin/sh\necho "{permissions}"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    return folder


def apk(folder: Path, page: int = 0x4000, method: int = zipfile.ZIP_STORED) -> Path:
    source = folder / "empty.c"
    source.write_text("int answer(void) { return 42; }\n")
    library = folder / "library.so"
    subprocess.run(
        ["gcc", "-shared", "-nostdlib", f"-Wl,-z,max-page-size={page}", "-o", library, source],
        check=True,
    )
    path = folder / "app.apk"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("assets/model.tflite", b"weights" * 100, compress_type=method)
        for name in LIBRARIES:
            archive.write(library, name)
    return path


def checked(path: Path, permissions: str = "") -> subprocess.CompletedProcess[str]:
    home = fake_sdk(path.parent / "sdk", permissions)
    return subprocess.run(
        ["bash", SCRIPT, path],
        env={**os.environ, "ANDROID_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_tools
def test_a_good_apk_passes(tmp_path: Path) -> None:
    done = checked(apk(tmp_path), "uses-permission: name='android.permission.CAMERA'")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no network" in done.stdout


@needs_tools
def test_a_compressed_model_fails(tmp_path: Path) -> None:
    done = checked(apk(tmp_path, method=zipfile.ZIP_DEFLATED))
    assert done.returncode == 1
    assert "missing or compressed" in done.stdout


@needs_tools
def test_a_library_for_4_kb_pages_fails(tmp_path: Path) -> None:
    done = checked(apk(tmp_path, page=0x1000))
    assert done.returncode == 1
    assert [name for name in LIBRARIES if f"{name} is linked for 0x1000" in done.stdout] == [
        *LIBRARIES
    ]


@needs_tools
def test_the_network_fails(tmp_path: Path) -> None:
    done = checked(apk(tmp_path), "uses-permission: name='android.permission.INTERNET'")
    assert done.returncode == 1
    assert "asks for the network" in done.stdout
