"""Open what the user brought, whatever kind it is, before any long work."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import bundle
from exporter.pipeline.request import ExportRequest, RequestError
from models.contract import Contract, ContractError, load_labels
from models.errors import UserError
from models.strict_json import read_text

NO_THRESHOLDS = "off"
_LIKE = 'write it like {"adder": 0.35, "slow worm": 0.6}'


@dataclass(frozen=True)
class Intake:
    """A model that has been opened and checked.

    Attributes:
        contract: with the request's overrides applied.
        checkpoint: `models.checkpoint.Checkpoint`, or None for an ONNX file.
        reference: its path inside the bundle.
        write_reference: writes it to a path.
        write_onnx: writes model.onnx to a path.
        identity: what model.onnx is made from: a file, or the hash of the result.
        packages: the libraries whose versions decide what write_onnx gives.
    """

    contract: Contract
    checkpoint: Any
    reference: str
    write_reference: Callable[[Path], None]
    write_onnx: Callable[[Path], None]
    identity: Path | str
    packages: tuple[str, ...]


def take_in(request: ExportRequest) -> Intake:
    """Open the model and settle its contract.

    Raises:
        UserError: a missing or damaged file, labels that do not match, a missing
            contract, an unsupported operator (all of them listed), a missing extra.
    """
    if not request.model.exists():
        raise RequestError(f"{request.model} does not exist.", "", "check the path of the model")
    if request.model.is_dir():
        raise RequestError(
            f"{request.model} is a folder.",
            "a model is a file: a checkpoint, a PyTorch state_dict or an ONNX file",
            "name the file in it",
        )
    if request.model.suffix.lower() == ".onnx":
        return _take_onnx(request)
    return _take_checkpoint(request)


def _take_checkpoint(request: ExportRequest) -> Intake:
    from models import checkpoint as checkpoints

    if request.contract is not None:
        raise RequestError(
            "--contract goes with an ONNX file.",
            "a checkpoint carries its contract, a state_dict gets one from --arch and --labels",
            "leave --contract away",
        )
    if request.architecture is None and request.labels is None:
        found = checkpoints.load_checkpoint(request.model)
        _refuse_other_options(request, found)
    elif request.architecture is None or request.labels is None:
        raise RequestError(
            "--arch and --labels go together.",
            "a bare state_dict says neither what it is nor what its classes are called",
            "give both, e.g. --arch mobilenet_v2 --labels labels.txt",
        )
    else:
        labels = (
            checkpoints.imagenet_labels()
            if request.labels == "imagenet"
            else load_labels(Path(request.labels))
        )
        found = checkpoints.load_state_dict_file(
            request.model,
            request.architecture,
            labels,
            options=dict(request.options),
            resize_shorter_side=request.resize_shorter_side,
        )
    found = dataclasses.replace(found, contract=override(found.contract, request))

    def write_reference(path: Path) -> None:
        checkpoints.save_checkpoint(found, path)

    def write_onnx(path: Path) -> None:
        from exporter.convert.to_onnx import export_checkpoint

        export_checkpoint(found, path)

    return Intake(
        found.contract,
        found,
        f"{bundle.REFERENCE}/checkpoint.safetensors",
        write_reference,
        write_onnx,
        request.model,
        ("torch", "torchvision", "onnx", "onnxscript", "onnxsim"),
    )


def _refuse_other_options(request: ExportRequest, found: Any) -> None:
    """Refuse options that a checkpoint contradicts: it was trained with its own."""
    other = [name for name, value in request.options.items() if found.options.get(name) != value]
    if other:
        given = ", ".join(f"{name}={request.options[name]}" for name in other)
        own = ", ".join(f"{name}={value}" for name, value in found.options.items())
        raise RequestError(
            f"{request.model} was not trained with {given}.",
            f"the checkpoint says: {found.architecture} with {own}",
            "leave the option away, or train with it",
        )


def _take_onnx(request: ExportRequest) -> Intake:
    described = {
        "--arch": request.architecture,
        "--labels": request.labels,
        "--option (or --width, --input-size)": request.options or None,
    }
    for flag, value in described.items():
        if value is not None:
            raise RequestError(
                f"{flag} goes with a PyTorch state_dict.",
                "an ONNX file is described by --contract, or carries its contract itself",
                f"leave {flag} away; the labels stand in the contract",
            )
    if request.contract is not None:
        contract = Contract.load(request.contract)
    else:
        contract = contract_in_onnx(request.model)
    contract = override(contract, request)
    from exporter.convert.onnx_file import copy_whole
    from exporter.convert.to_onnx import adopt_onnx

    with tempfile.TemporaryDirectory(prefix="exporter-") as folder:
        adopted = Path(folder) / "model.onnx"
        adopt_onnx(request.model, contract, adopted)  # quick, and finds all that is wrong
        made = adopted.read_bytes()

    def write_onnx(path: Path) -> None:
        path.write_bytes(made)

    return Intake(
        contract,
        None,
        f"{bundle.REFERENCE}/model.onnx",
        lambda path: copy_whole(request.model, path),
        write_onnx,
        hashlib.sha256(made).hexdigest(),
        ("onnx", "onnxruntime", "onnxsim"),
    )


def contract_in_onnx(path: Path) -> Contract:
    """The contract that an ONNX file of ours carries in its metadata.

    Raises:
        ContractError: there is none.
        UserError: the file is no ONNX model.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own DecodeError, without a common base
        raise UserError(f"{path} is not an ONNX model.", str(error), "export it again") from error
    for entry in model.metadata_props:
        if entry.key == "contract":
            return Contract.loads(entry.value, f"the contract inside {path}")
    raise ContractError(
        f"{path} carries no contract.",
        "an ONNX file alone says neither how pixels were normalized nor what the classes are",
        "give --contract contract.json; see the README for one to start from",
    )


