"""onnxruntime, for the `model.onnx` of a bundle."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from exporter.prove.runtimes.errors import (
    ArtifactError,
    damaged,
    not_installed,
    require_file,
    require_interface,
)
from exporter.prove.runtimes.stored import lines
from models.contract import Contract
from models.errors import MissingExtraError

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        ArtifactError: the file is missing, damaged or no ONNX model.
    """
    import onnxruntime

    require_file(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except failures() as error:
        raise damaged(path, "onnxruntime", error) from error


def failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own kinds derive from Exception and nothing narrower."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (getattr(state, name) for name in dir(state))
    own = [kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)


class OnnxSession(Session):
    """`model.onnx`: uint8 `[1, H, W, 3]` to float32 `[1, classes]`."""

    any_thread = True

    def __init__(self, path: Path, contract: Contract, threads: int) -> None:
        self._path = path
        self._session = open_session(path, threads)
        given, made = self._session.get_inputs(), self._session.get_outputs()
        if len(given) != 1 or len(made) != 1:
            raise ArtifactError(
                f"{path} has {len(given)} inputs and {len(made)} outputs.",
                "the contract says one of each",
                "export the model again",
            )
        require_interface(
            path,
            contract,
            (_DTYPES.get(given[0].type, given[0].type), given[0].shape),
            (_DTYPES.get(made[0].type, made[0].type), made[0].shape),
        )
        self._input, self._output = given[0].name, made[0].name

    def probabilities(self, pixels: Pixels) -> Probabilities:
        try:
            return self._session.run([self._output], {self._input: pixels[None]})[0][0]
        except failures() as error:
            raise damaged(self._path, "onnxruntime", error) from error

    def metadata(self) -> dict[str, str]:
        """The file's metadata_props."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def labels(self) -> tuple[str, ...] | None:
        return labels_in(self.metadata())


def labels_in(metadata: dict[str, str]) -> tuple[str, ...] | None:
    """The names under the key 'labels': one a line, or a JSON list of names or objects."""
    text = metadata.get("labels")
    if text is None:
        return None
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except json.JSONDecodeError:
            return lines(text)
        return tuple(item["name"] if isinstance(item, dict) else str(item) for item in items)
    return lines(text)


class OnnxRuntime(Runtime):
    """onnxruntime on the CPU."""

    name = "onnxruntime"

    def unavailable(self) -> str | None:
        return not_installed("onnxruntime", None)

    def version(self) -> str:
        return f"onnxruntime {importlib.metadata.version('onnxruntime')}"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> OnnxSession:
        if self.unavailable():
            raise MissingExtraError("onnxruntime", "all", "Running an ONNX file")
        return OnnxSession(path, contract, threads)
