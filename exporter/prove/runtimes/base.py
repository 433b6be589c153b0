"""What every runtime offers the proof: a finished file and images in, probabilities out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.contract import Contract

Evidence = Literal["run", "evaluated", "emulated", "reported"]
Probabilities = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int8] | npt.NDArray[np.uint8]


class Session(ABC):
    """One opened file. Use it as a context manager; it frees what it holds.

    Attributes:
        any_thread: whether it may be asked in another thread than the one that opened it,
            while other sessions compute.
    """

    any_thread: bool = False

    @abstractmethod
    def probabilities(self, pixels: Pixels) -> Probabilities:
        """Classify one image: uint8 `[height, width, 3]` to float32 `[classes]`."""

    def integers(self, pixels: Pixels) -> Integers | None:
        """The quantized numbers behind the answer, to be compared with another runtime's.

        Args:
            pixels: as for `probabilities`.

        Returns:
            The tensor in front of the last DEQUANTIZE, int8 or uint8 `[classes]`; None
            for a file that is not quantized there.
        """
        return None

    def labels(self) -> tuple[str, ...] | None:
        """The label names stored inside the file, in order; None where it holds none."""
        return None

    def close(self) -> None:  # noqa: B027 - most sessions have nothing to free
        """Free the file."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Runtime(ABC):
    """Something that executes, or strictly evaluates, one kind of file.

    Attributes:
        name: as in reports and in `bundle.Format.runtime`.
        evidence: 'run' when the vendor's own code executes the file; 'emulated' when it
            does so on an emulated processor; 'evaluated' when this project computes what
            the file says.
        timed: whether its speed says anything about the file.
        counterpart: the runtime of the same files whose numbers it should repeat, or None.
        usual_images: at most so many images where none were asked for; None for all.
    """

    name: str
    evidence: Evidence = "run"
    timed: bool = True
    counterpart: str | None = None
    usual_images: int | None = None

    @abstractmethod
    def unavailable(self) -> str | None:
        """Why it cannot be used here, in a few words for the report; None if it can."""

    @abstractmethod
    def version(self) -> str:
        """The version of the library that computes, e.g. 'onnxruntime 1.31.1'."""

    @abstractmethod
    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        """Open a file.

        Raises:
            UserError: the file is damaged or not of this runtime's kind.
        """
