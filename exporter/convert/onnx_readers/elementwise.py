"""Add, Sub, Mul, Div: of two tensors, or of a tensor and a constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from exporter.convert.graph import Add, Mul, Node, Sub
from exporter.convert.onnx_readers.registry import (
    TO_NCHW,
    Layout,
    Reading,
    Unsupported,
    reads,
)

_KINDS: dict[str, type[Node]] = {"Add": Add, "Sub": Sub, "Mul": Mul}


@reads("Add", "Sub", "Mul")
def _binary(node: onnx.NodeProto, to: Reading) -> None:
    fixed = [to.is_constant(name) for name in node.input]
    if any(fixed):
        position = fixed.index(True)
        values = to.constant(node.input[position], "operand")
        _with_constant(node, to, node.op_type, values, first=position == 0)
        return
    views = [to.view(name) for name in node.input]
    if len({view.layout for view in views}) > 1:
        raise Unsupported("one input is NCHW, the other NHWC")
    ranks = {len(to.shapes[view.tensor]) for view in views}
    if len(ranks) > 1:
        raise Unsupported("its inputs have different numbers of axes")
    to.add(
        _KINDS[node.op_type](
            name=node.name,
            inputs=tuple(view.tensor for view in views),
            output=node.output[0],
        ),
        views[0].layout,
    )


@reads("Div")
def _div(node: onnx.NodeProto, to: Reading) -> None:
    """Division by a constant is multiplication by its reciprocal."""
    divisor = np.asarray(to.constant(node.input[1], "divisor"), np.float64)
    with np.errstate(divide="ignore"):
        _with_constant(node, to, "Mul", 1.0 / divisor, first=False)


def _with_constant(
    node: onnx.NodeProto, to: Reading, kind: str, values: npt.NDArray[Any], *, first: bool
) -> None:
    view = to.view(node.input[1 if first else 0])
    rank = len(to.shapes[view.tensor])
    if values.ndim > rank:
        raise Unsupported(f"its constant has {values.ndim} axes, the tensor {rank}")
    full = values.reshape((1,) * (rank - values.ndim) + values.shape)
    if view.layout is Layout.LAST:
        full = full.transpose(TO_NCHW)
    shape = to.shapes[view.tensor]
    if np.broadcast_shapes(shape, full.shape) != shape:
        raise Unsupported(
            f"its constant of shape {list(values.shape)} makes the tensor {list(shape)} larger"
        )
    operand = to.operand(node.output[0] + "/constant", full)
    inputs = (operand, view.tensor) if first else (view.tensor, operand)
    to.add(_KINDS[kind](name=node.name, inputs=inputs, output=node.output[0]), view.layout)
