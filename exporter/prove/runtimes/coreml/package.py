"""Opening a `.mlpackage` folder or a `.mlmodel` file, down to the parsed message.

A package is a folder with `Manifest.json` and `Data/`; the manifest gives each item
(the specification, the weights) an identifier and a path below `Data/`, and names
the specification as its root. `@model_path` in a program is the folder that holds
the specification.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.protos import model_messages, refuse_unknown_fields

_FORMAT_VERSIONS = ("1.0.0",)
_NEWEST_SPECIFICATION = 10  # iOS 26, coremltools 9
_DAMAGED = "copy it again from where it came, or export the model again"


@dataclass(frozen=True, eq=False)
class ModelFile:
    """An opened file.

    Attributes:
        path: the `.mlpackage` or `.mlmodel`.
        spec: the parsed `CoreML.Specification.Model`.
        folder: what `@model_path` stands for.
        items: the paths that the manifest names, absolute; empty for `.mlmodel`.
    """

    path: Path
    spec: Any
    folder: Path
    items: tuple[Path, ...] = ()

    @property
    def kind(self) -> str:
        """Which kind of model it holds, e.g. 'mlProgram'; '' for none."""
        return self.spec.WhichOneof("Type") or ""


def read_model_file(path: Path) -> ModelFile:
    """Open a `.mlpackage` or `.mlmodel`.

    Raises:
        CoreMLFileError: no such file, a manifest that cannot be followed, bytes that
            are not a Core ML specification, or a specification newer than is known.
        MissingExtraError: coremltools is not installed.
    """
    path = Path(path)
    if path.is_dir():
        spec_path, items = _follow_manifest(path)
    elif path.is_file():
        spec_path, items = path, ()
    else:
        raise CoreMLFileError(f"{path} does not exist.", "", "check the path")
    spec = _parse(spec_path)
    if not 1 <= spec.specificationVersion <= _NEWEST_SPECIFICATION:
        raise CoreMLFileError(
            f"{path} has specification version {spec.specificationVersion}.",
            f"versions 1 to {_NEWEST_SPECIFICATION} are known",
        )
    refuse_unknown_fields(spec, f"{path}: the model")
    return ModelFile(path, spec, spec_path.parent, items)


def read_metadata(path: Path) -> dict[str, str]:
    """The user-defined metadata of a Core ML file, e.g. its contract.

    Raises:
        CoreMLFileError: see `read_model_file`.
        MissingExtraError: coremltools is not installed.
    """
    return dict(read_model_file(path).spec.description.metadata.userDefined)


def _follow_manifest(package: Path) -> tuple[Path, tuple[Path, ...]]:
    manifest = package / "Manifest.json"
    try:
        data = json.loads(manifest.read_text(encoding="utf-8"))
        version = data["fileFormatVersion"]
        entries = {key: entry["path"] for key, entry in data["itemInfoEntries"].items()}
        root = data["rootModelIdentifier"]
    except FileNotFoundError as error:
        raise CoreMLFileError(
            f"{package} is no Core ML package.", "it has no Manifest.json", _DAMAGED
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CoreMLFileError(f"{manifest} cannot be read.", repr(error), _DAMAGED) from error
    if version not in _FORMAT_VERSIONS:
        raise CoreMLFileError(
            f"{manifest} has file format version {version!r}.",
            "known: " + ", ".join(_FORMAT_VERSIONS),
        )
    items = {key: _item(package, value) for key, value in entries.items()}
    if root not in items:
        raise CoreMLFileError(
            f"{manifest} names {root!r} as the model, but has no such item.", "", _DAMAGED
        )
    if not items[root].is_file():
        raise CoreMLFileError(f"{items[root]} is no file.", "it should be the model", _DAMAGED)
    return items[root], tuple(items.values())


def _item(package: Path, path: Any) -> Path:
    if not isinstance(path, str) or not path:
        raise CoreMLFileError(f"{package}/Manifest.json has an item without a path.", "", _DAMAGED)
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise CoreMLFileError(
            f"{package}/Manifest.json names {path!r}.", "items lie inside the package", _DAMAGED
        )
    item = package / "Data" / parts
    if not item.exists():
        raise CoreMLFileError(f"{package} lacks Data/{path}.", "Manifest.json names it", _DAMAGED)
    return item


def _parse(path: Path) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return model_messages().Model.FromString(path.read_bytes())
    except DecodeError as error:
        raise CoreMLFileError(
            f"{path} is not a Core ML model.", f"protobuf: {error}", _DAMAGED
        ) from error
    except OSError as error:
        raise CoreMLFileError(f"{path} cannot be read.", str(error), _DAMAGED) from error
