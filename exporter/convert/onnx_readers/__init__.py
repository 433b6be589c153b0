"""One reader function per ONNX operator; importing this package registers them all.

A new operator is one decorated function in the module of its family.
"""

from exporter.convert.onnx_readers import activations, elementwise, linear, pooling, shapes
from exporter.convert.onnx_readers.registry import (
    READERS,
    Layout,
    Reading,
    Unsupported,
    View,
    attributes,
)

__all__ = [
    "READERS",
    "Layout",
    "Reading",
    "Unsupported",
    "View",
    "activations",
    "attributes",
    "elementwise",
    "linear",
    "pooling",
    "shapes",
]
