"""Take out of a SavedModel what differs from one process to the next.

TensorFlow numbers functions with a counter of the process, lists them in the
order of a hash table and draws a random identifier for `fingerprint.pb`. The
functions are renumbered and sorted, and the fingerprint, which is optional and
would no longer match, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exporter.convert.targets.saved_model.held_back import HeldBack


def make_reproducible(folder: Path, held: HeldBack | None = None) -> None:
    """Rewrite `saved_model.pb` so that the same model gives the same bytes.

    Args:
        held: weights to put back.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(path.read_bytes())
    for graph in model.meta_graphs:
        _rename_functions(graph)
        if held is not None:
            held.put_back(graph)
    path.write_bytes(model.SerializeToString(deterministic=True))
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def _rename_functions(graph: Any) -> None:
    """Give functions the numbers 0, 1, ... in the order of their names without one."""
    library = graph.graph_def.library
    old = sorted((f.signature.name for f in library.function), key=_order)
    new = {name: f"{_stem(name)}_{number}" for number, name in enumerate(old)}

    for node in graph.graph_def.node:
        _rename_in_attributes(node.attr.values(), new)
    for function in library.function:
        function.signature.name = new[function.signature.name]
        for node in function.node_def:
            _rename_in_attributes(node.attr.values(), new)
    library.function.sort(key=lambda function: function.signature.name)

    objects = graph.object_graph_def
    for node in objects.nodes:
        kind = node.WhichOneof("kind")
        if kind == "function":
            renamed = [new[name] for name in node.function.concrete_functions]
            node.function.concrete_functions[:] = renamed
        elif kind == "bare_concrete_function":
            bare = node.bare_concrete_function
            bare.concrete_function_name = new[bare.concrete_function_name]
    signatures = {new[name]: _copy(value) for name, value in objects.concrete_functions.items()}
    objects.concrete_functions.clear()
    for name, value in signatures.items():
        objects.concrete_functions[name].CopyFrom(value)


def _copy(message: Any) -> Any:
    duplicate = type(message)()
    duplicate.CopyFrom(message)
    return duplicate


def _rename_in_attributes(attributes: Iterable[Any], new: dict[str, str]) -> None:
    for value in attributes:
        if value.HasField("func"):
            value.func.name = new.get(value.func.name, value.func.name)


def _stem(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _order(name: str) -> tuple[str, int]:
    """By stem; functions of one stem in the order in which they were made."""
    return _stem(name), int(name.rpartition("_")[2]) if name != _stem(name) else 0
