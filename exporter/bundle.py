"""The folder that a phone gets: its layout, its manifest, its checksums.

One table says which files there are; the making wing fills the folder, the
proving wing reads it, and neither knows more of the other than this.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.contract import Contract
from models.errors import UserError

MANIFEST = "manifest.json"
CONTRACT = "contract.json"
LABELS = "labels.txt"
GOLDEN = "golden"
REFERENCE = "reference"
REPORT = "report.html"
QUANTIZATION = "quantization.json"
SENSITIVITY = "sensitivity.json"
SCHEMA = 1

Precision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Format:
    """One row of the table of formats.

    Attributes:
        key: its name on the command line.
        path: its file or folder in the bundle.
        precision: which gates it has to pass.
        runtime: which runtime of the proving wing opens it.
        extra: what the making of it needs beyond the core, or None.
        use: one line that tells a person what to do with the file.
        usual: whether it is made where nothing else is asked for.
        calibrated: whether its ranges come from calibration images.
    """

    key: str
    path: str
    precision: Precision
    runtime: str
    extra: str | None
    use: str
    usual: bool = True
    calibrated: bool = False


FORMATS: tuple[Format, ...] = (
    Format("onnx", "model.onnx", "float32", "onnxruntime", None,
           "the source of truth; runs in onnxruntime anywhere"),
    Format("tflite-float32", "model_float32.tflite", "float32", "litert", None,
           "Android CPU, where exactness matters more than size"),
    Format("tflite-float16", "model_float16.tflite", "float16", "litert", None,
           "Android GPU delegate; half the size"),
    Format("tflite-int8", "model_int8.tflite", "int8", "litert", None,
           "Android CPU: drop it into the app's assets; a quarter of the size", calibrated=True),
    Format("tflite-mixed", "model_mixed.tflite", "int8", "litert", None,
           "Android CPU: int8 with the layers that suffer most left in float", usual=False,
           calibrated=True),
    Format("tflite-int16", "model_int16.tflite", "int8", "litert", None,
           "Android CPU: int8 weights, 16-bit activations; nearer to float, slower", usual=False,
           calibrated=True),
    Format("tflite-dynamic", "model_dynamic.tflite", "int8", "litert", None,
           "Android CPU: int8 weights, activations quantized as they come", usual=False,
           calibrated=True),
    Format("tflite-int8-weights", "model_int8_weights.tflite", "int8", "litert", None,
           "Android: int8 weights, float arithmetic; a quarter of the size", usual=False,
           calibrated=True),
    Format("saved-model", "saved_model", "float32", "tensorflow", "tensorflow",
           "TensorFlow Serving and tf.lite.TFLiteConverter"),
    Format("coreml", "Model.mlpackage", "float16", "coreml", "coreml",
           "drag into Xcode; iOS 16 and later, Neural Engine"),
    Format("coreml-float32", "Model_float32.mlpackage", "float32", "coreml", "coreml",
           "iOS 16 and later, where exactness matters more than speed"),
    Format("coreml-int8", "Model_int8.mlpackage", "int8", "coreml", "coreml",
           "iOS 16 and later; int8 weights, a quarter of the size"),
    Format("coreml-w8a8", "Model_w8a8.mlpackage", "int8", "coreml", "coreml",
           "iOS 17 and later; int8 weights and activations, Neural Engine", usual=False,
           calibrated=True),
    Format("mlmodel", "Model.mlmodel", "float32", "coreml", "coreml",
           "older iOS; the neuralnetwork format"),
)  # fmt: skip
BY_KEY = {row.key: row for row in FORMATS}


class BundleError(UserError):
    """A bundle that is missing, damaged or not one of ours."""


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle: path relative to it with '/', sha256 (hex), size in bytes."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        root: the folder.
        contract: what goes in and out of every artifact.
        manifest: the parsed manifest.json.
    """

    root: Path
    contract: Contract
    manifest: dict[str, Any]

    def formats(self) -> tuple[Format, ...]:
        """The formats that this bundle says it holds, in the table's order."""
        held = self.manifest["artifacts"]
        return tuple(row for row in FORMATS if row.key in held)

    def path(self, key: str) -> Path:
        return self.root / BY_KEY[key].path

    def sha256(self, path: str) -> str | None:
        """What the manifest says of one file, hex; None where it does not list it.

        Args:
            path: relative to the bundle, with '/'.
        """
        files = self.manifest.get("files", [])
        return next((str(entry["sha256"]) for entry in files if entry.get("path") == path), None)

    @property
    def reference(self) -> Path:
        """The checkpoint or ONNX file that the bundle was made from."""
        return self.root / str(self.manifest["reference"])


def open_bundle(root: Path) -> Bundle:
    """Open a bundle by its manifest and contract; checksums are `verify`'s task.

    Raises:
        BundleError: no folder, no manifest, not JSON, another schema, entries that are
            missing or of a wrong type, a reference outside the bundle.
    """
    root = Path(root)
    path = root / MANIFEST
    if not root.is_dir():
        raise BundleError(
            f"There is no folder {root}." if not root.exists() else f"{root} is a file.",
            f"looked from {Path.cwd()}" if not root.is_absolute() else "",
            "make a bundle with 'exporter export' (or 'make export'), or name where one is",
        )
    if not path.is_file():
        raise BundleError(
            f"{root} is no bundle.",
            f"it has no {MANIFEST}",
            "point at the folder that 'exporter export' wrote",
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = manifest["schema"] == SCHEMA and set(manifest["artifacts"]) <= set(BY_KEY)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else f"{error}"
        raise BundleError(f"{path} cannot be read.", why, "export the model again") from error
    if not known:
        raise BundleError(
            f"{path} was written by another version of the exporter.",
            "its schema or one of its formats is not known here",
            "export the model again, or update the exporter",
        )
    fault = _fault(manifest)
    if fault is not None:
        raise BundleError(f"{path} cannot be used.", fault, "export the model again")
    return Bundle(root, Contract.load(root / CONTRACT), manifest)


def _fault(manifest: dict[str, Any]) -> str | None:
    """What is wrong with the entries that every reader of a manifest relies on."""
    artifacts, reference = manifest["artifacts"], manifest.get("reference")
    if not isinstance(artifacts, dict) or not all(
        isinstance(entry, dict) for entry in artifacts.values()
    ):
        return "'artifacts' is not an object with an object for each format"
    if "reference" not in manifest:
        return "it has no 'reference'"
    if not isinstance(reference, str) or not _inside(reference):
        return f"'reference' is {reference!r}, which is no path of a file inside the bundle"
    return None


def _inside(path: str) -> bool:
    """Whether a path with '/' stays below the folder that it starts from, on any system."""
    parts = path.split("/")
    return not any(part in ("", ".", "..") for part in parts) and not any(
        sign in path for sign in ("\\", ":", "\0")
    )


def write_manifest(root: Path, content: dict[str, Any]) -> None:
    """Write manifest.json: `content` with the schema and every file's checksum and size.

    Written beside and renamed, so that a bundle's manifest is never half there.
    """
    manifest = {
        "schema": SCHEMA,
        **content,
        "files": [asdict(entry) for entry in hash_files(root)],
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
    partial = root / (MANIFEST + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(root / MANIFEST)


def hash_files(root: Path) -> list[FileEntry]:
    """Every file below a folder except the manifest and the report, sorted by path."""
    entries = []
    for path in sorted(p for p in Path(root).rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if name in (MANIFEST, REPORT):
            continue
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        entries.append(FileEntry(name, digest, path.stat().st_size))
    return sorted(entries, key=lambda entry: entry.path)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
