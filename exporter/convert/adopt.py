"""Any other ONNX classifier becomes a `model.onnx`: raw pixels in, probabilities out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.convert.adopt_checks import (
    AdoptError,
    check_contracts,
    check_graph,
    check_normalization,
)
from exporter.convert.from_onnx import check_operators, graph_of
from exporter.convert.graph import Graph
from exporter.convert.onnx_file import (
    ShapesError,
    check_model,
    contract_of,
    copy_whole,
    element_type,
    infer_shapes,
    load_model,
    real_inputs,
    save_model,
    set_contract,
    shapes_of,
    strip,
)
from exporter.convert.onnx_fold import drop_unused, fold_constants, simplify
from exporter.convert.unsupported import UnsupportedOperatorsError
from models.contract import INPUT_NAME, LUMA, OUTPUT_NAME, Contract

_INPUT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)
_OLDEST_IR = 7  # since IR 4 weights need not be inputs; all runtimes of today read 7


def adopt_onnx(source: Path, contract: Contract, path: Path) -> None:
    """Write an ONNX classifier that came in as `model.onnx`.

    A `model.onnx` of ours passes through, byte for byte where its contract is the one
    given. Any other gets the cast, the normalization and the output activation that
    the contract names around it; its own weights and operators stay as they are.

    Args:
        source: one input, a picture as float NCHW or NHWC or as uint8, of batch 1, N or
            dynamic; one output `[batch, classes]`, logits or probabilities. A float
            model takes pixels that were normalized as the contract says; a uint8 model
            normalizes inside.
        contract: what the file takes and gives.
        path: the file to write.

    Raises:
        OnnxFileError: the file is missing, damaged, or has weights that are not finite.
        AdoptError: file and contract do not fit: size, class count, activation,
            normalization, a dynamic dimension other than the batch.
        UnsupportedOperatorsError: operators that no target can write, all of them.
    """
    origin = str(source)
    model = load_model(source)
    embedded = contract_of(model, origin)
    if embedded is not None and _takes_pixels(model):
        check_contracts(embedded, contract, origin)
        check_model(model, origin)
        if embedded == contract:
            check_graph(graph_of(infer_shapes(model, origin), origin), contract, origin)
            copy_whole(source, path)
            return
    wrapped = _wrapped(_prepared(model, origin), contract, origin)
    strip(wrapped)
    set_contract(wrapped, contract)
    wrapped, graph = _readable(infer_shapes(wrapped, origin), origin)
    check_graph(graph, contract, origin)
    check_normalization(graph, contract, origin, inside=_takes_pixels(model))
    set_contract(wrapped, contract)
    check_model(wrapped, origin)
    save_model(wrapped, path)


def _takes_pixels(model: onnx.ModelProto) -> bool:
    inputs = real_inputs(model.graph)
    return len(inputs) == 1 and element_type(inputs[0]) == TensorProto.UINT8


def _prepared(model: onnx.ModelProto, origin: str) -> onnx.ModelProto:
    """The model with batch 1, all shapes known, and nothing computed from constants."""
    if model.functions:
        import onnx.inliner

        model = onnx.inliner.inline_local_functions(model)
    check_operators(model, origin)
    graph = model.graph
    inputs = real_inputs(graph)
    if len(inputs) != 1 or len(graph.output) != 1:
        counted = f"{len(inputs)} input(s) and {len(graph.output)} output(s)"
        raise AdoptError(
            f"{origin} has {counted}.",
            "an image classifier takes one picture and gives one row of scores",
            "export the model with these two alone (auxiliary heads are for training)",
        )
    picture = inputs[0]
    del graph.input[:]
    graph.input.append(picture)
    model.ir_version = max(model.ir_version, _OLDEST_IR)
    _fix_batch(graph.input[0], origin)
    del graph.value_info[:]
    graph.output[0].type.tensor_type.ClearField("shape")
    try:
        model = fold_constants(infer_shapes(model, origin), origin)
    except ShapesError as error:
        raise AdoptError(
            f"{origin} does not work with one picture at a time.",
            error.why,
            "export the model with batch 1",
        ) from error
    drop_unused(model.graph)
    return model


def _fix_batch(picture: onnx.ValueInfoProto, origin: str) -> None:
    """Make the batch 1; every other dimension has to be a number."""
    dimensions = picture.type.tensor_type.shape.dim
    shown = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dimensions]
    if element_type(picture) not in _INPUT_TYPES:
        kind = TensorProto.DataType.Name(element_type(picture))
        raise AdoptError(
            f"The input {picture.name!r} of {origin} is of type {kind}.",
            "pictures come as float32, float16 or uint8; no runtime here convolves other types",
            "export the model with a float32 input",
        )
    if len(dimensions) != 4:
        raise AdoptError(
            f"The input {picture.name!r} of {origin} has the shape {shown}.",
            "a picture has four axes: batch, channels, height, width",
            "export the model with such an input",
        )
    dynamic = [axis for axis in (1, 2, 3) if not isinstance(shown[axis], int)]
    if dynamic:
        raise AdoptError(
            f"The input {picture.name!r} of {origin} has the shape {shown}.",
            f"axis {', '.join(map(str, dynamic))} is dynamic; a file for a phone has one fixed "
            "size, and only the batch can be fixed without knowing the model",
            "export the model with fixed height, width and channels",
        )
    dimensions[0].Clear()
    dimensions[0].dim_value = 1


def _wrapped(model: onnx.ModelProto, contract: Contract, origin: str) -> onnx.ModelProto:
    """Pixels before the model, probabilities behind it."""
    graph = model.graph
    activation = _final_activation(graph, contract, origin)
    front = _front(graph, contract, origin)
    back = _back(model, activation, contract, origin)
    body = [*front, *(onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node), *back]
    del graph.node[:]
    graph.node.extend(body)
    rule = contract.preprocessing
    del graph.input[:]
    del graph.output[:]
    graph.input.append(
        helper.make_tensor_value_info(
            INPUT_NAME, TensorProto.UINT8, [1, rule.height, rule.width, 3]
        )
    )
    graph.output.append(
        helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [1, len(contract.labels)])
    )
    del graph.value_info[:]
    return model


def _front(graph: onnx.GraphProto, contract: Contract, origin: str) -> list[onnx.NodeProto]:
    """From uint8 NHWC pixels to what the model takes: cast, transpose, normalize."""
    picture = graph.input[0]
    kind = element_type(picture)
    last = _channels_last(picture, contract, origin)
    inner = _fresh(graph, "model_input")
    _rename(graph, picture.name, inner)
    _rename(graph, INPUT_NAME, _fresh(graph, "inner_image"))
    normalization = contract.preprocessing.normalization
    gray = contract.preprocessing.grayscale
    nhwc = last and not gray  # what is weighed to one channel is convolved, as NCHW
    nodes: list[onnx.NodeProto] = []

    def then(operator: str, *operands: str, **attributes: object) -> None:
        source = nodes[-1].output[0] if nodes else INPUT_NAME
        output = f"{INPUT_NAME}/{operator.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(operator, [source, *operands], [output], **attributes))

    def with_constant(operator: str, values: tuple[float, ...], neutral: float) -> None:
        if any(value != neutral for value in values):
            then(operator, constant(operator, values, (1, 1, 1, 3) if nhwc else (1, 3, 1, 1)))

    def constant(operator: str, values: tuple[float, ...], shape: tuple[int, ...]) -> str:
        name = _fresh(graph, f"{INPUT_NAME}/{operator.lower()}_by")
        array = np.array(values, np.float32).reshape(shape)
        graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    if not nhwc:
        then("Transpose", perm=[0, 3, 1, 2])
    if kind != TensorProto.UINT8:
        then("Cast", to=TensorProto.FLOAT)
        with_constant("Sub", normalization.mean, 0.0)
        with_constant("Div", normalization.std, 1.0)
        if gray:
            then("Conv", constant("Conv", LUMA, (1, 3, 1, 1)))
        if gray and last:
            then("Transpose", perm=[0, 2, 3, 1])
        if kind != TensorProto.FLOAT:
            then("Cast", to=kind)
    if not nodes:
        _rename(graph, inner, INPUT_NAME)
        return []
    nodes[-1].output[0] = inner
    return nodes


def _channels_last(picture: onnx.ValueInfoProto, contract: Contract, origin: str) -> bool:
    shape = [d.dim_value for d in picture.type.tensor_type.shape.dim]
    rule = contract.preprocessing
    channels = 1 if rule.grayscale else 3
    if channels not in (shape[1], shape[3]):
        raise AdoptError(
            f"The input {picture.name!r} of {origin} has the shape {shape}.",
            f"the contract says {'grayscale' if rule.grayscale else 'RGB'}, and neither its "
            f"second nor its last axis has {channels} channel(s)",
            "only models of RGB pictures, or with input.grayscale: true in the contract of one "
            "channel, can be exported",
        )
    if rule.grayscale and element_type(picture) == TensorProto.UINT8:
        raise AdoptError(
            f"The input {picture.name!r} of {origin} is one channel of type uint8.",
            "colours are weighed to one channel as floats, after the normalization",
            "export the model with a float32 input",
        )
    last = shape[1] != channels
    size = (shape[1], shape[2]) if last else (shape[2], shape[3])
    if size != (rule.height, rule.width):
        raise AdoptError(
            f"{origin} takes pictures of {size[0]} x {size[1]} pixels, "
            f"the contract says {rule.height} x {rule.width}.",
            "an app that reads the contract would feed it the wrong size",
            "correct input.height and input.width in the contract",
        )
    return last


_PASSING = ("Identity", "Reshape", "Flatten", "Squeeze", "Cast", "Dropout")
_ENDS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}


def _final_activation(graph: onnx.GraphProto, contract: Contract, origin: str) -> str | None:
    """The operator that still has to be put at the end, None where it is there.

    A LogSoftmax at the end becomes a Softmax: its exponential is the same.
    """
    producers = {name: node for node in graph.node for name in node.output}
    last = producers.get(graph.output[0].name)
    while last is not None and last.op_type in _PASSING:
        last = producers.get(last.input[0])
    wanted = {"softmax": "Softmax", "sigmoid": "Sigmoid"}[contract.activation]
    found = None if last is None else _ENDS.get(last.op_type)
    if last is None or found is None:
        return wanted
    if found != contract.activation:
        raise AdoptError(
            f"{origin} ends in {last.op_type}, the contract says {contract.activation}.",
            "applying one after the other would give scores that mean nothing",
            f"write output.activation: {found} into the contract, or export without {last.op_type}",
        )
    if last.op_type == "LogSoftmax":
        last.op_type = "Softmax"
    return None


def _back(
    model: onnx.ModelProto, activation: str | None, contract: Contract, origin: str
) -> list[onnx.NodeProto]:
    """From what the model gives to float32 `[1, classes]` probabilities."""
    graph = model.graph
    output = graph.output[0]
    shape = shapes_of(model).get(output.name, ())
    flat = len(shape) == 2
    single = len(shape) > 2 and sum(size != 1 for size in shape) <= 1
    if not shape or shape[0] != 1 or not (flat or single):
        raise AdoptError(
            f"The output {output.name!r} of {origin} has the shape {list(shape)}.",
            "a classifier gives one row of scores, [1, classes]",
            "export the model with that output",
        )
    count = int(np.prod([int(size) for size in shape]))
    if count != len(contract.labels):
        raise AdoptError(
            f"{origin} gives {count} scores, the contract has {len(contract.labels)} labels.",
            "every score needs the name of its class",
            "list all classes in the contract, in the order of the model's outputs",
        )
    kind = element_type(output)
    inner = _fresh(graph, "model_output")
    _rename(graph, output.name, inner)
    _rename(graph, OUTPUT_NAME, _fresh(graph, "inner_probabilities"))
    steps: list[tuple[str, dict[str, int]]] = []
    if kind != TensorProto.FLOAT:
        steps.append(("Cast", {"to": TensorProto.FLOAT}))
    if not flat:
        steps.append(("Flatten", {"axis": 1}))
    if activation is not None:
        steps.append((activation, {"axis": 1} if activation == "Softmax" else {}))
    nodes = []
    for position, (operator, attributes) in enumerate(steps):
        result = f"{OUTPUT_NAME}/{operator.lower()}_{position}"
        nodes.append(helper.make_node(operator, [inner], [result], **attributes))
        inner = result
    if nodes:
        nodes[-1].output[0] = OUTPUT_NAME
    else:
        _rename(graph, inner, OUTPUT_NAME)
    return nodes


def _fresh(graph: onnx.GraphProto, name: str) -> str:
    """A tensor name that the graph does not use yet."""
    taken = {tensor.name for tensor in graph.initializer} | {graph.input[0].name}
    for node in graph.node:
        taken.update(node.output)
    while name in taken:
        name += "_"
    return name


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a tensor wherever it is made or read, in subgraphs too."""
    for tensor in graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, old, new)


def _readable(model: onnx.ModelProto, origin: str) -> tuple[onnx.ModelProto, Graph]:
    """The model and its graph; onnxsim is asked only where the readers are at a loss."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    try:
        return model, graph_of(copy, origin)
    except UnsupportedOperatorsError as error:
        simple = simplify(model)
        if simple is None:
            raise
        try:
            strip(simple)
            simple = fold_constants(infer_shapes(simple, origin), origin)
            copy = onnx.ModelProto.FromString(simple.SerializeToString())
            return simple, graph_of(copy, origin)
        except UnsupportedOperatorsError as still:
            raise still from error
