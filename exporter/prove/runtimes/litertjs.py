"""LiteRT.js, Google's TFLite runtime for browsers: fetched once from npm, pinned, unpacked.

Its WebAssembly files lie in the package. `exporter serve` gives them to browsers, and the
runtime `browser` runs them in Node.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter import fetched
from exporter.prove.runtimes.tools import built, call
from models.errors import UserError

VERSION = "2.5.3"
_WHAT = "LiteRT.js cannot be fetched."
_STAMP = "complete"
_QUIET = ("--loglevel=error", "--ignore-scripts")


@dataclass(frozen=True)
class Package:
    """An npm package and the sha512 (hex) of its tarball in that version."""

    name: str
    folder: str
    sha512: str


PACKAGES = (
    Package(
        "@litertjs/core",
        "core",
        "3e51a66cc3aaf568ad5fb14ed2385b749c3d1ad85ab6ccae0905e34edff0259a"
        "3414b6b0e3cab8b73f08c2a82a08892f8981abf4e1432f59029cde27cd6a3225",
    ),
    Package(
        "@litertjs/wasm-utils",
        "wasm-utils",
        "e1f262c3ab4142722cfb48c7fce435ea760e89297cffecd99e7e61dae97c6932"
        "878b4e6c56a656e7cd139a4efca42da44f7f40f4e60155d15ac2d799fec23591",
    ),
)


def place() -> Path:
    """Where it lies, or will: `core/` and `wasm-utils/` with each package's content."""
    return fetched.folder(f"litertjs-{VERSION}")


def installed() -> Path | None:
    """Its folder, or None where it was not fetched yet."""
    return place() if (place() / _STAMP).is_file() else None


def fetch(say: Callable[[str], None] | None = None) -> Path:
    """Fetch and unpack it: 12 MB to download, 40 MB on disk.

    It appears in one step, after both tarballs were found to be what they were when this
    was written.

    Args:
        say: told in a few words what happens next.

    Returns:
        Its folder.

    Raises:
        UserError: npm is missing or cannot reach its registry, a tarball is not the one
            that is pinned here, or the disk is full.
    """
    tell = say or (lambda _: None)
    home = place()
    with built(home, _WHAT) as folder:
        try:
            for package in PACKAGES:
                tell(f"downloading {package.name} {VERSION}")
                _unpack(package, folder)
        except tarfile.TarError as error:
            raise UserError(_WHAT, str(error), "try again; nothing was kept") from error
        (folder / _STAMP).write_text(VERSION + "\n", encoding="utf-8")
    tell(f"done: {home}")
    return home


def _unpack(package: Package, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="exporter-npm-") as name:
        tarball = _download(package, Path(name))
        with tarball.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha512").hexdigest()
        if found != package.sha512:
            raise UserError(
                f"{package.name} {VERSION} is not the package that it was.",
                f"its sha512 begins with {found[:12]}, not with {package.sha512[:12]}",
                "look at what your npm registry serves; nothing was unpacked",
            )
        unpacked = Path(name) / "unpacked"
        with tarfile.open(tarball) as archive:
            archive.extractall(unpacked, filter="data")
        shutil.move(unpacked / "package", folder / package.folder)


def _download(package: Package, folder: Path) -> Path:
    """The tarball, through npm and whatever registry it is set up for."""
    call(
        ["npm", "pack", f"{package.name}@{VERSION}", "--pack-destination", folder, *_QUIET],
        _WHAT,
        "install Node.js with npm where it is missing; see that 'npm view @litertjs/core' answers",
        cwd=folder,
    )
    tarballs = sorted(folder.glob("*.tgz"))
    if len(tarballs) != 1:
        raise UserError(_WHAT, f"npm left {len(tarballs)} tarballs", "update npm")
    return tarballs[0]
