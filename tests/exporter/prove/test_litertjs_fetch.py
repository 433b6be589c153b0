"""Fetching LiteRT.js behind a fake npm: pinned, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from exporter import fetched
from exporter.prove.runtimes import litertjs
from models.errors import UserError

NPM = """#!{python}
import pathlib, shutil, sys
name = next(a for a in sys.argv if a.startswith("@")).rsplit("@", 1)[0]
to = pathlib.Path(sys.argv[sys.argv.index("--pack-destination") + 1])
shutil.copy(pathlib.Path({folder!r}) / (name.replace("/", "-") + ".tgz"), to / "package.tgz")
"""


def tarball(path: Path, entries: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return hashlib.sha512(path.read_bytes()).hexdigest()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tarballs that the fake npm serves, pinned as they are."""
    folder = tmp_path / "registry"
    folder.mkdir()
    packages = tuple(
        litertjs.Package(
            package.name,
            package.folder,
            tarball(
                folder / (package.name.replace("/", "-") + ".tgz"),
                {"package/dist/index.js": package.name.encode()},
            ),
        )
        for package in litertjs.PACKAGES
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(NPM.format(python=sys.executable, folder=str(folder)))
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(fetched.HOME, str(tmp_path / "cache"))
    monkeypatch.setattr(litertjs, "PACKAGES", packages)
    return folder


def test_both_packages_appear_together(shelf: Path) -> None:
    assert litertjs.installed() is None
    told: list[str] = []
    home = litertjs.fetch(told.append)
    assert home == litertjs.installed() == litertjs.place()
    assert (home / "core" / "dist" / "index.js").read_text() == "@litertjs/core"
    assert (home / "wasm-utils" / "dist" / "index.js").read_text() == "@litertjs/wasm-utils"
    assert any("@litertjs/core" in said for said in told)


def test_another_tarball_than_the_pinned_one_is_refused(shelf: Path) -> None:
    tarball(shelf / "@litertjs-wasm-utils.tgz", {"package/dist/index.js": b"other"})
    with pytest.raises(UserError, match=r"wasm-utils .* is not the package that it was"):
        litertjs.fetch()
    assert litertjs.installed() is None and not litertjs.place().exists()
    assert not list(litertjs.place().parent.iterdir())


def test_a_failed_fetch_leaves_the_one_before(shelf: Path) -> None:
    litertjs.fetch()
    tarball(shelf / "@litertjs-core.tgz", {"package/dist/index.js": b"other"})
    with pytest.raises(UserError):
        litertjs.fetch()
    assert litertjs.installed() is not None


def test_a_tarball_cannot_write_outside(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tarball(shelf / "@litertjs-core.tgz", {"package/../../../escaped": b"x"})
    core, other = litertjs.PACKAGES
    monkeypatch.setattr(
        litertjs, "PACKAGES", (litertjs.Package(core.name, core.folder, evil), other)
    )
    with pytest.raises(UserError):
        litertjs.fetch()
    assert not list(tmp_path.rglob("escaped"))


def test_without_npm_or_registry_the_error_says_what_to_do(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shelf / "@litertjs-core.tgz").unlink()
    with pytest.raises(UserError, match=r"LiteRT\.js cannot be fetched") as failed:
        litertjs.fetch()
    assert "npm" in failed.value.mend
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError) as missing:
        litertjs.fetch()
    assert "not installed" in missing.value.why


def test_the_pins_are_sha512() -> None:
    assert all(len(bytes.fromhex(package.sha512)) == 64 for package in litertjs.PACKAGES)
