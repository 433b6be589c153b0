"""Pooling, over windows and over the whole picture."""

from __future__ import annotations

from typing import Any

import onnx

from exporter.convert.graph import (
    AveragePool,
    GlobalAveragePool,
    MaxPool,
    Pad,
    Padding,
    Pair,
    Reshape,
)
from exporter.convert.onnx_readers.registry import (
    Layout,
    Reading,
    Unsupported,
    View,
    attributes,
    integers,
    reads,
)
from exporter.convert.onnx_readers.windows import extended, outputs, padding, pair


def _window(
    node: onnx.NodeProto, to: Reading, given: dict[str, Any]
) -> tuple[str, Pair, Pair, Padding]:
    """Input, kernel, strides and a padding under which rounding down gives all outputs."""
    source = to.tensor(node.input[0])
    height, width = to.shapes[source][2:]
    kernel = pair(given.get("kernel_shape"), "kernel")
    strides = pair(given.get("strides"), "strides")
    if pair(given.get("dilations"), "dilations") != (1, 1):
        raise Unsupported("its window is dilated")
    pads = padding(given, (height, width), kernel, strides, (1, 1))
    shape = to.shape(node.output[0])
    wanted = (shape[2], shape[3])
    if wanted != outputs((height, width), kernel, strides, pads):
        pads = extended((height, width), wanted, kernel, strides, pads)  # ceil_mode
        if wanted != outputs((height, width), kernel, strides, pads):
            raise Unsupported("its output has a size that no padding gives")
    if pads[0] >= kernel[0] or pads[2] >= kernel[0] or max(pads[1], pads[3]) >= kernel[1]:
        raise Unsupported("its padding is as wide as its window")
    return source, kernel, strides, pads


@reads("MaxPool")
def _max_pool(node: onnx.NodeProto, to: Reading) -> None:
    if len(node.output) > 1 and node.output[1]:
        raise Unsupported("it gives indices too")
    source, kernel, strides, pads = _window(node, to, attributes(node))
    to.add(
        MaxPool(
            name=node.name,
            inputs=(source,),
            output=node.output[0],
            kernel=kernel,
            strides=strides,
            padding=pads,
        )
    )


@reads("AveragePool")
def _average_pool(node: onnx.NodeProto, to: Reading) -> None:
    given = attributes(node)
    source, kernel, strides, pads = _window(node, to, given)
    counted = bool(given.get("count_include_pad", 0)) and any(pads)
    if counted and given.get("ceil_mode", 0):
        source, pads, counted = _with_counted_padding(node, to, source, pads)
    to.add(
        AveragePool(
            name=node.name,
            inputs=(source,),
            output=node.output[0],
            kernel=kernel,
            strides=strides,
            padding=pads,
            include_padding=counted,
        )
    )


def _with_counted_padding(
    node: onnx.NodeProto, to: Reading, source: str, pads: Padding
) -> tuple[str, Padding, bool]:
    """Of an average pool with ceil_mode and count_include_pad: input, padding, what counts.

    The padding that the file gives counts in the divisor. What rounding up adds at the
    bottom and right does not: torch and onnxruntime divide by the window clipped to the
    picture with its padding. So the former becomes zeros of the picture.
    """
    shape = to.shapes[source]
    given = attributes(node)
    own = padding(
        given,
        (shape[2], shape[3]),
        pair(given.get("kernel_shape"), "kernel"),
        pair(given.get("strides"), "strides"),
        (1, 1),
    )
    extra = (0, 0, pads[2] - own[2], pads[3] - own[3])
    if not any(extra):
        return source, pads, True
    if any(own):
        size = (shape[2] + own[0] + own[2], shape[3] + own[1] + own[3])
        padded = Pad(
            name=f"{node.name or node.output[0]}/padding",
            inputs=(source,),
            output=f"{node.output[0]}/padded",
            padding=own,
        )
        source = to.add_inner(padded, (*shape[:2], *size))
    return source, extra, False


@reads("GlobalMaxPool")
def _global_max_pool(node: onnx.NodeProto, to: Reading) -> None:
    source = to.tensor(node.input[0])
    height, width = to.shapes[source][2:]
    to.add(
        MaxPool(
            name=node.name,
            inputs=(source,),
            output=node.output[0],
            kernel=(height, width),
            strides=(1, 1),
        )
    )


@reads("GlobalAveragePool")
def _global_average_pool(node: onnx.NodeProto, to: Reading) -> None:
    source = to.tensor(node.input[0])
    to.add(GlobalAveragePool(name=node.name, inputs=(source,), output=node.output[0]))


def _over_the_picture(node: onnx.NodeProto, to: Reading) -> tuple[View, bool]:
    """What a reduction over height and width reads, and whether it keeps those axes."""
    view = to.view(node.input[0])
    rank = len(to.shapes[view.tensor])
    axes = integers(node, to, "axes", 1)
    spatial = {2, 3} if view.layout is Layout.FIRST else {1, 2}
    if rank != 4 or axes is None or {axis % rank for axis in axes} != spatial:
        raise Unsupported(f"it works along the axes {axes} of {rank}; known are height and width")
    return view, bool(attributes(node).get("keepdims", 1))


@reads("ReduceMax")
def _reduce_max(node: onnx.NodeProto, to: Reading) -> None:
    """The maximum over height and width; other axes are not known."""
    view, keep = _over_the_picture(node, to)
    _, channels, height, width = to.shapes[view.tensor]
    pool = MaxPool(
        name=node.name,
        inputs=(view.tensor,),
        output=node.output[0] if keep else f"{node.output[0]}/pooled",
        kernel=(height, width),
        strides=(1, 1),
    )
    if keep:
        to.add(pool, view.layout)
        return
    pooled = to.add_inner(pool, (1, channels, 1, 1))
    to.add(Reshape(name=node.name, inputs=(pooled,), output=node.output[0]))


@reads("ReduceMean")
def _reduce_mean(node: onnx.NodeProto, to: Reading) -> None:
    """The mean over height and width; other axes are not known."""
    view, keep = _over_the_picture(node, to)
    to.add(
        GlobalAveragePool(
            name=node.name, inputs=(view.tensor,), output=node.output[0], keep_dims=keep
        ),
        view.layout if keep else Layout.FIRST,
    )
