"""PyTorch eager, the reference: the checkpoint, rebuilt and run as it was trained."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from exporter.prove.runtimes.errors import not_installed, require_file
from models.contract import Contract
from models.errors import MissingExtraError, UserError


class EagerSession(Session):
    """A checkpoint's network in eval mode, with the contract's normalization and activation."""

    def __init__(self, path: Path, contract: Contract, threads: int) -> None:
        import torch

        from models.checkpoint import build, load_checkpoint
        from models.classifier import Classifier

        checkpoint = load_checkpoint(path)
        if checkpoint.contract.label_hash != contract.label_hash:
            raise UserError(
                f"The labels in {path} are not those of the bundle's contract.",
                f"{checkpoint.contract.label_hash[:12]}... against {contract.label_hash[:12]}...",
                "export the model again",
            )
        self._torch: Any = torch
        self._labels = checkpoint.contract.names
        # The checkpoint's own contract: what the artifacts' copies are held against.
        self._net = Classifier(build(checkpoint), checkpoint.contract).eval()
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)

    def probabilities(self, pixels: Pixels) -> Probabilities:
        batch = self._torch.from_numpy(np.array(pixels[None], copy=True))
        with self._torch.inference_mode():
            return self._net(batch)[0].numpy().astype(np.float32)

    def labels(self) -> tuple[str, ...]:
        return self._labels

    def close(self) -> None:
        self._torch.set_num_threads(self._threads_before)


class EagerRuntime(Runtime):
    """torch, on the CPU. Its thread count is one setting for the whole process."""

    name = "torch"

    def unavailable(self) -> str | None:
        return not_installed("torch", "torch")

    def version(self) -> str:
        return f"torch eager {importlib.metadata.version('torch')}"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        if self.unavailable():
            raise MissingExtraError("torch", "torch", "Running the PyTorch reference")
        require_file(path)
        return EagerSession(path, contract, threads)
