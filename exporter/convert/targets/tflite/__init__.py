"""The TFLite target: a graph becomes a flatbuffer, written directly.

`flat` knows the file format, `layout` the step from NCHW to NHWC, `lowering` how
tensors of each precision are stored, `operators` one function for each kind of
node, `versions` the lowest operator versions, `metadata` the TFLite Metadata.
"""

from __future__ import annotations

from exporter.convert.targets.tflite.lowering import UnloweredNodesError
from exporter.convert.targets.tflite.metadata import About
from exporter.convert.targets.tflite.writer import minimum_runtime, write

__all__ = ["About", "UnloweredNodesError", "minimum_runtime", "write"]
