"""Fetching LiteRT.js: through a stand-in for npm that hands out tarballs made here."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from exporter import fetched
from exporter.prove.runtimes import litertjs
from exporter.prove.runtimes.litertjs import Package
from models.errors import UserError

# Says to which folder it was told to pack, and does as the file 'behave' says.
NPM = """\
#!{python}
import json, pathlib, shutil, sys
home = pathlib.Path({home!r})
with (home / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
behave = home / "behave"
if behave.exists():
    sys.stderr.write(behave.read_text())
    sys.exit(1)
name = next(word for word in sys.argv if "litertjs" in word).partition("/")[2].partition("@")[0]
target = pathlib.Path(sys.argv[sys.argv.index("--pack-destination") + 1])
for tarball in home.glob(name + "*.tgz"):
    shutil.copy(tarball, target)
"""


class Registry:
    """What the stand-in hands out."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def put(self, name: str, members: dict[str, bytes], links: dict[str, str] | None = None) -> str:
        """A package's tarball; its sha512."""
        path = self.home / f"{name}.tgz"
        with tarfile.open(path, "w:gz") as archive:
            for member, content in members.items():
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            for member, aim in (links or {}).items():
                entry = tarfile.TarInfo(member)
                entry.type, entry.linkname = tarfile.SYMTYPE, aim
                archive.addfile(entry)
        return hashlib.sha512(path.read_bytes()).hexdigest()

    def fail(self, words: str) -> None:
        (self.home / "behave").write_text(words)

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.home / "calls").read_text().splitlines()]


