"""What is evaluated: a checkpoint, a run's folder, a bundle, or one file of whatever kind."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.bundle import BY_KEY, CONTRACT, MANIFEST, Bundle, Format, open_bundle
from exporter.prove.runtimes import registry
from models.contract import Contract
from models.errors import UserError

__all__ = ["REFERENCE", "Entry", "Subject", "contract_inside", "find"]

REFERENCE = "reference"
_RUN_CHECKPOINT = "checkpoint.safetensors"  # as 'exporter train' writes it
_CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_KINDS = {".tflite": "litert", ".onnx": "onnxruntime", ".mlmodel": "coreml", ".mlpackage": "coreml"}
_PARENTS = 3  # folders up from a file in which its bundle is looked for


@dataclass(frozen=True)
class Entry:
    """One file to evaluate.

    Attributes:
        row: its kind; `row.runtime` opens it, `row.key` names it.
        path: where it is.
    """

    row: Format
    path: Path


@dataclass(frozen=True)
class Subject:
    """What the user named.

    Attributes:
        given: as it was named.
        contract: what goes in and out of all its files.
        entries: its files, the model that the others were made from first.
        bundle: the bundle that it is or lies in, or None.
        checkpoint: the checkpoint that it is, or None.
        out: where the result goes by default: beside it, never in it.
    """

    given: Path
    contract: Contract
    entries: tuple[Entry, ...]
    bundle: Bundle | None
    checkpoint: Path | None
    out: Path

    @property
    def whole(self) -> bool:
        """Whether a whole bundle was named, so that files stand side by side."""
        return len(self.entries) > 1


def find(given: Path, contract: Path | None = None) -> Subject:
    """Say what a path is, and open its contract.

    Args:
        given: a checkpoint, a run's folder, a bundle, or an exported file in one or alone.
        contract: contract.json of a lone file that carries none.

    Raises:
        UserError: nothing is there, nothing that can be evaluated, or no contract.
    """
    path = Path(given)
    if not path.exists():
        raise UserError(f"{given} does not exist.", "", "check the path")
    if (path / MANIFEST).is_file():
        return _refusing(contract, lambda: _bundle(path))
    if (path / _RUN_CHECKPOINT).is_file():
        run = path.resolve().name
        return _refusing(contract, lambda: _checkpoint(path / _RUN_CHECKPOINT, _beside(path, run)))
    inside = _in_bundle(path)
    if inside is not None:
        return _refusing(contract, lambda: inside)
    if path.suffix.lower() in _CHECKPOINTS and path.is_file():
        return _refusing(contract, lambda: _checkpoint(path, _beside(path, path.stem)))
    return _lone(path, contract)


def _refusing(contract: Path | None, make: Callable[[], Subject]) -> Subject:
    if contract is not None:
        raise UserError(
            "--contract goes with a file that carries none.",
            "a checkpoint and a bundle have their own",
            "leave --contract away",
        )
    return make()


def _bundle(root: Path) -> Subject:
    bundle = open_bundle(root)
    kind = registry.reference_name(bundle.reference)
    row = Format(REFERENCE, str(bundle.manifest["reference"]), "float32", kind, "torch", "")
    entries = [Entry(row, bundle.reference)]
    entries += [Entry(each, bundle.path(each.key)) for each in bundle.formats()]
    whole = root.resolve()
    return Subject(root, bundle.contract, tuple(entries), bundle, None, _beside(root, whole.name))


def _checkpoint(path: Path, out: Path) -> Subject:
    from models import state_files
    from models.checkpoint import load_checkpoint

    if state_files.read(path).header is None:
        raise UserError(
            f"{path} holds weights only.",
            "a state_dict says neither what architecture it is nor what its classes are called",
            f"exporter export {path} --arch NAME --labels FILE, and evaluate the folder",
        )
    row = Format("checkpoint", path.name, "float32", "torch", "torch", "")
    contract = load_checkpoint(path).contract
    return Subject(path, contract, (Entry(row, path),), None, path, out)


def _in_bundle(path: Path) -> Subject | None:
    """A file of a bundle, found by the manifest above it."""
    whole = path.resolve()
    for root in list(whole.parents)[:_PARENTS]:
        if not (root / MANIFEST).is_file():
            continue
        bundle, name = open_bundle(root), whole.relative_to(root).as_posix()
        out = root.with_name(f"{root.name}-{whole.stem}-evaluation")
        if whole == bundle.reference.resolve():
            row = Format(REFERENCE, name, "float32", registry.reference_name(whole), "torch", "")
            return Subject(path, bundle.contract, (Entry(row, path),), bundle, None, out)
        row_of = {row.path: row for row in BY_KEY.values()}
        if name in row_of:
            return Subject(path, bundle.contract, (Entry(row_of[name], path),), bundle, None, out)
    return None


def _lone(path: Path, given: Path | None) -> Subject:
    runtime = "tensorflow" if (path / "saved_model.pb").is_file() else _KINDS.get(
        path.suffix.lower()
    )  # fmt: skip
    if runtime is None:
        raise UserError(
            f"{path} is nothing that can be evaluated.",
            "it is no checkpoint, run, bundle, .onnx, .tflite, .mlpackage, .mlmodel or SavedModel",
            "name a checkpoint, or what 'exporter export' wrote",
        )
    inner = contract_inside(path, runtime)
    if given is None and inner is None:
        raise UserError(
            f"{path} carries no contract.",
            "the file alone says neither what its classes are nor how a photograph is cut",
            "give --contract contract.json",
        )
    contract = Contract.load(given) if given is not None else inner
    assert contract is not None
    if runtime == "onnxruntime" and inner is None:
        runtime = "reference-onnx"  # not one of ours: its input and output may be of any kind
    row = Format(path.name, path.name, "float32", runtime, None, "")
    return Subject(path, contract, (Entry(row, path),), None, None, _beside(path, path.stem))


def contract_inside(path: Path, runtime: str) -> Contract | None:
    """The contract that a finished file carries; None where it has none.

    Raises:
        UserError: the file is damaged, or its contract is.
    """
    text = {
        "litert": _in_tflite,
        "onnxruntime": _in_onnx,
        "coreml": _in_coreml,
        "tensorflow": _in_saved_model,
    }[runtime](path)
    return None if text is None else Contract.loads(text, f"the contract inside {path}")


def _in_tflite(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(CONTRACT).decode("utf-8", "replace")
    except (zipfile.BadZipFile, KeyError, OSError):
        return None


def _in_onnx(path: Path) -> str | None:
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own DecodeError, without a common base
        raise UserError(f"{path} is not an ONNX model.", str(error), "export it again") from error
    return next((each.value for each in model.metadata_props if each.key == "contract"), None)


def _in_coreml(path: Path) -> str | None:
    from exporter.prove.runtimes.coreml import read_metadata

    return read_metadata(path).get("contract")


def _in_saved_model(path: Path) -> str | None:
    inner = path / "assets" / CONTRACT
    return inner.read_text(encoding="utf-8", errors="replace") if inner.is_file() else None


def _beside(path: Path, name: str) -> Path:
    """'NAME-evaluation' beside a file or folder: what was evaluated stays as it is."""
    whole = Path(path).resolve()
    parent = Path(path).parent if Path(path).name == whole.name else whole.parent
    return parent / f"{name}-evaluation"
