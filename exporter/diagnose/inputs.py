"""What the debugger works on: a bundle's files, its equalization, its images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter.bundle import BY_KEY, QUANTIZATION, Bundle, BundleError, Format
from exporter.diagnose.counterparts import Scales
from exporter.diagnose.probes import FloatTensors, OnnxFloats, TfliteFloats
from exporter.diagnose.tflite_file import TfliteFile
from models.errors import UserError

KEYS = ("tflite-int8", "tflite-mixed")
_SCHEMA = 1
_FLOATS = ("tflite-float32", "onnx")
_AGAIN = "export the model again"


@dataclass(frozen=True, eq=False)
class Files:
    """The two files.

    Attributes:
        row: the int8 file's line in the table of formats.
        file: the int8 file.
        reference: the float file's line.
        floats: its tensors.
        scales: equalization by tensor name; None where it was done and not written down.
    """

    row: Format
    file: TfliteFile
    reference: Format
    floats: FloatTensors
    scales: Scales | None


def open_files(bundle: Bundle, key: str) -> Files:
    """The int8 file and the float file that it is held against.

    Raises:
        UserError: the bundle has no such file, or no float file; another key; a damaged file.
    """
    row = require_int8(bundle, key)
    file = TfliteFile(bundle.path(key))
    held = {each.key for each in bundle.formats()}
    reference = next((BY_KEY[name] for name in _FLOATS if name in held), None)
    if reference is None:
        raise UserError(
            f"{bundle.root} holds no float file to compare {row.path} with.",
            f"neither {' nor '.join(BY_KEY[name].path for name in _FLOATS)} is in it",
            "export it again with --formats onnx,tflite-float32,tflite-int8",
        )
    path = bundle.path(reference.key)
    if not path.is_file():
        raise BundleError(f"{path} is missing.", "the manifest lists it", _AGAIN)
    floats: FloatTensors
    if reference.key == "onnx":
        floats = OnnxFloats(path, {file.tensors[o.output].name for o in file.operators})
    else:
        floats = TfliteFloats(path)
    return Files(row, file, reference, floats, read_scales(bundle, file))


def require_int8(bundle: Bundle, key: str) -> Format:
    """The int8 file's line in the table of formats, if the bundle has the file.

    Raises:
        UserError: it has not, or the key is another's.
    """
    if key not in KEYS:
        raise UserError(
            f"The report cannot be made for {key!r}.",
            f"it reads int8 activations, which {' and '.join(KEYS)} have",
            f"give one of these as --format; the default is {KEYS[0]}",
        )
    row = BY_KEY[key]
    if key not in bundle.manifest["artifacts"]:
        left_out = (bundle.manifest.get("left_out") or {}).get(key)
        raise UserError(
            f"{bundle.root} holds no {row.path}.",
            str(left_out or "it was exported without it"),
            f"export it again with --calibration and --formats {key} among them",
        )
    if not bundle.path(key).is_file():
        raise BundleError(f"{bundle.path(key)} is missing.", "the manifest lists it", _AGAIN)
    return row


def read_scales(bundle: Bundle, file: TfliteFile) -> Scales | None:
    """By what each channel of a tensor was multiplied when the int8 file was made.

    Returns:
        float32 `[C]` by tensor name, empty for a file that was not equalized; None for one
        that was, in a bundle of before this was written down.

    Raises:
        BundleError: the file that says it is damaged or fits another network.
    """
    path = bundle.root / QUANTIZATION
    if not path.is_file():
        return None if equalized(bundle) else {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != _SCHEMA:
            raise ValueError(f"schema {content['schema']!r} is not known here")
        found = {name: np.array(v, np.float32) for name, v in content["equalization"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{path} cannot be read.", why, _AGAIN) from error
    for name, scale in found.items():
        tensor = file.by_name.get(name)
        if scale.ndim != 1 or not (np.isfinite(scale) & (scale > 0)).all():
            raise BundleError(f"{path} cannot be used.", f"{name}: scales above 0 only", _AGAIN)
        if tensor is not None and scale.size != tensor.shape[-1]:
            why = f"{name} has {tensor.shape[-1]} channels, not {scale.size}"
            raise BundleError(f"{path} does not fit {file.path.name}.", why, _AGAIN)
    return found


def equalized(bundle: Bundle) -> bool:
    """Whether the manifest says that the int8 graph was equalized."""
    calibration: Mapping[str, Any] = bundle.manifest.get("calibration") or {}
    record = calibration.get("equalization")
    return bool(record.get("used")) if isinstance(record, dict) else False


def require_folder(out: Path) -> None:
    """Find out before the long work that a folder could not be written or replaced."""
    from exporter.diagnose.page import JSON, PAGE

    if not out.exists():
        return
    strangers = [] if out.is_dir() else [out]
    if out.is_dir():
        strangers = [path for path in sorted(out.iterdir()) if path.name not in (PAGE, JSON)]
    if strangers:
        raise UserError(
            f"{out} cannot be replaced.",
            f"it holds {strangers[0].name}" if out.is_dir() else "it is a file",
            "give the report a folder of its own with --out",
        )
