"""One function for each kind of node, registered when this package is imported."""

from exporter.convert.targets.tflite.operators import activations, elementwise, linear, shapes

__all__ = ["activations", "elementwise", "linear", "shapes"]
