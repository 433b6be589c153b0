"""Operators that move or rename values: reshaping, padding, joining, cutting, transposes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import onnx
from onnx import TensorProto

from exporter.convert.graph import ChannelShuffle, Concat, Pad, Reshape, Shape, Slice
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

_SHUFFLES = {Layout.FIRST: (0, 2, 1, 3, 4), Layout.LAST: (0, 1, 2, 4, 3)}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


@reads("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(node: onnx.NodeProto, to: Reading) -> None:
    """Whatever it is called: nothing, flattening to `[1, n]`, or half of a channel shuffle."""
    view = to.any_view(node.input[0])
    before, after = to.shape(node.input[0]), to.shape(node.output[0])
    if before == after:
        to.same(node.output[0], view)
        return
    if view.groups > 1:
        _joined(node, to, view)
        return
    if len(before) == 4 and (groups := _groups(before, after, view.layout)):
        to.same(node.output[0], replace(view, groups=groups))
        return
    if len(after) != 2 or after[0] != 1:
        raise Unsupported(
            f"it turns {list(before)} into {list(after)}; known is flattening to [1, n]"
        )
    to.add(_flattening(node, view.tensor, view.layout))


def _flattening(node: onnx.NodeProto, tensor: str, layout: Layout) -> Reshape:
    return Reshape(
        name=node.name,
        inputs=(tensor,),
        output=node.output[0],
        channels_last=layout is Layout.LAST,
    )


def _groups(before: Shape, after: Shape, layout: Layout) -> int:
    """Into how many groups a reshape splits the channels; 0 where it does something else."""
    at = 1 if layout is Layout.FIRST else 3
    if len(after) != 5 or after[at] < 2:
        return 0
    split = (*before[:at], after[at], before[at] // after[at], *before[at + 1 :])
    return after[at] if split == after else 0


def _joined(node: onnx.NodeProto, to: Reading, view: View) -> None:
    """The reshape that ends a channel shuffle.

    x -> Reshape [1, g, C / g, H, W] -> Transpose (2nd and 3rd axis) -> Reshape [1, C, H, W]

    onnxsim joins the last with a flattening behind it: then both nodes are made.
    """
    whole = to.shapes[view.tensor]
    if view.layout is Layout.LAST:
        whole = tuple(whole[axis] for axis in TO_NHWC)
    made = to.shape(node.output[0])
    flat = made == (1, math.prod(whole))
    if made != whole and not flat:
        raise Unsupported("it puts groups of channels together in a shape of its own")
    name = f"{node.output[0]}/shuffled" if flat else node.output[0]
    shuffle = ChannelShuffle(
        name=name if flat else node.name, inputs=(view.tensor,), output=name, groups=view.groups
    )
    if flat:
        shape = to.shapes[view.tensor]
        source = to.add_inner(shuffle, shape) if view.shuffled else view.tensor
        to.add(_flattening(node, source, view.layout))
    elif view.shuffled:
        to.add(shuffle, view.layout)
    else:
        to.same(node.output[0], View(view.tensor, view.layout))


@reads("Split")
def _split(node: onnx.NodeProto, to: Reading) -> None:
    """One Slice for each part; their sizes are those of the outputs."""
    axis = int(attributes(node).get("axis", 0)) % len(to.shape(node.input[0]))
    start = 0
    for output in node.output:
        if not output:
            raise Unsupported("one of its outputs has no name")
        stop = start + to.shape(output)[axis]
        _cut(node, to, output, {axis: (start, stop)})
        start = stop


@reads("Slice")
def _slice(node: onnx.NodeProto, to: Reading) -> None:
    """Constant bounds and steps of 1; attributes up to opset 9, inputs since."""
    shape = to.shape(node.input[0])
    starts = integers(node, to, "starts", 1) or ()
    stops = integers(node, to, "ends", 2) or ()
    given = integers(node, to, "axes", 3)
    axes = tuple(range(len(starts))) if given is None else given
    steps = integers(node, to, "steps", 4)
    if steps is not None and any(step != 1 for step in steps):
        raise Unsupported(f"its steps are {list(steps)}, only 1 is known")
    spans = {}
    for axis, *bounds in zip(axes, starts, stops, strict=True):
        size = shape[axis % len(shape)]
        start, stop = (min(max(b + size if b < 0 else b, 0), size) for b in bounds)
        spans[axis % len(shape)] = (start, stop)
    _cut(node, to, node.output[0], spans)


def _cut(
    node: onnx.NodeProto, to: Reading, output: str, spans: Mapping[int, tuple[int, int]]
) -> None:
    """Take `start <= index < stop` along some axes of the file's tensor, one Slice each."""
    view = to.view(node.input[0])
    shape = list(to.shapes[view.tensor])
    last = len(shape) == 4 and view.layout is Layout.LAST
    wanted = {TO_NHWC[axis] if last else axis: span for axis, span in spans.items()}
    cuts = [(axis, span) for axis, span in wanted.items() if span != (0, shape[axis])]
    tensor = view.tensor
    if not cuts:
        to.same(output, view)
    for position, (axis, (start, stop)) in enumerate(cuts):
        if start >= stop:
            raise Unsupported("nothing is left of it")
        final = position == len(cuts) - 1
        cut = Slice(
            name=node.name if len(node.output) == 1 else output,
            inputs=(tensor,),
            output=output if final else f"{output}/axis{axis}",
            axis=axis,
            start=start,
            stop=stop,
        )
        shape[axis] = stop - start
        if final:
            to.add(cut, view.layout)
        else:
            tensor = to.add_inner(cut, tuple(shape))


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
    view = to.any_view(node.input[0])
    rank = len(to.shape(node.input[0]))
    given = attributes(node).get("perm")
    order = tuple(range(rank))[::-1] if given is None else tuple(int(axis) for axis in given)
    if order == tuple(range(rank)):
        to.same(node.output[0], view)
    elif view.groups > 1:
        if order != _SHUFFLES[view.layout] or view.shuffled:
            raise Unsupported(f"it orders the axes of channels in groups as {list(order)}")
        to.same(node.output[0], replace(view, shuffled=True))
    elif rank == 4 and (view.layout, order) == (Layout.LAST, TO_NCHW):
        to.same(node.output[0], View(view.tensor, Layout.FIRST))
    elif rank == 4 and (view.layout, order) == (Layout.FIRST, TO_NHWC):
        to.same(node.output[0], View(view.tensor, Layout.LAST))
    else:
        raise Unsupported(f"it orders the axes as {list(order)}")
