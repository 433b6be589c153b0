"""Which runtime opens what, looked up without importing the others."""

from __future__ import annotations

import importlib
from pathlib import Path

from exporter.prove.runtimes.base import Runtime

# name -> (module, class). Asking for one imports its module only, and a module
# imports its library only when a file is opened.
_RUNTIMES: dict[str, tuple[str, str]] = {
    "torch": ("eager", "EagerRuntime"),
    "onnxruntime": ("ort", "OnnxRuntime"),
    "litert": ("litert", "LiteRtRuntime"),
    "tensorflow": ("tensorflow_saved_model", "TensorFlowRuntime"),
    "coreml": ("coreml", "CoreMLRuntime"),
    "litert-arm64": ("litert_arm64", "LiteRtArm64Runtime"),
    "browser": ("browser", "BrowserRuntime"),
    "reference-onnx": ("reference_onnx", "ReferenceOnnxRuntime"),
}
_REFERENCES = ("reference-onnx",)  # opens what came in, never an artifact
# Runtimes that open another one's files once more, asked for by name or with 'all'.
SECOND: dict[str, str] = {"litert-arm64": "litert", "browser": "litert"}


def names() -> tuple[str, ...]:
    """The runtimes' names, as in `bundle.Format.runtime`, and 'torch' for the reference."""
    return tuple(name for name in _RUNTIMES if name not in _REFERENCES)


def get(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        KeyError: there is none.
    """
    module, kind = _RUNTIMES[name]
    loaded = importlib.import_module(f"exporter.prove.runtimes.{module}")
    return getattr(loaded, kind)()


def all_runtimes() -> tuple[Runtime, ...]:
    """Every runtime, whether it can be used here or not."""
    return tuple(get(name) for name in names())


def reference_name(path: Path) -> str:
    """The name of the runtime for a bundle's reference: a checkpoint or an ONNX file."""
    return "reference-onnx" if path.suffix == ".onnx" else "torch"
