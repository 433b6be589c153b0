"""LiteRT (once TensorFlow Lite) with its default XNNPACK delegate."""

from __future__ import annotations

import functools
import importlib.metadata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from exporter.hushed import hushed
from exporter.prove.runtimes.base import Integers, Pixels, Probabilities, Runtime, Session
from exporter.prove.runtimes.errors import (
    ArtifactError,
    damaged,
    not_installed,
    require_file,
    require_interface,
)
from exporter.prove.runtimes.stored import lines
from exporter.prove.tflite_integers import with_integer_output
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


def require_tflite(path: Path) -> None:
    """Raise ArtifactError where the file is missing, empty, or no TFLite flatbuffer."""
    require_file(path)
    with path.open("rb") as stream:
        head = stream.read(8)
    if head[4:8] != IDENTIFIER:
        raise ArtifactError(
            f"{path} is no TFLite file.",
            f"it lacks the identifier {IDENTIFIER.decode()} in bytes 4 to 8",
            "export the model again",
        )


class LiteRtSession(Session):
    """A .tflite file: uint8 `[1, H, W, 3]` to float32 `[1, classes]`."""

    any_thread = True

    def __init__(self, path: Path, contract: Contract, threads: int) -> None:
        require_tflite(path)
        self._path, self._threads = path, threads
        self._interpreter, given, made = self._open(model_path=str(path))
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

    def _open(self, **model: Any) -> tuple[Any, list[Any], list[Any]]:
        """An interpreter with the details of its inputs and outputs."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            with hushed():
                opened = Interpreter(num_threads=self._threads, **model)
                opened.allocate_tensors()
            return opened, opened.get_input_details(), opened.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise damaged(self._path, "LiteRT", error) from error

    def probabilities(self, pixels: Pixels) -> Probabilities:
        return self._run(self._interpreter, self._output, pixels)

    def integers(self, pixels: Pixels) -> Integers | None:
        if self._integer_half is None:
            return None
        return self._run(*self._integer_half, pixels).reshape(-1)

    @functools.cached_property
    def _integer_half(self) -> tuple[Any, int] | None:
        """The file with its last integers as output, and that output; None where it has none."""
        model = with_integer_output(self._path.read_bytes())
        if model is None:
            return None
        interpreter, _, made = self._open(model_content=model)
        return interpreter, made[0]["index"]

    def _run(self, interpreter: Any, output: int, pixels: Pixels) -> Any:
        try:
            interpreter.set_tensor(self._input, pixels[None])
            interpreter.invoke()
            return interpreter.get_tensor(output)[0]
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
