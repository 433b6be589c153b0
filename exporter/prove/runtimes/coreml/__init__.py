"""The Core ML runtime: Core ML itself on a Mac, a strict evaluator of the saved file elsewhere."""

from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.package import read_metadata
from exporter.prove.runtimes.coreml.runtime import CoreMLRuntime

__all__ = ["CoreMLFileError", "CoreMLRuntime", "read_metadata"]
