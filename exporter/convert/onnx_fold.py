"""Fold what an ONNX file computes from constants and shapes alone.

onnxsim does this and more, but importing it costs seconds where PyTorch is
installed. Files that only need folding are spared that; `adopt` turns to onnxsim
when a reader is still at a loss.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from exporter.convert.onnx_file import infer_shapes, opset_of, shapes_of

Values = dict[str, npt.NDArray[Any]]

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
           "Multinomial", "Bernoulli"}  # fmt: skip
_LARGEST = 64 * 2**20  # elements; nothing larger is worth storing


def fold_constants(model: onnx.ModelProto, origin: str) -> onnx.ModelProto:
    """A model without nodes that depend on constants and fixed shapes only.

    Args:
        model: with inferred shapes; it is changed in place.
        origin: its name in error messages.

    Raises:
        ShapesError: the sizes of the model's tensors contradict each other.
    """
    while True:
        changed = _constants_to_initializers(model.graph)
        changed |= _shapes_to_initializers(model)
        changed |= _run_constant_nodes(model)
        changed |= _merge_reshapes(model.graph, shapes_of(model))
        if not changed:
            return model
        del model.graph.value_info[:]
        model = infer_shapes(model, origin)


def constants_of(model: onnx.ModelProto) -> Values:
    """All initializers and Constant nodes by name."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = _constant_value(node)
    return values


def _constant_value(node: onnx.NodeProto) -> npt.NDArray[Any]:
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    return np.asarray(value)


def _replace(graph: onnx.GraphProto, found: Values, gone: set[int]) -> bool:
    """Store values as initializers and drop the nodes with these positions."""
    if not gone:
        return False
    _keep(graph.node, [n for position, n in enumerate(graph.node) if position not in gone])
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in found.items())
    return True


def _constants_to_initializers(graph: onnx.GraphProto) -> bool:
    found: Values = {}
    gone = set()
    for position, node in enumerate(graph.node):
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            continue
        value = _constant_value(node)
        if value.dtype.kind in "fiub":
            found[node.output[0]] = value
            gone.add(position)
    return _replace(graph, found, gone)


def _shapes_to_initializers(model: onnx.ModelProto) -> bool:
    """Shape and Size of tensors whose shape is fixed."""
    shapes = shapes_of(model)
    found: Values = {}
    gone = set()
    for position, node in enumerate(model.graph.node):
        shape = shapes.get(node.input[0]) if node.op_type in ("Shape", "Size") else None
        if shape is None or not all(isinstance(size, int) for size in shape):
            continue
        sizes = np.array(shape, np.int64)
        if node.op_type == "Size":
            found[node.output[0]] = np.array(np.prod(sizes), np.int64)
        else:
            cut = {a.name: a.i for a in node.attribute}
            found[node.output[0]] = sizes[cut.get("start", 0) : cut.get("end", len(sizes))]
        gone.add(position)
    return _replace(model.graph, found, gone)


def _run_constant_nodes(model: onnx.ModelProto) -> bool:
    """Run every node whose inputs are all constant, at once, in onnxruntime."""
    graph = model.graph
    shapes = shapes_of(model)
    fixed = {tensor.name for tensor in graph.initializer}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    chosen: list[int] = []
    for position, node in enumerate(graph.node):
        if _can_run(node, fixed, shapes):
            chosen.append(position)
            fixed.update(node.output)
    if not chosen:
        return False
    inside = [graph.node[position] for position in chosen]
    made = [name for node in inside for name in node.output if name]
    needed = {name for node in inside for name in node.input}
    outside = {
        name
        for position, node in enumerate(graph.node)
        if position not in set(chosen)
        for name in node.input
    } | {value.name for value in graph.output}
    wanted = [name for name in made if name in outside]
    found = _run(model, inside, [weights[n] for n in sorted(needed) if n in weights], wanted)
    return _replace(graph, found, set(chosen))


def _can_run(
    node: onnx.NodeProto, fixed: set[str], shapes: dict[str, tuple[int | str, ...]]
) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM:
        return False
    if any(attribute.HasField("g") for attribute in node.attribute):
        return False
    small = all(
        np.prod([size for size in shapes.get(name, ()) if isinstance(size, int)]) <= _LARGEST
        for name in node.output
    )
    return small and all(name in fixed for name in node.input if name)


_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def _merge_reshapes(graph: onnx.GraphProto, shapes: dict[str, tuple[int | str, ...]]) -> bool:
    """Let a reshape that follows reshapes read what the first of them read.

    before: x -> Reshape -> Gather(0, 1, 2, ...) -> Flatten -> y
    after:  x -> Reshape -> y

    A Gather of all elements in their order is what torch's exporter writes for the
    strides of a channels-last tensor.
    """
    values = {tensor.name: tensor for tensor in graph.initializer}
    roots: dict[str, str] = {}
    changed = False
    for node in graph.node:
        if node.op_type not in _RESHAPES and not _takes_all(node, values, shapes):
            continue
        root = roots.get(node.input[0])
        roots[node.output[0]] = root or node.input[0]
        shape = shapes.get(node.output[0], ("?",))
        if (root is None and node.op_type != "Gather") or not all(
            isinstance(size, int) for size in shape
        ):
            continue
        target = node.output[0] + "/shape"
        graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), target))
        node.CopyFrom(
            helper.make_node(
                "Reshape", [root or node.input[0], target], [node.output[0]], node.name
            )
        )
        changed = True
    if changed:
        drop_unused(graph)
    return changed


def _takes_all(
    node: onnx.NodeProto,
    values: dict[str, onnx.TensorProto],
    shapes: dict[str, tuple[int | str, ...]],
) -> bool:
    if node.op_type != "Gather" or node.domain not in ("", "ai.onnx"):
        return False
    length = shapes.get(node.input[0], ())
    if len(length) != 1 or node.input[1] not in values:
        return False
    indices = numpy_helper.to_array(values[node.input[1]])
    return indices.size == length[0] and np.array_equal(indices.ravel(), np.arange(indices.size))


def drop_unused(graph: onnx.GraphProto) -> None:
    """Take out nodes and initializers that no output depends on."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            needed.update(_captured(node))
            kept.append(node)
    _keep(graph.node, kept[::-1])
    _keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def _captured(node: onnx.NodeProto) -> set[str]:
    """Outer tensors that a node's subgraphs read."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {
        name for graph in inner for part in graph.node for name in {*part.input, *_captured(part)}
    }


def _keep(field: Any, kept: list[Any]) -> None:
    places = {id(part) for part in kept}
    for place in reversed([i for i, part in enumerate(field) if id(part) not in places]):
        del field[place]


def _run(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    wanted: list[str],
) -> Values:
    if not wanted:
        return {}
    import onnxruntime

    outputs = [onnx.ValueInfoProto(name=name) for name in wanted]
    body = helper.make_graph(nodes, "constants", [], outputs, initializers)
    part = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", opset_of(model))],
        ir_version=min(model.ir_version or 8, 10),
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        part.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(wanted, session.run(wanted, {}), strict=True))


def simplify(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """onnxsim's result; None where it fails on the model.

    Its own notes in the metadata are left for `strip` to take out.
    """
    import onnxsim

    with quiet():
        try:
            simple, sound = onnxsim.simplify(model)
        except (RuntimeError, ValueError):
            return None
    return simple if sound else None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch's exporter and onnxsim print and log; errors are raised all the same."""
    chatter = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in chatter]
    try:
        for logger in chatter:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(chatter, levels, strict=True):
            logger.setLevel(level)
