"""What the tests of the ONNX readers share: read a tiny model, run it both ways, compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from exporter.convert import graph as kinds
from exporter.convert.evaluate import Evaluator
from exporter.convert.from_onnx import graph_of
from exporter.convert.onnx_file import infer_shapes
from support.onnx_files import make_model, pixels, run

NODE = helper.make_node
C, H, W = 4, 9, 7
RANK4 = [1, C, H, W]


def check(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, npt.NDArray[Any]] | None = None,
    *,
    shape: Sequence[int] = RANK4,
    opset: int = 18,
    tolerance: float = 1e-5,
) -> kinds.Graph:
    """Read the model, run both, compare; returns the graph."""
    model = infer_shapes(make_model(nodes, shape, weights, opset=opset), "tiny")
    onnx.checker.check_model(model)
    picture = pixels(shape[2], shape[3], shape[1])
    centred = (picture.astype(np.float32) - 128) / 64  # both signs, of the size of activations
    wanted = run(model, np.ascontiguousarray(centred.transpose(2, 0, 1)[None]))
    graph = graph_of(model, "tiny")
    assert graph.input.shape == tuple(shape)
    scaled = kinds.GraphInput("x", graph.input.shape, 1 / 64, 128)
    moved = kinds.Graph(scaled, graph.output, graph.nodes, graph.shapes, graph.constants)
    found = Evaluator(moved, threads=1).run(picture)[graph.output]
    assert found.shape == wanted.shape == graph.shapes[graph.output]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=tolerance * np.abs(wanted).max())
    return graph


def only(graph: kinds.Graph) -> kinds.Node:
    assert len(graph.nodes) == 1, [type(node).__name__ for node in graph.nodes]
    return graph.nodes[0]
