"""A .tflite file opened in the emulated ARM64 machine."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from exporter.prove.runtimes.base import Integers, Pixels, Probabilities, Session
from exporter.prove.runtimes.errors import ArtifactError, damaged, require_interface
from exporter.prove.runtimes.litert import embedded_labels, require_tflite
from exporter.prove.runtimes.litert_arm64.layout import Layout
from exporter.prove.runtimes.litert_arm64.machine import (
    TIMEOUT,
    Machine,
    Model,
    RefusedError,
    StoppedError,
)
from exporter.prove.runtimes.litert_arm64.setup import check
from exporter.prove.tflite_integers import with_integer_output
from models.contract import Contract

RUNTIME = "LiteRT on ARM64"


class LiteRtArm64Session(Session):
    """A .tflite file: uint8 `[1, H, W, 3]` to float32 `[1, classes]`.

    It has a machine of its own, which is gone after `close`.
    """

    def __init__(
        self, path: Path, contract: Contract, layout: Layout, timeout: float = TIMEOUT
    ) -> None:
        require_tflite(path)
        self._path = path
        rule = contract.preprocessing
        self._shape = (rule.height, rule.width, 3)
        self._machine: Machine = self._guarded(functools.partial(Machine, layout, timeout=timeout))
        try:
            self._guarded(check, self._machine)
            self._model = self._open(path.read_bytes(), contract)
        except BaseException:
            self._machine.close()
            raise

    def _open(self, data: bytes, contract: Contract) -> Model:
        model: Model = self._guarded(self._machine.open, data)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ArtifactError(
                f"{self._path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs.",
                "the contract says one of each",
                "export the model again",
            )
        require_interface(self._path, contract, model.inputs[0], model.outputs[0])
        return model

    def probabilities(self, pixels: Pixels) -> Probabilities:
        return self._run(self._model, pixels)

    def integers(self, pixels: Pixels) -> Integers | None:
        if self._integer_model is None:
            return None
        return self._run(self._integer_model, pixels).reshape(-1)

    @functools.cached_property
    def _integer_model(self) -> Model | None:
        """The file with its last integers as output; None where it has none."""
        data = with_integer_output(self._path.read_bytes())
        return None if data is None else self._guarded(self._machine.open, data)

    def _run(self, model: Model, pixels: Pixels) -> Any:
        if pixels.shape != self._shape or pixels.dtype.name != "uint8":
            raise ArtifactError(
                f"{self._path} was given {pixels.dtype.name} {list(pixels.shape)}.",
                f"it takes uint8 {list(self._shape)}",
                "prepare the image as the contract says",
            )
        return self._guarded(self._machine.run, model, pixels[None])[0]

    def _guarded(self, task: Any, *arguments: Any) -> Any:
        try:
            return task(*arguments)
        except RefusedError as error:
            raise damaged(self._path, RUNTIME, error) from error
        except StoppedError as error:
            raise ArtifactError(
                f"{RUNTIME} stopped at {self._path}.",
                str(error),
                "run it again; if it stops there again, fetch the ARM64 system anew "
                "(exporter fetch arm64 --force)",
            ) from error

    def labels(self) -> tuple[str, ...] | None:
        return embedded_labels(self._path)

    def close(self) -> None:
        self._machine.close()