def pin(monkeypatch: pytest.MonkeyPatch, core: str, sister: str) -> None:
    packages = (
        Package("@litertjs/core", "core", core),
        Package("@litertjs/wasm-utils", "wasm-utils", sister),
    )
    monkeypatch.setattr(litertjs, "PACKAGES", packages)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(fetched.HOME, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def registry(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    home = tmp_path / "npm"
    home.mkdir()
    (home / "npm").write_text(NPM.format(python=sys.executable, home=str(home)))
    (home / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(home))
    made = Registry(home)
    core = made.put("core", {"package/dist/index.js": b"core", "package/wasm/a.wasm": b"\0asm"})
    pin(monkeypatch, core, made.put("wasm-utils", {"package/dist/index.js": b"sister"}))
    return made


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def refused(cache: Path) -> UserError:
    """A fetch that fails, and leaves nothing."""
    with pytest.raises(UserError) as raised:
        litertjs.fetch()
    assert left(cache) == []
    assert litertjs.installed() is None
    assert raised.value.why and raised.value.mend
    return raised.value


def test_both_packages_are_fetched_and_unpacked(registry: Registry, cache: Path) -> None:
    assert litertjs.installed() is None
    said: list[str] = []
    home = litertjs.fetch(said.append)
    assert home == litertjs.installed() == cache / f"litertjs-{litertjs.VERSION}"
    assert (home / "core/dist/index.js").read_bytes() == b"core"
    assert (home / "core/wasm/a.wasm").read_bytes() == b"\0asm"
    assert (home / "wasm-utils/dist/index.js").read_bytes() == b"sister"
    assert left(cache) == [home.name]
    wanted = [f"{one.name}@{litertjs.VERSION}" for one in litertjs.PACKAGES]
    assert [[word for word in call if word[0] == "@"] for call in registry.calls] == [
        [name] for name in wanted
    ]
    assert all(call[0] == "pack" and "--ignore-scripts" in call for call in registry.calls)
    assert not any("://" in word for call in registry.calls for word in call)
    assert len(said) == 3


def test_what_is_pinned_is_a_sha512_of_each_package() -> None:
    assert [one.name for one in litertjs.PACKAGES] == ["@litertjs/core", "@litertjs/wasm-utils"]
    for package in litertjs.PACKAGES:
        assert len(bytes.fromhex(package.sha512)) == hashlib.sha512().digest_size


def test_a_package_that_is_another_is_not_unpacked(
    registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("it was opened"))
    core, sister = litertjs.PACKAGES
    pin(monkeypatch, core.sha512[:-1] + ("0" if core.sha512[-1] != "0" else "1"), sister.sha512)
    assert "@litertjs/core 2.5.3 is not the package" in refused(cache).what


def test_the_second_package_is_checked_too(
    registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, litertjs.PACKAGES[0].sha512, "0" * 128)
    assert "@litertjs/wasm-utils" in refused(cache).what


@pytest.mark.parametrize("name", ["../../evil", "package/../../../evil"])
def test_a_member_that_leaves_the_folder_is_refused(
    registry: Registry, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    good = {"package/dist/index.js": b"core"}
    core = registry.put("core", {**good, name: b"evil"})
    pin(monkeypatch, core, litertjs.PACKAGES[1].sha512)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert "evil" in refused(cache).why
    assert not (tmp_path / "evil").exists()


def test_a_link_that_leaves_the_folder_is_refused(
    registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"package/dist/index.js": b"core"}
    core = registry.put("core", good, {"package/out": "../../../etc/passwd"})
    pin(monkeypatch, core, litertjs.PACKAGES[1].sha512)
    assert "out" in refused(cache).why


def test_without_npm(
    registry: Registry, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    error = refused(cache)
    assert error.why == "npm is not installed"
    assert "install Node.js" in error.mend


def test_without_a_network(registry: Registry, cache: Path) -> None:
    registry.fail("npm error code ENOTFOUND\nnpm error network request failed\n")
    error = refused(cache)
    assert "ENOTFOUND" in error.why
    assert "npm view" in error.mend


@pytest.mark.parametrize("count", [0, 2])
def test_not_one_tarball(registry: Registry, cache: Path, count: int) -> None:
    tarball = registry.home / "core.tgz"
    if count == 0:
        tarball.unlink()
    else:
        shutil.copy(tarball, registry.home / "core-again.tgz")
    assert f"npm left {count} tarballs" in refused(cache).why


def test_a_full_disk(registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "move", full)
    assert refused(cache).why == "the disk is full"


def test_a_disk_that_is_full_for_npm(registry: Registry, cache: Path) -> None:
    registry.fail("npm error nospc ENOSPC: No space left on device, write\n")
    assert refused(cache).why == "the disk is full"


def test_a_cache_that_is_a_file(registry: Registry, cache: Path) -> None:
    cache.write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be fetched") as raised:
        litertjs.fetch()
    assert str(cache) in raised.value.mend


def test_an_interrupted_fetch_leaves_nothing(
    registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(line: str) -> None:
        if "wasm-utils" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        litertjs.fetch(interrupted)
    assert left(cache) == []
    assert litertjs.installed() is None


def test_what_was_there_stays_until_the_new_is_whole(registry: Registry, cache: Path) -> None:
    home = litertjs.fetch()
    (home / "mark").touch()
    registry.fail("npm error network\n")
    with pytest.raises(UserError):
        litertjs.fetch()
    assert litertjs.installed() == home
    assert (home / "mark").exists()
    (registry.home / "behave").unlink()
    assert litertjs.fetch() == home
    assert not (home / "mark").exists()
    assert left(cache) == [home.name]


def test_half_a_folder_is_not_installed(cache: Path) -> None:
    (litertjs.place() / "core").mkdir(parents=True)
    assert litertjs.installed() is None


@pytest.mark.skipif(litertjs.installed() is None, reason="not run: LiteRT.js is not fetched")
def test_the_real_one_is_what_we_say_it_is() -> None:
    home = litertjs.installed()
    assert home is not None
    for package in litertjs.PACKAGES:
        about = json.loads((home / package.folder / "package.json").read_text(encoding="utf-8"))
        assert (about["name"], about["version"]) == (package.name, litertjs.VERSION)
        assert about["license"] == "Apache-2.0"
