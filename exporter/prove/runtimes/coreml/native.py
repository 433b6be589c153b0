"""Core ML itself, on a Mac: `coremltools.models.MLModel.predict`."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np

from exporter.coremltools_shim import import_coremltools
from exporter.prove.runtimes.base import Pixels, Probabilities, Session
from exporter.prove.runtimes.coreml.description import Description
from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.labels import in_contract_order
from models.contract import Contract


def on_a_mac() -> bool:
    return sys.platform == "darwin"


def version(compute_units: str) -> str:
    coremltools = import_coremltools("Running a Core ML file")
    return (
        f"Core ML of macOS {platform.mac_ver()[0]}, {compute_units}, "
        f"coremltools {coremltools.__version__}"
    )


class NativeSession(Session):
    """A file that Core ML has compiled and loaded.

    Args:
        path: the `.mlpackage` or `.mlmodel`.
        description: its input and outputs.
        labels: its class labels in order; None when it is no classifier.
        contract: whose label order the probabilities come in.
        compute_units: name of a `coremltools.ComputeUnit`.

    Raises:
        CoreMLFileError: Core ML refuses the file.
        MissingExtraError: coremltools is not installed.
    """

    def __init__(
        self, path: Path, description: Description, labels: tuple[str, ...] | None,
        contract: Contract, compute_units: str,
    ) -> None:  # fmt: skip
        coremltools = import_coremltools("Running a Core ML file")
        units = coremltools.ComputeUnit[compute_units]
        try:
            self._model = coremltools.models.MLModel(str(path), compute_units=units)
        except (RuntimeError, ValueError) as error:
            raise CoreMLFileError(f"{path}: Core ML refuses the file.", str(error)) from error
        self._path, self._description, self._labels = path, description, labels
        self._names = contract.names

    def labels(self) -> tuple[str, ...] | None:
        return self._labels

    def probabilities(self, pixels: Pixels) -> Probabilities:
        from PIL import Image

        image = Image.fromarray(pixels, "RGB")
        try:
            found = self._model.predict({self._description.image.name: image})
        except (RuntimeError, ValueError) as error:
            raise CoreMLFileError(f"{self._path}: Core ML failed.", str(error)) from error
        values = found.get(self._description.probabilities)
        if values is None:
            raise CoreMLFileError(
                f"{self._path}: Core ML gave {sorted(found)}, not "
                f"{self._description.probabilities!r}."
            )
        if not isinstance(values, dict):
            return np.asarray(values, np.float32).reshape(-1)
        by_label = np.array([values.get(name, np.nan) for name in values], np.float32)
        return by_label[in_contract_order(tuple(values), self._names, self._path)]

    def close(self) -> None:
        self._model = None
