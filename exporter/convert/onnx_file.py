"""ONNX files on disk: opened with clear errors, written with the same bytes each time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from models.contract import Contract
from models.errors import UserError

OPSET = 18  # what torch's exporter writes without converting versions; the only place it is said
OLDEST_OPSET = 7  # below it, Add and Mul do not broadcast as NumPy does
_PRODUCER = "exporter"
_LARGE = 2**21  # values of a weight that is kept out of copies
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


class OnnxFileError(UserError):
    """An ONNX file that cannot be used as it is."""


class ShapesError(OnnxFileError):
    """The sizes of a model's tensors contradict each other, or cannot be known."""


def load_model(path: Path) -> onnx.ModelProto:
    """Open an ONNX file with all its weights.

    Weights in files beside it (external data) are read too; nothing above the
    model's own folder is.

    Raises:
        OnnxFileError: missing, no ONNX model, cut short, external data missing,
            an opset too old, or weights that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise OnnxFileError(f"{path} does not exist.", "", "check the path of the ONNX file")
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except DecodeError as error:
        raise OnnxFileError(
            f"{path} is not an ONNX model.",
            f"it cannot be parsed: {error} (another kind of file, or cut short)",
            "copy it again from where it came, or export it again",
        ) from error
    if not model.opset_import or not model.graph.output:
        raise OnnxFileError(
            f"{path} is not an ONNX model.",
            "it names no operator set and no output",
            "copy it again from where it came, or export it again",
        )
    _load_external(model, path)
    _check_opset(model, path)
    _check_finite(model, path)
    return model


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent.resolve()))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise OnnxFileError(
            f"{path} keeps its weights in a file beside it that cannot be read.",
            _first_line(error),
            "keep both files in one folder, or save the model with all weights in one file",
        ) from error


def _check_opset(model: onnx.ModelProto, path: Path) -> None:
    found = opset_of(model)
    if found < OLDEST_OPSET:
        raise OnnxFileError(
            f"{path} uses ONNX opset {found}.",
            f"this exporter reads opset {OLDEST_OPSET} and later",
            "convert it with onnx.version_converter.convert_version(model, 13)",
        )


def _check_finite(model: onnx.ModelProto, path: Path) -> None:
    broken = []
    for tensor in model.graph.initializer:
        if tensor.data_type in _FLOATS and not np.isfinite(numpy_helper.to_array(tensor)).all():
            broken.append(tensor.name)
    if broken:
        raise OnnxFileError(
            f"{path} holds weights that are not finite: {listed(broken)}.",
            "a NaN or an infinity there makes every answer NaN",
            "train again with a lower learning rate, or take an earlier checkpoint",
        )


def check_model(model: onnx.ModelProto, origin: str) -> None:
    """onnx.checker's full check: every operator against its schema, shapes inferred.

    Raises:
        OnnxFileError: the check fails.
    """
    for tensor in model.graph.initializer:
        if _is_large(tensor) and len(tensor.raw_data) != math.prod(tensor.dims) * _width(tensor):
            raise OnnxFileError(
                f"{origin} does not pass ONNX's own checks.",
                f"{tensor.name} holds {len(tensor.raw_data)} bytes, its shape says otherwise",
                "export it again, with a newer version of the library that wrote it",
            )
    try:
        onnx.checker.check_model(_without_large(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise OnnxFileError(
            f"{origin} does not pass ONNX's own checks.",
            _first_line(error),
            "export it again, with a newer version of the library that wrote it",
        ) from error


def infer_shapes(model: onnx.ModelProto, origin: str) -> onnx.ModelProto:
    """The model with the shape of every tensor that can be known.

    It is a copy, but for one with large weights, which is changed itself: their numbers
    decide no shape, and copying half a gigabyte there and back takes seconds.

    Raises:
        ShapesError: the sizes of the model's own tensors contradict each other.
    """
    light = _without_large(model)
    try:
        found = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
        if light is model:
            return found
        for kind in ("node", "value_info", "output"):
            known = getattr(model.graph, kind)
            del known[:]
            known.extend(getattr(found.graph, kind))
        return model
    except onnx.shape_inference.InferenceError as error:
        raise ShapesError(
            f"The tensor sizes in {origin} contradict each other.",
            _first_line(error),
            "export the model again with a fixed input of batch 1",
        ) from error


def _is_large(tensor: onnx.TensorProto) -> bool:
    return (
        tensor.data_type in _FLOATS
        and tensor.HasField("raw_data")
        and math.prod(tensor.dims) >= _LARGE
    )


def _width(tensor: onnx.TensorProto) -> int:
    """Bytes of an element."""
    return int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _without_large(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with inputs in place of large float weights; the model itself if it has none.

    onnx's functions are given serialized models, and those end at 2 GB.
    """
    graph = model.graph
    large = {tensor.name for tensor in graph.initializer if _is_large(tensor)}
    if not large or any(attribute.HasField("g") for n in graph.node for attribute in n.attribute):
        return model
    body = onnx.GraphProto(name=graph.name, doc_string=graph.doc_string)
    for kind in ("node", "input", "output", "value_info"):
        getattr(body, kind).extend(getattr(graph, kind))
    given = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in large:
            body.initializer.append(tensor)
        elif tensor.name not in given:
            body.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return onnx.helper.make_model(
        body,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=model.functions,
    )


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """Every known tensor's shape; a symbolic or unknown dimension is a string."""
    graph = model.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    found = {
        value.name: tuple(_dimensions(value))
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
    found.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    return found


def _dimensions(value: onnx.ValueInfoProto) -> Iterable[int | str]:
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.HasField("dim_value"):
            yield dimension.dim_value
        else:
            yield dimension.dim_param or "?"


def element_type(value: onnx.ValueInfoProto) -> int:
    """The element type (an `onnx.TensorProto.DataType`) of an input or output."""
    return int(value.type.tensor_type.elem_type)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model uses."""
    return max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0)


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are not weights (older files list their weights as inputs too)."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The file's metadata_props."""
    return {entry.key: entry.value for entry in model.metadata_props}


def contract_of(model: onnx.ModelProto, origin: str) -> Contract | None:
    """The contract in the metadata, None where there is none.

    Raises:
        ContractError: there is one that cannot be used.
    """
    text = metadata(model).get("contract")
    return None if text is None else Contract.loads(text, f"the contract inside {origin}")


def set_contract(model: onnx.ModelProto, contract: Contract) -> None:
    """Make the contract and the label names (one a line) the model's only metadata."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(
        model, {"contract": contract.dumps(), "labels": "\n".join(contract.names)}
    )


def strip(model: onnx.ModelProto) -> None:
    """Take out what says where and how a model was made: traces, paths, dates, producers.

    Nodes without a name, or with one that is taken, get `operator_position`.
    """
    model.producer_name, model.producer_version = _PRODUCER, ""
    model.doc_string, model.domain, model.model_version = "", "", 0
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "classifier", ""
    del graph.metadata_props[:]
    del graph.quantization_annotation[:]
    taken: set[str] = set()
    for position, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{position}"
        taken.add(node.name)
    parts: list[Any] = [*graph.node, *graph.initializer, *graph.value_info]
    for part in [*parts, *graph.input, *graph.output]:
        part.doc_string = ""
        del part.metadata_props[:]


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, the same bytes for the same model."""
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file byte for byte; weights that it keeps in files beside it go into the copy.

    Raises:
        OnnxFileError: see `load_model`.
    """
    light = onnx.load_model(str(source), load_external_data=False)
    if any(external_data_helper.uses_external_data(t) for t in light.graph.initializer):
        save_model(load_model(source), target)
    else:
        shutil.copyfile(source, target)


def listed(names: Iterable[str], most: int = 8) -> str:
    """The first few names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
