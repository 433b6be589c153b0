"""Every address that can be read, as a table made when the server starts.

An address that is not in the table does not exist, so no address can name a file that
was not meant to be served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter import __version__, bundle
from exporter.bundle import Bundle
from exporter.prove import devices
from exporter.prove.runtimes import litertjs
from models.errors import UserError

STATIC = Path(__file__).parent / "static"
PAGE_INDEX = "/page.json"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tflite": "application/octet-stream",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
_ELSEWHERE = "@litertjs/wasm-utils"  # how the core imports its sister package


@dataclass(frozen=True)
class Resource:
    """What one address gives.

    Attributes:
        content: the bytes, or the file that holds them.
        kind: its Content-Type.
        sha256: of the bytes, hex; a file that has others since is not served.
    """

    content: bytes | Path
    kind: str
    sha256: str

    @property
    def tag(self) -> str:
        """Its ETag."""
        return f'"{self.sha256[:32]}"'

    def read(self) -> bytes | None:
        """The bytes; None where the file is gone or is another since the server started."""
        if isinstance(self.content, bytes):
            return self.content
        try:
            found = self.content.read_bytes()
        except OSError:
            return None
        return found if hashlib.sha256(found).hexdigest() == self.sha256 else None


def page_table(library: Path) -> Mapping[str, Resource]:
    """The page's own addresses and those of LiteRT.js.

    Args:
        library: LiteRT.js, see `litertjs.fetch`.

    Raises:
        UserError: LiteRT.js is damaged.
    """
    found = {**_page(), **_library(library)}
    return {**found, PAGE_INDEX: _page_index(found)}


def _page_index(found: Mapping[str, Resource]) -> Resource:
    """What the page consists of, so that a device keeps one version of it, never two halves."""
    files = {address: resource.tag for address, resource in sorted(found.items())}
    text = json.dumps({"files": files}, indent=1) + "\n"
    return _from(text.encode("utf-8"), ".json")


def _page() -> dict[str, Resource]:
    found = {
        f"/static/{path.name}": _from(path.read_bytes(), path.suffix)
        for path in sorted(STATIC.iterdir())
        if path.suffix in _TYPES
    }
    # A service worker rules over the folder it comes from, so it comes from the top.
    found["/sw.js"] = found.pop("/static/sw.js")
    found["/manifest.webmanifest"] = found.pop("/static/manifest.webmanifest")
    found["/"] = found.pop("/static/index.html")
    return found


def _library(folder: Path) -> dict[str, Resource]:
    try:
        return _library_files(folder)
    except (OSError, ValueError) as error:
        raise UserError(
            f"LiteRT.js in {folder} is damaged.", str(error), f"remove {folder} and start again"
        ) from error


def _library_files(folder: Path) -> dict[str, Resource]:
    core = (folder / "core" / "dist" / "index.js").read_text(encoding="utf-8")
    if core.count(f'"{_ELSEWHERE}"') != 1:
        raise ValueError(f"its core does not import {_ELSEWHERE}")
    core = core.replace(f'"{_ELSEWHERE}"', '"/litert/wasm-utils.js"')  # no import maps in workers
    sister = (folder / "wasm-utils" / "dist" / "index.js").read_bytes()
    found = {
        f"/litert/wasm/{path.name}": _of(path)
        for path in sorted((folder / "core" / "wasm").iterdir())
        if path.suffix in (".js", ".wasm")
    }
    found["/litert/core.js"] = _from(core.encode("utf-8"), ".js")
    found["/litert/wasm-utils.js"] = _from(sister, ".js")
    return found


def bundle_table(opened: Bundle) -> Mapping[str, Resource]:
    """What of a bundle an app may have: models, contract, labels, golden answers, an index.

    Raises:
        UserError: it holds no .tflite file or no golden answers, or one of its files is
            not what the manifest says.
    """
    known = _known(opened)
    models = [row for row in opened.formats() if row.path.endswith(".tflite")]
    golden = [path for path in known if Path(path).parent.as_posix() == bundle.GOLDEN]
    if not models:
        raise UserError(
            f"{opened.root} holds no .tflite file.",
            "a browser runs nothing else of a bundle",
            "export with --formats tflite-float32,tflite-int8, or with all of them",
        )
    if f"{bundle.GOLDEN}/golden.json" not in known:
        raise UserError(
            f"{opened.root} has no golden answers.", "nothing could be proven", "export it again"
        )
    found = {}
    for path in (bundle.CONTRACT, bundle.LABELS, *golden, *(row.path for row in models)):
        if Path(path).suffix in _TYPES:
            found[f"/bundle/{path}"] = _checked(opened.root / path, known.get(path))
    index = {
        "name": opened.contract.name,
        "label_hash": opened.contract.label_hash,
        "tflite": [
            {
                "key": row.key,
                "path": row.path,
                "precision": row.precision,
                "bytes": (opened.root / row.path).stat().st_size,
                "sha256": known[row.path],
            }
            for row in models
        ],
        "exporter": __version__,
        "litertjs": litertjs.VERSION,
        "results": devices.folder_of(opened.root).name,
    }
    text = json.dumps(index, ensure_ascii=False, indent=1) + "\n"
    found["/bundle/index.json"] = _from(text.encode("utf-8"), ".json")
    return found


def _known(opened: Bundle) -> dict[str, str]:
    """Path to sha256 of every file that the manifest lists."""
    try:
        listed = {str(e["path"]): str(e["sha256"]) for e in opened.manifest["files"]}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{opened.root / bundle.MANIFEST} cannot be used.",
            "it does not list its files with their checksums",
            "export the model again",
        ) from error
    return listed


def _checked(path: Path, sha256: str | None) -> Resource:
    resource = Resource(path, _TYPES[path.suffix], sha256 or "")
    if path.is_symlink() or resource.read() is None:
        raise UserError(
            f"{path} is not what the manifest says.",
            "it is missing, a link, or was changed after the export",
            "run 'exporter verify' on the bundle, or export it again",
        )
    return resource


def _of(path: Path) -> Resource:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Resource(path, _TYPES[path.suffix], digest)


def _from(content: bytes, suffix: str) -> Resource:
    return Resource(content, _TYPES[suffix], hashlib.sha256(content).hexdigest())