def _thresholds(
    contract: Contract, one: float | None, by_class: str | None
) -> dict[str, float | tuple[float, ...] | None]:
    """What --threshold and --class-thresholds change.

    Raises:
        RequestError: both say something about the same class, or the file cannot be used.
    """
    changes: dict[str, float | tuple[float, ...] | None] = {}
    if one is not None:
        changes["not_sure_threshold"] = one
    if by_class == NO_THRESHOLDS:
        return {**changes, "thresholds": None}
    if one is not None and (by_class is not None or contract.thresholds is not None):
        origin = "--class-thresholds gives" if by_class is not None else "the contract has"
        raise RequestError(
            f"--threshold {one:g} contradicts thresholds by class.",
            f"{origin} a threshold for each class, which one for all would replace",
            "leave --threshold away, or say so with --class-thresholds off",
        )
    if by_class is not None:
        changes["thresholds"] = _read_thresholds(Path(by_class), contract)
    return changes


def _read_thresholds(path: Path, contract: Contract) -> tuple[float, ...]:
    """A JSON object from class names to thresholds; classes that it lacks keep theirs."""
    try:
        found = json.loads(read_text(path, "file of thresholds"))
    except json.JSONDecodeError as error:
        raise RequestError(f"{path} is not JSON.", str(error), _LIKE) from error
    if not isinstance(found, dict) or not found:
        raise RequestError(f"{path} holds no thresholds.", "it is no object, or empty", _LIKE)
    strangers = sorted(set(found) - set(contract.names))
    if strangers:
        raise RequestError(
            f"{path} has thresholds of classes that the model does not have.",
            ", ".join(strangers[:5]),
            "use the names of the labels",
        )
    pairs = zip(contract.names, contract.class_thresholds, strict=True)
    return tuple(found.get(name, known) for name, known in pairs)


def override(contract: Contract, request: ExportRequest) -> Contract:
    """The contract with what the flags change."""
    changes: dict[str, Any] = {}
    changes.update(_thresholds(contract, request.threshold, request.class_thresholds))
    if request.name is not None:
        changes["name"] = request.name
    if request.resize_shorter_side is not None:
        changes["preprocessing"] = dataclasses.replace(
            contract.preprocessing, resize_shorter_side=request.resize_shorter_side
        )
    return dataclasses.replace(contract, **changes) if changes else contract
