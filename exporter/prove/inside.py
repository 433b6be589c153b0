"""The contract that a file carries inside itself, whatever kind of file it is."""

from __future__ import annotations

import zipfile
from pathlib import Path

from exporter.bundle import CONTRACT, Bundle, Format
from models.contract import Contract
from models.errors import UserError

CARRIERS = ("onnxruntime", "litert", "tensorflow", "coreml")  # runtimes whose files have one
_SHOWN = 3


def embedded_contract(path: Path, row: Format) -> str | None:
    """The contract's JSON inside a file of one of the `CARRIERS`; None where it is lacking.

    Raises:
        UserError: the file is no model of its kind.
    """
    if row.runtime == "onnxruntime":
        return _onnx_property(path, "contract")
    if row.runtime == "tensorflow":
        inner = path / "assets" / CONTRACT
        return inner.read_text(encoding="utf-8", errors="replace") if inner.is_file() else None
    if row.runtime == "coreml":
        from exporter.prove.runtimes.coreml import read_metadata

        return read_metadata(path).get("contract")
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(CONTRACT).decode("utf-8", "replace")
    except (zipfile.BadZipFile, KeyError, OSError):
        return None


def other_thresholds(bundle: Bundle, row: Format) -> str:
    """How a file's own thresholds differ from the bundle's; '' where they do not.

    A file without a contract that can be read says nothing here: `verify` looks for that.
    """
    if not bundle.contract.multi_label:
        return ""
    try:
        text = embedded_contract(bundle.path(row.key), row)
        inner = None if text is None else Contract.loads(text, f"the contract inside {row.path}")
    except UserError:
        return ""
    if inner is None or inner.names != bundle.contract.names:
        return ""
    triples = zip(inner.names, inner.class_thresholds, bundle.contract.class_thresholds,
                  strict=True)  # fmt: skip
    apart = [f"{name} {own:g}, not {wanted:g}" for name, own, wanted in triples if own != wanted]
    if not apart:
        return ""
    more = f" and {len(apart) - _SHOWN} more" if len(apart) > _SHOWN else ""
    return (
        f"the thresholds inside it are not those of {CONTRACT}: {', '.join(apart[:_SHOWN])}{more}"
    )


def _onnx_property(path: Path, key: str) -> str | None:
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own DecodeError, without a common base
        raise UserError(f"{path} is not an ONNX model.", str(error), "export it again") from error
    return next((entry.value for entry in model.metadata_props if entry.key == key), None)
