"""LiteRT (once TensorFlow Lite) with its default XNNPACK delegate."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path

import numpy as np

from exporter.hushed import hushed
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

IDENTIFIER = b"TFL3"  # bytes 4..8 of every TFLite flatbuffer
LABELS_ENTRY = "labels.txt"


def embedded_labels(path: Path) -> tuple[str, ...] | None:
    """The names in the labels file that TFLite Metadata packs behind the flatbuffer as a zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(LABELS_ENTRY).decode("utf-8")
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, OSError):
        return None
    return lines(text)


class LiteRtSession(Session):
    """A .tflite file: uint8 `[1, H, W, 3]` to float32 `[1, classes]`."""

    def __init__(self, path: Path, contract: Contract, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        require_file(path)
        with path.open("rb") as stream:
            head = stream.read(8)
        if head[4:8] != IDENTIFIER:
            raise ArtifactError(
                f"{path} is no TFLite file.",
                f"it lacks the identifier {IDENTIFIER.decode()} in bytes 4 to 8",
                "export the model again",
            )
        self._path = path
        try:
            with hushed():
                self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
            given = self._interpreter.get_input_details()
            made = self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise damaged(path, "LiteRT", error) from error
        if len(given) != 1 or len(made) != 1:
            raise ArtifactError(
                f"{path} has {len(given)} inputs and {len(made)} outputs.",
                "the contract says one of each",
                "export the model again",
            )
        require_interface(
            path,
            contract,
            (np.dtype(given[0]["dtype"]).name, given[0]["shape"].tolist()),
            (np.dtype(made[0]["dtype"]).name, made[0]["shape"].tolist()),
        )
        self._input, self._output = given[0]["index"], made[0]["index"]

    def probabilities(self, pixels: Pixels) -> Probabilities:
        try:
            self._interpreter.set_tensor(self._input, pixels[None])
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output)[0]
        except (ValueError, RuntimeError) as error:
            raise damaged(self._path, "LiteRT", error) from error

    def labels(self) -> tuple[str, ...] | None:
        return embedded_labels(self._path)


class LiteRtRuntime(Runtime):
    """ai-edge-litert on the CPU."""

    name = "litert"

    def unavailable(self) -> str | None:
        return not_installed("ai_edge_litert", None)

    def version(self) -> str:
        return f"LiteRT {importlib.metadata.version('ai-edge-litert')} (XNNPACK)"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        if self.unavailable():
            raise MissingExtraError("ai_edge_litert", "all", "Running a TFLite file")
        return LiteRtSession(path, contract, threads)
