"""The flatbuffer itself: what is stored, and how often."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.convert.targets.tflite.flat import FlatModel, Quantization


def test_the_zeros_of_equally_many_channels_are_stored_once() -> None:
    model = FlatModel()
    made = [
        model.constant(f"w{n}", np.zeros((8, 1), np.int8), Quantization.symmetric(scales, 0))
        for n, scales in enumerate((np.arange(1.0, 9.0), np.arange(2.0, 10.0)))
    ]
    data = model.serialize({"x": made[0]}, {"y": made[1]}, "two", {})
    graph = schema.Model.GetRootAs(data, 0).Subgraphs(0)
    first, second = (graph.Tensors(index).Quantization() for index in made)
    assert first._tab.Vector(first._tab.Offset(10)) == second._tab.Vector(second._tab.Offset(10))
    assert first._tab.Vector(first._tab.Offset(8)) != second._tab.Vector(second._tab.Offset(8))
    assert first.ZeroPointAsNumpy().tolist() == [0] * 8
    assert second.ScaleAsNumpy().tolist() == list(np.arange(2.0, 10.0))
