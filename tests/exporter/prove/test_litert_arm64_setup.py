"""Fetching the ARM64 system: for real where packages can be reached, and what can go wrong."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.prove.runtimes import registry, tools
from exporter.prove.runtimes.litert_arm64 import apt, layout, setup
from models.errors import UserError
from support import arm64, tinyfiles

needs_apt = pytest.mark.skipif(
    arm64.reason_to_skip() is not None, reason=str(arm64.reason_to_skip())
)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of one's own."""
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


Programs = Callable[..., Path]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Programs:
    """Puts shell scripts under these names first on PATH; every call is noted in `calls`."""

    def place(**scripts: str) -> Path:
        folder = tmp_path / "programs"
        folder.mkdir()
        for name, script in scripts.items():
            program = folder / name.replace("_", "-")
            program.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/calls\n{script}\n')
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return tmp_path / "calls"

    return place


@needs_apt
def test_it_is_fetched_and_runs(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    """With QEMU downloaded, too; the other tests run on a system made with the machine's."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if "qemu" in name else which(name))
    said: list[str] = []
    home = arm64.fetch_or_skip(said.append).home
    assert said[0].startswith("reading apt")
    assert "downloading QEMU" in said
    assert said[-1] == f"done: {home}"
    assert setup.installed() == home == setup.place()
    assert list(cache.iterdir()) == [home]  # nothing half-made is left
    names = sorted(path.name for path in home.iterdir())
    assert names == ["bin", "packages", "root", "stamp.json"]
    size = sum(path.lstat().st_size for path in home.rglob("*"))
    assert 50e6 < size < 160e6
    stamp = json.loads((home / "stamp.json").read_text())
    assert (stamp["machine"], stamp["cpu"]) == ("aarch64", "cortex-a76")

    path = tmp_path / "int8.tflite"
    tinyfiles.write_tflite(path, "int8")
    before = sorted(home.rglob("*"))
    with (
        registry.get("litert").open(path, tinyfiles.CONTRACT) as here,
        registry.get("litert-arm64").open(path, tinyfiles.CONTRACT) as there,
    ):
        pixels = tinyfiles.pictures()[0]
        made, expected = there.integers(pixels), here.integers(pixels)
        assert made is not None
        assert expected is not None
        assert made.tolist() == expected.tolist()
    assert sorted(home.rglob("*")) == before  # running it writes nothing


def test_the_processors_are_described_with_their_dot_products() -> None:
    lines = layout.cpuinfo().splitlines()
    assert [line for line in lines if line.startswith("processor")] == [
        "processor\t: 0",
        "processor\t: 1",
    ]
    features = next(line for line in lines if line.startswith("Features")).split(": ")[1].split()
    assert {"asimd", "asimdhp", "asimddp", "fphp", "atomics"} <= set(features)
    assert "i8mm" not in features
    assert lines.count("CPU part\t: 0xd0b") == 2


def failing(what: str) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, what), "as the system says")

    return fail


def fake_home(cache: Path) -> Path:
    """What `installed` takes for a system."""
    home = layout.Layout(setup.place())
    for path in (home.emulator, home.python):
        path.parent.mkdir(parents=True)
        path.touch()
    home.packages.mkdir()
    home.stamp.write_text('{"litert": "old"}')
    assert home.home.parent == cache
    return home.home


@needs_apt
@pytest.mark.parametrize(("number", "words"), [("ENOSPC", "disk is full"), ("EACCES", "written")])
def test_a_failure_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch, cache: Path, number: str, words: str
) -> None:
    home = fake_home(cache)
    assert setup.installed() == home
    monkeypatch.setattr(setup, "_place_wheels", failing(number))
    monkeypatch.setattr(setup, "_unpack_python", lambda *_: {})
    monkeypatch.setattr(setup, "_place_emulator", lambda *_: None)
    with pytest.raises(UserError, match=words):
        setup.fetch()
    assert list(cache.iterdir()) == [home]
    assert json.loads((home / "stamp.json").read_text()) == {"litert": "old"}


@needs_apt
def test_too_little_room_is_said_before_anything_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10**6))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="disk is full"):
        setup.fetch()
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("missing", ["emulator", "python", "stamp"])
def test_half_a_system_is_none(cache: Path, missing: str) -> None:
    home = layout.Layout(fake_home(cache))
    getattr(home, missing).unlink()
    assert setup.installed() is None


def test_a_broken_stamp_is_none(cache: Path) -> None:
    (fake_home(cache) / "stamp.json").write_text('{"litert"')
    assert setup.installed() is None


@pytest.mark.parametrize(
    ("system", "machine", "words"),
    [
        ("darwin", "x86_64", "Linux on x86-64"),
        ("win32", "AMD64", "Linux on x86-64"),
        ("linux", "aarch64", "ARM64 itself"),
        ("darwin", "arm64", "ARM64 itself"),
    ],
)
def test_another_machine_is_told_why(
    monkeypatch: pytest.MonkeyPatch, cache: Path, system: str, machine: str, words: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert words in str(registry.get("litert-arm64").unavailable())
    with pytest.raises(UserError, match=words):
        setup.fetch()
    assert not cache.exists()


@needs_apt
def test_a_linux_without_apt_is_told_so(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"apt-get is not here.*Debian-like"):
        setup.fetch()
    assert not cache.exists()


DUMP = r"""cat <<'END'
APT::Update::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https "";
Acquire::https::Verify-Peer "true";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "true";
Acquire::AllowInsecureRepositories "1";
Acquire::Check-Valid-Until "false";
Dir::Etc::parts "apt.conf.d";
END"""


def test_of_the_machines_apt_only_the_way_to_its_sources_is_taken(
    programs: Programs, tmp_path: Path
) -> None:
    programs(apt_config=DUMP)
    apt.PrivateApt(tmp_path, "arm64")
    written = (tmp_path / "apt.conf").read_text()
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in written
    assert 'Acquire::https::Verify-Peer "true";' in written
    assert 'Acquire::Check-Valid-Until "false";' in written
    for absent in ("Post-Invoke", "DEP-11", "Insecure", "/var/"):
        assert absent not in written
    assert 'AllowUnauthenticated "false"' in written
    for name in ("parts", "state", "status", "cache", "log"):
        assert f'"{tmp_path}/{name}";' in written


def test_the_closure_is_what_apt_would_install(programs: Programs, tmp_path: Path) -> None:
    said = (
        "cat <<'END'\nReading package lists...\n"
        "Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [arm64]) []\n"
        "Inst zlib1g:arm64 (1:1.2.13.dfsg-1 Debian:12.15/oldstable [arm64])\n"
        "Conf libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [arm64])\nEND"
    )
    calls = programs(apt_config=DUMP, apt_get=said)
    private = apt.PrivateApt(tmp_path, "arm64")
    assert private.closure("zlib1g") == {
        "libc6": "2.36-9+deb12u14",
        "zlib1g": "1:1.2.13.dfsg-1",
    }
    assert "--simulate --no-install-recommends install zlib1g" in calls.read_text()


def test_sources_without_the_packages_are_said_with_apts_own_words(
    programs: Programs, tmp_path: Path
) -> None:
    script = (
        'case "$*" in *update*) echo "E: Failed to fetch binary-arm64/Packages  404" >&2;; '
        '*) echo "E: Unable to locate package python3-minimal" >&2;; esac; exit 100'
    )
    programs(apt_config=DUMP, apt_get=script)
    private = apt.PrivateApt(tmp_path, "arm64")
    private.update()
    with pytest.raises(UserError, match=r"finds no python3-minimal for arm64") as caught:
        private.closure("python3-minimal")
    assert "404" in caught.value.why
    assert "Unable to locate" in caught.value.why
    assert "apt sources" in caught.value.mend


def test_a_program_that_fails_is_quoted(programs: Programs) -> None:
    programs(
        breaks='echo "E: it broke" >&2; exit 3', fills='echo "No space left on device"; exit 1'
    )
    with pytest.raises(UserError) as caught:
        tools.call(["breaks"], "It did not work.", "mend it")
    assert (caught.value.what, caught.value.why, caught.value.mend) == (
        "It did not work.", "E: it broke", "mend it"
    )  # fmt: skip
    with pytest.raises(UserError, match="disk is full"):
        tools.call(["fills"], "It did not work.", "mend it")
    with pytest.raises(UserError, match="absent is not installed"):
        tools.call(["absent"], "It did not work.", "mend it")


def test_a_python_that_lacks_pip_is_said(
    monkeypatch: pytest.MonkeyPatch, programs: Programs, tmp_path: Path
) -> None:
    calls = programs(python='echo "No module named pip" >&2; exit 1')
    monkeypatch.setattr(sys, "executable", str(tmp_path / "programs" / "python"))
    with pytest.raises(UserError, match="No module named pip"):
        setup._place_wheels(tmp_path, layout.Layout(tmp_path), {"python3.11-minimal": "3.11.2"})
    asked = calls.read_text()
    for word in ("--python-version=3.11", "--only-binary=:all:", "manylinux_2_28_aarch64"):
        assert word in asked
