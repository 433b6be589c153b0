"""Sums, differences and products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from exporter.convert.graph import Add, Mul, Node, Sub
from exporter.convert.targets.tflite.lowering import Lowering, Op, Refusal, Value, fused, lowers

_ADD_HEADROOM = float(1 << 19)  # ADD and SUB shift their int8 inputs left by 20 bits


def _binary(kind: int, options_class: Callable[[], Any]) -> Callable[[Any, Lowering], None]:
    def write(node: Any, to: Lowering) -> None:
        _check_ranks(node, to)
        operands = [to.read(node, 0), to.read(node, 1)]
        if kind != Op.MUL:
            _check_scales(node, operands, to)
        options = options_class()
        if to.is_int16 and kind != Op.MUL:
            options.potScaleInt16 = False  # scales are no powers of two
        options.fusedActivationFunction = fused(node)
        to.op(kind, operands, to.make(node), options)

    return write


lowers(Add)(_binary(Op.ADD, schema.AddOptionsT))
lowers(Sub)(_binary(Op.SUB, schema.SubOptionsT))
lowers(Mul)(_binary(Op.MUL, schema.MulOptionsT))


def _check_ranks(node: Node, to: Lowering) -> None:
    """NCHW broadcasting lines up from the right, NHWC's would pair other axes."""
    rank = len(to.graph.shapes[node.output])
    for name in node.inputs:
        if name in to.graph.constants:
            found = to.graph.constants[name].ndim
            if found > rank:
                raise Refusal(f"the constant {name!r} has {found} axes, its result has {rank}")
        elif len(to.graph.shapes[name]) != rank:
            raise Refusal(f"{name!r} has another number of axes than the result")


def _check_scales(node: Node, operands: list[Value], to: Lowering) -> None:
    """The kernels abort the process when an output scale is far below the inputs'."""
    made = to.affine(node.output)
    scales = [value.affine.scale for value in operands if value.affine is not None]
    if made is not None and scales and max(scales) >= made.scale * _ADD_HEADROOM:
        raise Refusal(f"its int8 output scale {made.scale:g} is too small for its inputs'")
