"""The protobuf messages of Core ML, without the rest of coremltools.

`import coremltools` imports its converters, and those import torch and TensorFlow
where they are installed, which takes seconds. The messages alone take 0.06 s.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from models.errors import MissingExtraError

_PACKAGE = "coremltools"
_MODULE = "coremltools.proto.Model_pb2"


def installed() -> bool:
    """Whether coremltools can be found, without importing it."""
    return _PACKAGE in sys.modules or importlib.util.find_spec(_PACKAGE) is not None


def model_messages() -> ModuleType:
    """The module that holds the message class `Model` and, through it, all others.

    A bare stand-in for the package, with nothing but its search path, lets the
    import system find `coremltools.proto` without running `coremltools/__init__`.
    The stand-in is taken away again, so that a later `import coremltools` runs the
    real one; it finds the message modules loaded and uses the same classes.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    if _MODULE in sys.modules:
        return sys.modules[_MODULE]
    if _PACKAGE in sys.modules:
        return importlib.import_module(_MODULE)
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(_PACKAGE, "coreml", "Reading a Core ML file")
    stand_in = ModuleType(_PACKAGE)
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = stand_in
    try:
        return importlib.import_module(_MODULE)
    finally:
        del sys.modules[_PACKAGE]


def refuse_unknown_fields(message: Any, where: str) -> None:
    """Reject protobuf fields that these message classes have no name for.

    Protobuf keeps them silently, so whatever a newer schema says with them would
    go unread.

    Raises:
        CoreMLFileError: there is one.
    """
    from google.protobuf import unknown_fields

    read: Any = unknown_fields.UnknownFieldSet  # an iterable that its stubs do not know as one

    for owner, inner in _messages(message, where):
        unknown = sorted({field.field_number for field in read(inner)})
        if unknown:
            raise CoreMLFileError(
                f"{owner} has fields that are not known here: numbers {unknown}.",
                "a field that is not understood may change what the file means",
                "update coremltools, or export the model again",
            )


def _messages(message: Any, where: str) -> Iterator[tuple[str, Any]]:
    yield where, message
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        name = f"{where}.{field.name}"
        if field.message_type.GetOptions().map_entry:
            value_field = field.message_type.fields_by_name["value"]
            inner = list(value.values()) if value_field.type == field.TYPE_MESSAGE else []
        elif isinstance(value, type(message)) or hasattr(value, "ListFields"):
            inner = [value]
        else:
            inner = list(value)
        for item in inner:
            yield from _messages(item, name)


class Fields:
    """A message whose every field that is set has to be read.

    Nested messages are read with `sub`; `finish` raises for whatever was left.
    """

    def __init__(self, message: Any, where: str) -> None:
        self.message = message
        self.where = where
        self._read: set[str] = set()
        self._children: list[Fields] = []

    def take(self, name: str) -> Any:
        """The value of a field, its default where it is not set."""
        self._read.add(name)
        return getattr(self.message, name)

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A repeated integer field, or the default where it is empty."""
        return tuple(int(value) for value in self.take(name)) or default

    def sub(self, name: str) -> Fields:
        """A nested message, whose fields have to be read too."""
        child = Fields(self.take(name), f"{self.where}.{name}")
        self._children.append(child)
        return child

    def choice(self, oneof: str) -> str | None:
        """Which member of a oneof is set; the member itself has yet to be read."""
        return self.message.WhichOneof(oneof)

    def finish(self) -> None:
        """Raise when a field is set that nothing read.

        Raises:
            CoreMLFileError: there is one.
        """
        found = {field.name for field, _ in self.message.ListFields()}
        unread = sorted(found - self._read)
        if unread:
            raise CoreMLFileError(
                f"{self.where} sets {', '.join(unread)}, which the evaluator does not read.",
                "what is ignored may change the result",
            )
        for child in self._children:
            child.finish()
