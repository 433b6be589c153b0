"""Pooling, over windows and over the whole picture."""

from __future__ import annotations

from typing import Any

import onnx

from exporter.convert.graph import AveragePool, GlobalAveragePool, MaxPool, Padding, Pair
from exporter.convert.onnx_readers.registry import (
    Layout,
    Reading,
    Unsupported,
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
        if given.get("count_include_pad", 0):
            raise Unsupported("ceil_mode and count_include_pad together")
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
    to.add(
        AveragePool(
            name=node.name,
            inputs=(source,),
            output=node.output[0],
            kernel=kernel,
            strides=strides,
            padding=pads,
            include_padding=bool(given.get("count_include_pad", 0)) and any(pads),
        )
    )


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


@reads("ReduceMean")
def _reduce_mean(node: onnx.NodeProto, to: Reading) -> None:
    """The mean over height and width; other axes are not known."""
    view = to.view(node.input[0])
    rank = len(to.shapes[view.tensor])
    axes = integers(node, to, "axes", 1)
    spatial = {2, 3} if view.layout is Layout.FIRST else {1, 2}
    if rank != 4 or axes is None or {axis % rank for axis in axes} != spatial:
        raise Unsupported(f"it works along the axes {axes} of {rank}; known are height and width")
    keep = bool(attributes(node).get("keepdims", 1))
    to.add(
        GlobalAveragePool(
            name=node.name, inputs=(view.tensor,), output=node.output[0], keep_dims=keep
        ),
        view.layout if keep else Layout.FIRST,
    )
