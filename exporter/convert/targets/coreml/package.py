"""Describe a Core ML model and write it so that the same model gives the same bytes.

coremltools gives every package random identifiers and every model the day's date.
Here identifiers follow from the names (uuid version 5, RFC 9562), the date is left
out, and protobuf maps are written in the order of their keys.
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.convert.targets.coreml.emitter import Style
from exporter.convert.targets.thresholds import in_words
from models.contract import INPUT_NAME, OUTPUT_NAME, Contract

CLASS_LABEL = "classLabel"
_AUTHOR = "com.apple.CoreML"
_MODEL = "com.apple.CoreML/model.mlmodel"
_WEIGHTS = "com.apple.CoreML/weights"
_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, _AUTHOR)
_PREVIEW = "com.apple.coreml.model.preview.type"
_CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"


@dataclass(frozen=True)
class ModelCard:
    """What Xcode shows about a model: author, version and licence, as plain text."""

    author: str = "not stated"
    version: str = "1.0"
    license: str = "not stated; ask the author of the weights"


DEFAULT_CARD = ModelCard()


def describe(spec: Any, contract: Contract, card: ModelCard, style: Style) -> None:
    """Fill in the model's metadata and the descriptions of inputs and outputs.

    Changes `spec` (a Core ML `Model` message) in place. The user metadata holds
    the contract as JSON under 'contract' and its label hash under 'label_hash'.
    """
    meta = spec.description.metadata
    many = len(contract.labels)
    several = ", any number of them" if contract.multi_label else ""
    meta.shortDescription = (
        f"{contract.name}: which of {many} classes a photograph shows{several} ({_said(style)})."
    )
    meta.author, meta.versionString, meta.license = card.author, card.version, card.license
    meta.userDefined.pop(_CONVERSION_DATE, None)
    meta.userDefined[_PREVIEW] = "imageClassifier"
    meta.userDefined["contract"] = contract.dumps()
    meta.userDefined["label_hash"] = contract.label_hash
    meta.userDefined["precision"] = style.stored

    rule = contract.preprocessing
    exif = "EXIF orientation applied, " if rule.exif == "apply" else ""
    one = "they sum to 1" if contract.activation == "softmax" else "each on its own, 0 to 1"
    told = {
        INPUT_NAME: f"RGB photograph: {exif}shorter side resized to {rule.resize_shorter_side} "
        f"pixels ({rule.interpolation}, antialiased), centre {rule.width} x {rule.height} cut "
        "out. Pixels as they are, 0 to 255; the model normalizes them itself.",
        OUTPUT_NAME: f"The probability of each class by its label; {one}. "
        f"{in_words(contract).capitalize()}.",
        CLASS_LABEL: "The label with the largest probability."
        + (" Others may be in the picture too: see the probabilities." if several else ""),
    }
    for feature in (*spec.description.input, *spec.description.output):
        feature.shortDescription = told[feature.name]


def _said(style: Style) -> str:
    return "int8 weights and activations" if style.w8a8 else style.precision


def write_mlmodel(spec: Any, path: Path) -> None:
    """Write a neural network, one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(spec.SerializeToString(deterministic=True))


def write_mlpackage(spec: Any, weights: Path, path: Path) -> None:
    """Write an ML program: a folder with Manifest.json, the model and its weights.

    `weights` is the file that coremltools wrote; a program without large weights
    may have none. A package that is there already is replaced.
    """
    if path.is_dir():
        shutil.rmtree(path)
    data = path / "Data"
    model = data / _MODEL
    model.parent.mkdir(parents=True)
    model.write_bytes(spec.SerializeToString(deterministic=True))
    (data / _WEIGHTS).mkdir()
    if weights.is_file():
        shutil.copyfile(weights, data / _WEIGHTS / "weight.bin")
    (path / "Manifest.json").write_text(_manifest(), encoding="utf-8")


def _manifest() -> str:
    """The package's table of contents, with identifiers that follow from the paths."""
    items = {
        _identifier(_MODEL): _item(_MODEL, "model.mlmodel", "CoreML Model Specification"),
        _identifier(_WEIGHTS): _item(_WEIGHTS, "weights", "CoreML Model Weights"),
    }
    table = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": _identifier(_MODEL),
    }
    return json.dumps(table, indent=4, sort_keys=True) + "\n"


def _identifier(path: str) -> str:
    return str(uuid.uuid5(_SPACE, path)).upper()


def _item(path: str, name: str, description: str) -> dict[str, str]:
    return {"author": _AUTHOR, "description": description, "name": name, "path": path}
