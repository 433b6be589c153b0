"""Operators that move or rename values: reshaping, padding, joining, casts, transposes."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from exporter.convert.graph import Concat, Pad, Reshape
from exporter.convert.onnx_readers.registry import (
    TO_NCHW,
    TO_NHWC,
    Layout,
    Reading,
    Unsupported,
    View,
    attributes,
    integers,
    optional,
    reads,
)

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


@reads("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(node: onnx.NodeProto, to: Reading) -> None:
    """Whatever it is called: nothing, or flattening to `[1, n]`."""
    view = to.view(node.input[0])
    before, after = to.shape(node.input[0]), to.shape(node.output[0])
    if before == after:
        to.same(node.output[0], view)
        return
    if len(after) != 2 or after[0] != 1:
        raise Unsupported(
            f"it turns {list(before)} into {list(after)}; known is flattening to [1, n]"
        )
    to.add(
        Reshape(
            name=node.name,
            inputs=(view.tensor,),
            output=node.output[0],
            channels_last=view.layout is Layout.LAST,
        )
    )


@reads("Concat")
def _concat(node: onnx.NodeProto, to: Reading) -> None:
    views = [to.view(name) for name in node.input]
    if len({view.layout for view in views}) > 1:
        raise Unsupported("some inputs are NCHW, some NHWC")
    rank = len(to.shapes[views[0].tensor])
    axis = int(attributes(node)["axis"]) % rank
    if rank == 4 and views[0].layout is Layout.LAST:
        axis = TO_NHWC[axis]
    to.add(
        Concat(
            name=node.name,
            inputs=tuple(view.tensor for view in views),
            output=node.output[0],
            axis=axis,
        ),
        views[0].layout,
    )


@reads("Pad")
def _pad(node: onnx.NodeProto, to: Reading) -> None:
    given = attributes(node)
    if given.get("mode", "constant") != "constant":
        raise Unsupported(f"its mode is {given['mode']!r}, only 'constant' is known")
    view = to.view(node.input[0])
    pads = integers(node, to, "pads", 1) or ()
    axes = integers(node, to, "axes", 3)
    rank = len(to.shape(node.input[0]))
    chosen = range(rank) if axes is None else [axis % rank for axis in axes]
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(chosen):
        before[axis], after[axis] = pads[position], pads[position + len(chosen)]
    if min(*before, *after) < 0:
        raise Unsupported("its padding is negative")
    if view.layout is Layout.LAST:
        before, after = ([side[axis] for axis in TO_NCHW] for side in (before, after))
    if rank != 4 or any((*before[:2], *after[:2])):
        raise Unsupported("it pads other axes than height and width")
    name = optional(node, 2)
    value = float(given.get("value", 0.0) if name is None else to.constant(name, "value").item())
    to.add(
        Pad(
            name=node.name,
            inputs=(view.tensor,),
            output=node.output[0],
            padding=(before[2], before[3], after[2], after[3]),
            value=value,
        ),
        view.layout,
    )


@reads("Identity", "Dropout")
def _nothing(node: onnx.NodeProto, to: Reading) -> None:
    """Dropout does nothing outside training."""
    if node.op_type == "Dropout":
        mode = optional(node, 2)
        if mode is not None and bool(to.constant(mode, "training_mode")):
            raise Unsupported("it is in training mode")
        if len(node.output) > 1 and node.output[1]:
            raise Unsupported("its mask is used")
    to.same(node.output[0], to.view(node.input[0]))


@reads("Cast")
def _cast(node: onnx.NodeProto, to: Reading) -> None:
    """The graph is float32 throughout: a cast to a float type changes nothing in it."""
    kind = int(attributes(node)["to"])
    if kind not in _FLOATS:
        raise Unsupported(f"it casts to {TensorProto.DataType.Name(kind)}")
    to.same(node.output[0], to.view(node.input[0]))


@reads("Transpose")
def _transpose(node: onnx.NodeProto, to: Reading) -> None:
    """Between channels first and channels last it only changes how a tensor is seen."""
    view = to.view(node.input[0])
    rank = len(to.shape(node.input[0]))
    given = attributes(node).get("perm")
    order = tuple(range(rank))[::-1] if given is None else tuple(int(axis) for axis in given)
    if order == tuple(range(rank)):
        to.same(node.output[0], view)
    elif rank == 4 and (view.layout, order) == (Layout.LAST, TO_NCHW):
        to.same(node.output[0], View(view.tensor, Layout.FIRST))
    elif rank == 4 and (view.layout, order) == (Layout.FIRST, TO_NHWC):
        to.same(node.output[0], View(view.tensor, Layout.LAST))
    else:
        raise Unsupported(f"it orders the axes as {list(order)}")
