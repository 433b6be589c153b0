"""Put a bundle's model and its golden images into the folder of an Android app."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from exporter.bundle import (
    BY_KEY,
    CONTRACT,
    FORMATS,
    GOLDEN,
    Bundle,
    FileEntry,
    hash_files,
    open_bundle,
)
from models import atomic
from models.errors import UserError

MODEL = "model.tflite"
COPIED = "copied.json"  # which format the golden answers have to be looked up under
SOURCES = ("app/src", "src", ".")  # where a project's or a module's source sets lie
KEYS = tuple(row.key for row in FORMATS if row.path.endswith(".tflite"))
_AGAIN = "export the model again, or copy the whole bundle again from where it came"


def copy_assets(bundle: Path, app: Path, key: str = "tflite-int8") -> list[Path]:
    """Copy a TFLite file and its contract into the app's assets, the golden images into its test's.

    `main/assets/` gets model.tflite and contract.json; `androidTest/assets/golden/` gets the
    golden folder and copied.json, which names the format and the model's sha256. Both folders
    are written beside and renamed: each is the old one or the new one, never a mixture. What
    else lies in `main/assets/` stays there; other `.tflite` files do not.

    Args:
        bundle: the folder that 'exporter export' wrote.
        app: the folder of a Gradle project, of its app module, or of that module's `src`.
        key: the format to copy, one of `KEYS`.

    Returns:
        the files written, in the order above.

    Raises:
        UserError: the bundle is missing or damaged, the format is not in it or no TFLite
            file, its golden images are missing, or `app` is no Android app.
    """
    opened = open_bundle(bundle)
    if key not in KEYS:
        raise UserError(
            f"{key} is no format for an Android app.", "LiteRT takes TFLite files", _choices(KEYS)
        )
    held = [row.key for row in opened.formats() if row.key in KEYS]
    if key not in held:
        raise UserError(
            f"{bundle} holds no {key}.",
            f"its TFLite formats: {', '.join(held) or 'none'}",
            _choices(held) if held else f"exporter export ... --formats {key}",
        )
    sources = _source_sets(Path(app))
    model = BY_KEY[key].path
    entries = _checked(opened, model)
    assets = sources / "main" / "assets"
    golden = sources / "androidTest" / "assets" / GOLDEN
    with atomic.beside(golden) as new_golden, atomic.beside(assets) as new_assets:
        _fill_assets(opened, assets, new_assets.folder, model)
        _fill_golden(opened, new_golden.folder, key, entries[model].sha256)
    copied = sorted(path for path in golden.rglob("*") if path.is_file())
    return [assets / MODEL, assets / CONTRACT, *copied]


def copy_and_show(bundle: Path, app: Path, key: str = "tflite-int8") -> None:
    """`copy_assets`, and what was written as lines for a person.

    Raises:
        UserError: as `copy_assets`.
    """
    from rich.console import Console

    console = Console(highlight=False)
    written = copy_assets(bundle, app, key)
    model, contract, *golden = written
    megabytes = model.stat().st_size / 1e6
    for line in (
        f"{model}: {BY_KEY[key].path}, {megabytes:.1f} MB",
        f"{contract}",
        f"{golden[0].parent}: {len(golden)} files, replayed by the app's instrumented test",
    ):
        console.print(line, markup=False, soft_wrap=True)


def _choices(keys: tuple[str, ...] | list[str]) -> str:
    return f"--format {' or '.join(keys)}"


def _source_sets(app: Path) -> Path:
    """The folder with main/AndroidManifest.xml below a project, a module or its sources."""
    for inner in SOURCES:
        folder = app / inner
        if (folder / "main" / "AndroidManifest.xml").is_file():
            return folder
    raise UserError(
        f"{app} is no Android app.",
        "it has no app/src/main/AndroidManifest.xml or src/main/AndroidManifest.xml",
        "name the folder of the app's project: --app android_demo",
    )


def _checked(bundle: Bundle, model: str) -> dict[str, FileEntry]:
    """What the manifest says of the files to copy; every one of them is as it was exported."""
    try:
        listed = {
            entry["path"]: FileEntry(entry["path"], entry["sha256"], entry["bytes"])
            for entry in bundle.manifest["files"]
        }
    except (KeyError, TypeError) as error:
        raise UserError(
            f"The manifest of {bundle.root} lists no checksums.", f"{error!r}", _AGAIN
        ) from error
    held = {entry.path: entry for entry in hash_files(bundle.root)}
    names = {name for name in {*listed, *held} if name.startswith(f"{GOLDEN}/")}
    if f"{GOLDEN}/golden.json" not in names:
        raise UserError(f"{bundle.root} has no golden images.", "nothing to replay", _AGAIN)
    for name in sorted({model, CONTRACT, *names}):
        if name not in held:
            raise UserError(f"{bundle.root / name} is missing.", "the manifest lists it", _AGAIN)
        if name not in listed:
            raise UserError(
                f"{bundle.root / name} is not in the manifest.",
                "it was not part of the export",
                "move it elsewhere",
            )
        if listed[name] != held[name]:
            raise UserError(
                f"{bundle.root / name} has changed since the export.",
                f"its sha256 is {held[name].sha256[:16]}..., "
                f"the manifest says {listed[name].sha256[:16]}...",
                _AGAIN,
            )
    return listed


def _fill_assets(bundle: Bundle, old: Path, new: Path, model: str) -> None:
    if old.is_dir():
        shutil.copytree(old, new, dirs_exist_ok=True, symlinks=True)
    for stale in new.glob("*.tflite"):
        stale.unlink()
    shutil.copyfile(bundle.root / model, new / MODEL)
    shutil.copyfile(bundle.root / CONTRACT, new / CONTRACT)


def _fill_golden(bundle: Bundle, new: Path, key: str, sha256: str) -> None:
    copied = {"schema": 1, "format": key, "model": bundle.contract.name, "sha256": sha256}
    shutil.copytree(bundle.root / GOLDEN, new, dirs_exist_ok=True)
    text = json.dumps(copied, ensure_ascii=False, indent=1) + "\n"
    (new / COPIED).write_text(text, encoding="utf-8")
