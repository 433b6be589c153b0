"""From `model.onnx` to the graph that every target is written from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from exporter.convert.graph import (
    Add,
    BatchNorm,
    Graph,
    GraphInput,
    Mul,
    Node,
    Normalize,
    Sub,
    affine_of,
)
from exporter.convert.onnx_file import (
    OnnxFileError,
    element_type,
    infer_shapes,
    load_model,
    real_inputs,
    shapes_of,
)
from exporter.convert.onnx_fold import constants_of, fold_constants
from exporter.convert.onnx_readers import READERS, Layout, Reading, Unsupported, View
from exporter.convert.unsupported import Offender, UnsupportedOperatorsError

__all__ = ["Offender", "UnsupportedOperatorsError", "graph_of", "read_graph"]

_OWN = ("", "ai.onnx")  # the names of ONNX's own domain


def read_graph(path: Path) -> Graph:
    """Read an ONNX file from pixels to probabilities.

    The input is uint8 NHWC `[1, H, W, 3]` (as in every `model.onnx`) or float
    NCHW `[1, C, H, W]`; the cast, the transpose and the normalization at its front
    become the graph's input and one `Normalize`.

    Raises:
        OnnxFileError: the file is missing, damaged, or not of this form.
        UnsupportedOperatorsError: all nodes that cannot be read.
    """
    model = load_model(path)
    check_operators(model, str(path))
    return graph_of(infer_shapes(model, str(path)), str(path))


def check_operators(model: onnx.ModelProto, origin: str) -> None:
    """Refuse a model with operators that ONNX does not define, before shapes are inferred.

    Raises:
        UnsupportedOperatorsError: there are such; those of ONNX's own that have no
            reader are listed with them.
    """
    computed = {value.name for value in real_inputs(model.graph)}
    offenders, foreign = [], False
    for node in _live(model.graph):
        if not computed.intersection(node.input) or node.op_type in ("Shape", "Size"):
            continue
        computed.update(node.output)
        try:
            _check_known(node)
        except Unsupported as reason:
            offenders.append(Offender(node.name or node.output[0], _operator(node), str(reason)))
            foreign |= node.domain not in _OWN or not onnx.defs.has(node.op_type)
    if foreign:
        raise UnsupportedOperatorsError(origin, tuple(offenders), READERS)


def graph_of(model: onnx.ModelProto, origin: str) -> Graph:
    """`read_graph` of a model in memory, with inferred shapes; it may be changed.

    Raises:
        see `read_graph`.
    """
    model = fold_constants(model, origin)
    source = _source(model, origin)
    output = _output(model, origin)
    reading = Reading(source, constants_of(model), shapes_of(model))
    offenders: list[Offender] = []
    for node in _live(model.graph):
        if node.op_type == "Constant" and not node.domain:
            continue
        try:
            _read(node, reading)
        except Unsupported as reason:
            offenders.append(Offender(node.name or node.output[0], _operator(node), str(reason)))
            _place_holders(node, reading)
    if offenders:
        raise UnsupportedOperatorsError(origin, tuple(offenders), READERS)
    shape = reading.shapes[source.tensor]
    return _with_normalization(
        Graph(
            input=GraphInput(source.tensor, shape),
            output=reading.view(output).tensor,
            nodes=_named_once(reading.nodes),
            shapes=reading.shapes,
            constants=reading.constants,
        )
    )


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in _OWN else f"{node.domain}.{node.op_type}"


def _check_known(node: onnx.NodeProto) -> None:
    if node.domain not in _OWN:
        raise Unsupported("it is not one of ONNX's own operators")
    if node.op_type not in READERS:
        raise Unsupported("no target can write this operator")


def _read(node: onnx.NodeProto, reading: Reading) -> None:
    _check_known(node)
    if any(name in reading.unread for name in node.input):
        reading.unread.update(node.output)
        return
    READERS[node.op_type](node, reading)


def _place_holders(node: onnx.NodeProto, reading: Reading) -> None:
    """Let the nodes behind one that failed be looked at too."""
    for name in node.output:
        try:
            reading.add(Node(name=node.name, inputs=(), output=name))
        except Unsupported:
            reading.unread.add(name)


def _source(model: onnx.ModelProto, origin: str) -> View:
    inputs = real_inputs(model.graph)
    if len(inputs) != 1:
        raise OnnxFileError(
            f"{origin} has {len(inputs)} inputs: {', '.join(value.name for value in inputs)}.",
            "an image classifier takes one picture",
            "export the model with the picture as its only input",
        )
    shape = shapes_of(model).get(inputs[0].name, ())
    if len(shape) != 4 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise OnnxFileError(
            f"The input of {origin} has the shape {list(shape)}.",
            "a picture has four axes, all of fixed size",
            "export the model with a fixed input of batch 1",
        )
    last = element_type(inputs[0]) == onnx.TensorProto.UINT8
    return View(inputs[0].name, Layout.LAST if last else Layout.FIRST)


def _output(model: onnx.ModelProto, origin: str) -> str:
    names = [value.name for value in model.graph.output]
    if len(names) != 1:
        raise OnnxFileError(
            f"{origin} has {len(names)} outputs: {', '.join(names)}.",
            "a classifier gives one row of scores",
            "export the model with that output alone (auxiliary heads are for training)",
        )
    return names[0]


def _live(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that the output depends on, in order."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _named_once(nodes: list[Node]) -> tuple[Node, ...]:
    """Nodes without a name get that of their output; a name that is taken gets a mark."""
    taken: set[str] = set()
    named = []
    for node in nodes:
        name = node.name or node.output
        while name in taken:
            name += "_"
        taken.add(name)
        named.append(node if name == node.name else replace(node, name=name))
    return tuple(named)


def _with_normalization(graph: Graph) -> Graph:
    """Read what is added to and multiplied with the pixels as one Normalize.

    before: pixels -> Sub(mean) -> Mul(1 / std) -> ...   (any chain of Add, Sub, Mul, BatchNorm)
    after:  pixels -> Normalize(mean, 1 / std) -> ...
    """
    channels = graph.input.shape[1]
    scale, shift = np.ones(channels), np.zeros(channels)
    tensor, chain = graph.input.name, []
    while tensor != graph.output and len(readers := graph.consumers(tensor)) == 1:
        step = _affine(graph, readers[0], channels)
        if step is None or not (step[0] != 0).all():
            break
        scale, shift = scale * step[0], shift * step[0] + step[1]
        chain.append(readers[0])
        tensor = readers[0].output
    mean = (-shift / scale).astype(np.float32)
    if not chain or not np.isfinite(mean).all():
        return graph
    normalize = Normalize(
        name=chain[-1].name,
        inputs=(graph.input.name,),
        output=tensor,
        mean=mean,
        scale=scale.astype(np.float32),
    )
    rest = tuple(node for node in graph.nodes if node not in chain)
    gone = {node.output for node in chain[:-1]}
    used = {name for node in rest for name in node.inputs}
    return replace(
        graph,
        nodes=(normalize, *rest),
        shapes={name: shape for name, shape in graph.shapes.items() if name not in gone},
        constants={name: value for name, value in graph.constants.items() if name in used},
    )


Vector = npt.NDArray[np.float64]


def _affine(graph: Graph, node: Node, channels: int) -> tuple[Vector, Vector] | None:
    """A node as `x * scale[c] + shift[c]`, None where it is something else."""
    if isinstance(node, BatchNorm):
        return node.scale.astype(np.float64), node.shift.astype(np.float64)
    if not isinstance(node, Add | Sub | Mul) or node.inputs[0] == node.inputs[1]:
        return None
    position = 0 if node.inputs[0] in graph.constants else 1
    constant = graph.constants.get(node.inputs[position])
    if constant is None or constant.shape[2:] != (1, 1) or constant.shape[0] != 1:
        return None
    values = np.broadcast_to(constant.reshape(-1), (channels,)).astype(np.float64)
    return affine_of(node, position, values)
