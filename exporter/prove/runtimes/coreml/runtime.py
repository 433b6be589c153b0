"""Core ML files: run by Core ML on a Mac, strictly evaluated elsewhere."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np

from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from exporter.prove.runtimes.coreml import native
from exporter.prove.runtimes.coreml.description import (
    Description,
    ImageInput,
    check_array_output,
    check_labels,
    read_description,
)
from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.labels import in_contract_order
from exporter.prove.runtimes.coreml.network import KINDS, Network
from exporter.prove.runtimes.coreml.package import ModelFile, read_model_file
from exporter.prove.runtimes.coreml.program import Program
from exporter.prove.runtimes.coreml.protos import installed
from models.contract import Contract


class CoreMLRuntime(Runtime):
    """`.mlpackage` (ML program) and `.mlmodel` (neuralnetwork) classifiers.

    On macOS Core ML itself predicts (evidence 'run'). Nothing executes Core ML
    elsewhere, so there the saved file is evaluated (evidence 'evaluated', not timed):
    this project computes what the file says and refuses a file that says anything it
    does not read. The file is checked in the same way on both before it is opened.

    Args:
        run_natively: let Core ML predict; None does so where this is a Mac.
        compute_units: which processors Core ML may use, a `coremltools.ComputeUnit`.
            CPU_ONLY answers the same on every Mac, the others depend on the machine.
    """

    name = "coreml"

    def __init__(self, run_natively: bool | None = None, compute_units: str = "CPU_ONLY") -> None:
        self._native = native.on_a_mac() if run_natively is None else run_natively
        self._compute_units = compute_units
        self.evidence = "run" if self._native else "evaluated"
        self.timed = self._native

    def unavailable(self) -> str | None:
        return None if installed() else "coremltools is not installed (extra 'coreml')"

    def version(self) -> str:
        if self._native:
            return native.version(self._compute_units)
        try:
            own = version_of("exporter")
        except PackageNotFoundError:
            own = "from source"
        return f"strict evaluator of exporter {own}, numpy {np.__version__}"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        """Open and check a file; `threads` changes nothing (BLAS and Core ML decide).

        Raises:
            CoreMLFileError: the file is damaged, contradicts itself or the contract, or
                says something that the evaluator does not read.
            MissingExtraError: coremltools is not installed.
        """
        path = Path(path)
        model = read_model_file(path)
        try:
            session = EvaluatedSession(model, contract)
        except CoreMLFileError as error:
            if str(path) in error.what:
                raise
            raise error.within(path) from error
        if not self._native:
            return session
        return native.NativeSession(
            path, session.description, session.labels(), contract, self._compute_units
        )


class EvaluatedSession(Session):
    """A checked file, ready to be evaluated; it has computed one black image already."""

    any_thread = True

    def __init__(self, model: ModelFile, contract: Contract) -> None:
        self._path = model.path
        self.description: Description = read_description(model.spec)
        image = self.description.image
        _check_size(image, contract)
        self._evaluator = _evaluator(model, self.description)
        black = np.zeros((image.height, image.width, 3), np.uint8)
        found = self._evaluator.run(_planes(black, image))
        check_labels(model.spec, self._evaluator.labels, found.size)
        if self.description.label is None:
            check_array_output(model.spec, self.description.probabilities, self._evaluator.shape)
        labels = self._evaluator.labels
        if labels is not None:
            self._order = in_contract_order(labels, contract.names, model.path)
        elif found.size == len(contract.names):
            self._order = np.arange(found.size)
        else:
            raise CoreMLFileError(
                f"The file gives {found.size} probabilities, the contract has "
                f"{len(contract.names)} labels."
            )

    def probabilities(self, pixels: Pixels) -> Probabilities:
        image = self.description.image
        if pixels.shape != (image.height, image.width, 3) or pixels.dtype != np.uint8:
            raise CoreMLFileError(
                f"{self._path} takes {image.width} x {image.height} RGB pixels.",
                f"got {pixels.dtype} {pixels.shape}",
                "prepare the image as the contract says",
            )
        return self._evaluator.run(_planes(pixels, image))[self._order]

    def labels(self) -> tuple[str, ...] | None:
        return self._evaluator.labels


def _evaluator(model: ModelFile, description: Description) -> Program | Network:
    if model.kind == "mlProgram":
        if not model.items:
            raise CoreMLFileError(f"{model.path} holds an ML program outside of a package.")
        return Program(model, description)
    if model.kind in KINDS:
        return Network(model.spec, description)
    raise CoreMLFileError(
        f"{model.path} is a model of the kind {model.kind or 'none'!r}.",
        "mlProgram, " + " and ".join(KINDS) + " are evaluated",
    )


def _check_size(image: ImageInput, contract: Contract) -> None:
    rule = contract.preprocessing
    if (image.height, image.width) != (rule.height, rule.width):
        raise CoreMLFileError(
            f"The file takes images of {image.width} x {image.height} pixels.",
            f"the contract says {rule.width} x {rule.height}",
        )


def _planes(pixels: Pixels, image: ImageInput) -> np.ndarray:
    """uint8 `[H, W, 3]` RGB to float32 `[1, 3, H, W]` in the file's colour order."""
    ordered = pixels[..., ::-1] if image.bgr else pixels
    return np.ascontiguousarray(ordered.transpose(2, 0, 1)[None], dtype=np.float32)
