"""TensorFlow, for the `saved_model/` of a bundle."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any

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

SIGNATURE = "serving_default"
LABELS_ASSET = Path("assets") / "labels.txt"


def import_tensorflow(threads: int) -> Any:
    """TensorFlow with its start-up chatter off and its threads set, if it is not up yet."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with hushed():
        import tensorflow as tf

        # Once it has computed in this process its threads stay as they are.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.constant(0)  # starts it: it chatters once more
    return tf


class TensorFlowSession(Session):
    """The signature 'serving_default': uint8 `[1, H, W, 3]` to float32 `[1, classes]`."""

    any_thread = True

    def __init__(self, path: Path, contract: Contract, threads: int) -> None:
        require_file(path)
        if not (path / "saved_model.pb").is_file():
            raise ArtifactError(
                f"{path} is no SavedModel.", "it has no saved_model.pb", "export the model again"
            )
        self._path = path
        self._tf = import_tensorflow(threads)
        try:
            self._model = self._tf.saved_model.load(str(path))
            self._function = self._model.signatures[SIGNATURE]
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, self._failure) as error:
            raise damaged(path, "TensorFlow", error) from error
        given = list(self._function.structured_input_signature[1].values())
        made = self._function.structured_outputs
        if len(given) != 1 or len(made) != 1:
            raise ArtifactError(
                f"{path} has {len(given)} inputs and {len(made)} outputs.",
                "the contract says one of each",
                "export the model again",
            )
        self._output, output = next(iter(made.items()))
        self._input = given[0].name
        require_interface(
            path,
            contract,
            (given[0].dtype.name, given[0].shape.as_list()),
            (output.dtype.name, output.shape.as_list()),
        )

    @property
    def _failure(self) -> Any:
        return self._tf.errors.OpError

    def probabilities(self, pixels: Pixels) -> Probabilities:
        try:
            batch = self._tf.constant(pixels[None])
            return self._function(**{self._input: batch})[self._output].numpy()[0]
        except (ValueError, self._failure) as error:
            raise damaged(self._path, "TensorFlow", error) from error

    def labels(self) -> tuple[str, ...] | None:
        try:
            return lines((self._path / LABELS_ASSET).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None


class TensorFlowRuntime(Runtime):
    """TensorFlow on the CPU."""

    name = "tensorflow"

    def unavailable(self) -> str | None:
        return not_installed("tensorflow", "tensorflow")

    def version(self) -> str:
        for package in ("tensorflow-cpu", "tensorflow"):
            try:
                return f"tensorflow {importlib.metadata.version(package)}"
            except importlib.metadata.PackageNotFoundError:
                continue
        return "tensorflow"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        if self.unavailable():
            raise MissingExtraError("tensorflow", "tensorflow", "Running a SavedModel")
        return TensorFlowSession(path, contract, threads)
