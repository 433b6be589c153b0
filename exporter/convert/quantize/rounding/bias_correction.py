"""Bias correction: take the typical error of each output channel out of its bias.

Rounded weights and inputs shift the mean of a layer's output, channel by channel, and
such a shift adds up over positions and layers where noise would average out (Nagel et
al. 2019, Data-Free Quantization, section 4.2; here measured on images, as in its
appendix, and in order: each layer sees the quantized, already corrected ones before it).
Theirs is the mean over all images. Here it is the median over images of each image's
mean error: ranges that clip rare large values leave the images that hold such values
with large errors, and these drag a mean away from all others (MobileNetV2, 32 images:
10.7 dB of logit SQNR with the mean, 19.8 uncorrected, 22.1 with the median).

The float and the int8 graph run side by side in one onnxruntime model over one batch:

    float:  x  -> Conv ----------------+
                                       | error -> mean over H, W -> median over images
    int8:   x' -> Conv' -> uncorrected-+---------> + -> activation -> round -> ...

so that one pass corrects all layers. Both are compared before the fused activation,
where the bias acts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from exporter.convert.evaluate import to_feed, to_onnx_model
from exporter.convert.graph import Conv, Dense, Fused, Graph
from exporter.convert.held_weights import Weights
from exporter.convert.quantize.plan import QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.rounding.weights import BIAS_LIMIT
from exporter.convert.quantize.simulate import dequantized_graph, insert_rounding, open_session

FEWEST_IMAGES = 8  # with fewer, the noise of those images outweighs what is corrected
_MOST_IMAGES = 32
_MEMORY = 2**30
_MOST_WORK = 2**37  # multiply-adds of all images together: 8 of VGG16's, 32 of ResNet50's
_LIVE_TENSORS = 6  # of the largest size, alive at a time on both sides together
_FLOAT = "float:"
_MEDIAN = ("median/images", "median/begin", "median/end", "median/axis")


def correct_biases(
    graph: Graph, plan: QuantizationPlan, images: Sequence[npt.NDArray[np.uint8]]
) -> QuantizationPlan:
    """The plan with corrected biases; nothing else changes.

    Args:
        graph: what the plan was made for.
        plan: with ranges and rounded weights.
        images: uint8 `[H, W, 3]`; all are in memory at once, and so are the tensors
            that are in use at a time: see `image_limit`.
    """
    layers = [n for n in graph.nodes if isinstance(n, Conv | Dense) and n.name in plan.weights]
    if not layers or not images:
        return plan
    held: Weights = {}
    model = _side_by_side(graph, plan, layers, len(images), held)
    session = open_session(model, held=held)
    feed = np.concatenate([to_feed(graph.input, image) for image in images])
    found = session.run([_shift(node) for node in layers], {graph.input.name: feed})
    weights = dict(plan.weights)
    for node, shift in zip(layers, found, strict=True):
        step = plan.activations[node.inputs[0]].scale
        weights[node.name] = _shifted(plan.weights[node.name], shift.reshape(-1), step)
    return replace(plan, weights=weights)


def image_limit(graph: Graph) -> int:
    """How many images to correct with: 32, or fewer where they would not fit in 1 GB.

    Fewer too, though 8, where a network has so many multiply-adds (VGG16: 15 billion an
    image) that each candidate would take minutes.
    """
    largest = max(math.prod(shape) for shape in graph.shapes.values()) * 4
    work = sum(
        math.prod(graph.shapes[node.output]) * node.weight[0].size
        for node in graph.nodes
        if isinstance(node, Conv | Dense)
    )
    most = min(_MEMORY // (_LIVE_TENSORS * largest), _MOST_WORK // max(work, 1))
    return int(min(_MOST_IMAGES, max(FEWEST_IMAGES, most)))


def _shifted(
    old: QuantizedWeights, shift: npt.NDArray[np.float32], source_scale: float
) -> QuantizedWeights:
    steps = np.rint(shift / (source_scale * old.scales.astype(np.float64)))
    bias = np.clip(old.bias + steps, -BIAS_LIMIT, BIAS_LIMIT)
    return replace(old, bias=bias.astype(np.int32))


def _raw(node: Conv | Dense) -> str:
    """The name `to_onnx_model` gives to a layer's result before its activation."""
    return node.output if node.fused is Fused.NONE else f"{node.output}/raw"


def _shift(node: Conv | Dense) -> str:
    return f"{node.output}/shift"


def _side_by_side(
    graph: Graph,
    plan: QuantizationPlan,
    layers: Sequence[Conv | Dense],
    images: int,
    held: Weights,
) -> onnx.ModelProto:
    """One model that gives the shift of each layer, `[1, C, 1, 1]` or `[1, out]`."""
    pixels = graph.input.name
    apart: Weights = {}
    reference = _prefixed(to_onnx_model(graph, [graph.logits], apart), keep=pixels)
    held.update({_FLOAT + name: value for name, value in apart.items()})
    model = to_onnx_model(dequantized_graph(graph, plan), [graph.logits], held)
    body = model.graph
    # in step with each other, so that few tensors of either side are alive at a time
    pairs = zip(reference.graph.node, body.node, strict=True)
    merged = [copy for pair in pairs for copy in map(_copied, pair)]
    body.initializer.extend(reference.graph.initializer)
    _replace_nodes(body, _corrected(merged, {_raw(node): node for node in layers}))
    _add_median_constants(body, images)
    insert_rounding(model, plan, {pixels}, graph)
    del body.output[:]
    body.output.extend(
        helper.make_tensor_value_info(_shift(node), onnx.TensorProto.FLOAT, None) for node in layers
    )
    body.input[0].type.tensor_type.shape.dim[0].dim_param = "images"
    return model


def _prefixed(model: onnx.ModelProto, keep: str) -> onnx.ModelProto:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = name if name == keep else _FLOAT + name
    for initializer in model.graph.initializer:
        initializer.name = _FLOAT + initializer.name
    return model


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _replace_nodes(body: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    del body.node[:]
    body.node.extend(nodes)


def _add_median_constants(body: onnx.GraphProto, images: int) -> None:
    """Where the middle one or two of `images` sorted values begin and end."""
    for name, value in zip(_MEDIAN, (images, (images - 1) // 2, images // 2 + 1, 0), strict=True):
        body.initializer.append(numpy_helper.from_array(np.asarray([value], np.int64), name))


def _corrected(
    nodes: Sequence[onnx.NodeProto], layers: Mapping[str, Conv | Dense]
) -> list[onnx.NodeProto]:
    """The nodes with each layer's result moved by its shift."""
    count, begin, end, axis = _MEDIAN
    found = []
    for node in nodes:
        found.append(node)
        made = node.output[0]
        if made not in layers:
            continue
        layer = layers[made]
        node.output[0] = before = f"{made}/uncorrected"
        shift = _shift(layer)
        error, each, ordered, ranks, middle = (
            f"{made}/{what}" for what in ("error", "each", "ordered", "ranks", "middle")
        )
        found.append(helper.make_node("Sub", [_FLOAT + made, before], [error]))
        if isinstance(layer, Conv):
            found.append(helper.make_node("ReduceMean", [error], [each], axes=[2, 3]))
        else:
            each = error
        found += [
            helper.make_node("TopK", [each, count], [ordered, ranks], axis=0),
            helper.make_node("Slice", [ordered, begin, end, axis], [middle]),
            helper.make_node("ReduceMean", [middle], [shift], axes=[0]),
            helper.make_node("Add", [before, shift], [made]),
        ]
    return found
