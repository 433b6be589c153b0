"""One MIL operation as the evaluator's handlers see it: every input has to be read.

A handler asks an `Operation` for its operands (tensors) and settings (constants) by
name and returns the function that computes its result. Whatever the file gives the
operation and the handler did not ask for is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.values import FLOATS, Constant, Storage, TensorType, read_type

Array = npt.NDArray[Any]
Compute = Callable[..., Array]
Handler = Callable[["Operation"], Compute]
_MISSING = object()


@dataclass(frozen=True)
class Entry:
    """One kind of operation: its handler and the first opset that has it."""

    handler: Handler
    since: int


HANDLERS: dict[str, Entry] = {}


def handles(*kinds: str, since: int = 5) -> Callable[[Handler], Handler]:
    """Register a handler for MIL operation types; `since` is the N of opset 'CoreMLN'."""

    def register(handler: Handler) -> Handler:
        for kind in kinds:
            HANDLERS[kind] = Entry(handler, since)
        return handler

    return register


class Operation:
    """One operation of a program.

    Args:
        message: the `MILSpec.Operation`.
        types: types of all tensors known so far, by name.
        constants: those of them whose value is known.
        storage: reads values.
        opset: the N of the function's opset 'CoreMLN'.

    Attributes:
        operands: names of the tensors that the handler asked for, in that order.
        result: element type of the result; that of the first operand unless
            the handler says otherwise.
    """

    def __init__(
        self, message: Any, types: Mapping[str, TensorType],
        constants: Mapping[str, Constant], storage: Storage, opset: int,
    ) -> None:  # fmt: skip
        self.kind: str = message.type
        self.opset = opset
        self.name = name_of(message)
        self._types, self._constants, self._storage = types, constants, storage
        self._inputs = dict(message.inputs)
        self._attributes = {key: v for key, v in message.attributes.items() if key != "name"}
        twice = sorted(set(self._inputs) & set(self._attributes))
        if twice or message.blocks:
            raise self.error(f"it has nested blocks or gives {twice} twice")
        self._asked: set[str] = set()
        self._read_constants: set[str] = set()
        self.operands: list[str] = []
        self.result: str | None = None

    def error(self, why: str) -> CoreMLFileError:
        return CoreMLFileError(f"The operation {self.name!r} ({self.kind}) is not sound.", why)

    def has(self, name: str) -> bool:
        return name in self._inputs or name in self._attributes

    def tensor(self, name: str, dtypes: tuple[str, ...] = FLOATS) -> TensorType:
        """Declare one operand, float unless told otherwise, for the compute function."""
        found = self.tensors(name, dtypes)
        if len(found) != 1:
            raise self.error(f"its input {name!r} has {len(found)} tensors")
        return found[0]

    def tensors(self, name: str, dtypes: tuple[str, ...] = FLOATS) -> list[TensorType]:
        """Declare a list of operands of one element type, one of those given."""
        self._asked.add(name)
        if name not in self._inputs:
            raise self.error(f"it lacks the input {name!r}")
        found = []
        for binding in self._inputs[name].arguments:
            if binding.WhichOneof("binding") != "name":
                raise self.error(f"its input {name!r} is no tensor")
            if binding.name not in self._types:
                raise self.error(f"it reads {binding.name!r}, which nothing before it has made")
            kind = self._types[binding.name]
            if kind.dtype not in dtypes:
                wanted = "float" if dtypes is FLOATS else " or ".join(dtypes)
                raise self.error(f"its input {name!r} is {kind}, not a {wanted} tensor")
            if self.result is None:
                self.result = kind.dtype
            elif self.result != kind.dtype:
                raise self.error(f"its input {name!r} is {kind.dtype}, others are {self.result}")
            self._read_constants.add(binding.name)
            self.operands.append(binding.name)
            found.append(kind)
        return found

    def constant(self, name: str) -> Constant | None:
        """The value of a setting; None where the file leaves it out."""
        self._asked.add(name)
        where = f"{name!r} of {self.name!r} ({self.kind})"
        if name in self._attributes:
            return self._storage.constant(self._attributes[name], where)
        if name not in self._inputs:
            return None
        bindings = self._inputs[name].arguments
        if len(bindings) != 1:
            raise self.error(f"its input {name!r} has {len(bindings)} values")
        if bindings[0].WhichOneof("binding") == "value":
            return self._storage.constant(bindings[0].value, where)
        if bindings[0].name not in self._constants:
            raise self.error(f"its input {name!r} is {bindings[0].name!r}, which is no constant")
        self._read_constants.add(bindings[0].name)
        return self._constants[bindings[0].name]

    def array(self, name: str, *dtypes: str) -> Constant:
        """A constant tensor that must be there, of one of the given element types."""
        found = self.constant(name)
        if found is None:
            raise self.error(f"it lacks {name!r}")
        if found.type.dtype not in dtypes or not isinstance(found.value, np.ndarray):
            raise self.error(f"its {name!r} is {found.type}, not {' or '.join(dtypes)}")
        return found

    def weights(self, name: str, rank: int) -> Array | None:
        """A constant float tensor of the operands' element type; None if left out."""
        if not self.has(name):
            return None
        found = self.array(name, self.result or "")
        if len(found.type.shape) != rank:
            raise self.error(f"its {name!r} is {found.type}, not of rank {rank}")
        return found.value

    def number(self, name: str, default: float | None = None) -> float:
        """A constant scalar of the operands' element type."""
        if default is not None and not self.has(name):
            return default
        found = self.array(name, self.result or "")
        if found.type.shape:
            raise self.error(f"its {name!r} is {found.type}, not a scalar")
        return float(found.value)

    def integers(
        self, name: str, default: tuple[int, ...] | None = None, length: int | None = None
    ) -> tuple[int, ...]:
        """A constant int32 vector, or a scalar as a vector of one."""
        if default is not None and not self.has(name):
            return default
        found = self.array(name, "int32")
        values = tuple(int(v) for v in found.value.reshape(-1))
        if len(found.type.shape) > 1 or (length is not None and len(values) != length):
            raise self.error(f"its {name!r} is {found.type}, length {length} is expected")
        return values

    def integer(self, name: str, default: int | None = None) -> int:
        return self.integers(name, None if default is None else (default,), 1)[0]

    def flag(self, name: str, default: bool | None = None) -> bool:
        if default is not None and not self.has(name):
            return default
        return bool(self.array(name, "bool").value)

    def flags(self, name: str, length: int) -> tuple[bool, ...]:
        """A constant bool vector; all False if left out."""
        if not self.has(name):
            return (False,) * length
        found = self.array(name, "bool")
        if found.type.shape != (length,):
            raise self.error(f"its {name!r} is {found.type}, length {length} is expected")
        return tuple(bool(value) for value in found.value)

    def text(self, name: str, default: Any = _MISSING) -> str:
        found = self.constant(name)
        if found is None and default is not _MISSING:
            return default
        if found is None or not isinstance(found.value, str):
            raise self.error(f"its {name!r} is no string")
        return found.value

    def finish(self) -> set[str]:
        """Raise for whatever the file gives that was not read; return the tensors read.

        Raises:
            CoreMLFileError: the operation has an input or attribute that nothing read.
        """
        unread = sorted((set(self._inputs) | set(self._attributes)) - self._asked)
        if unread:
            raise self.error(
                f"it gives {', '.join(unread)}, which the evaluator does not read: "
                "what is ignored may change the result"
            )
        return self._read_constants


def name_of(message: Any) -> str:
    """The operation's own name, else that of its first output."""
    if "name" in message.attributes:
        return message.attributes["name"].immediateValue.tensor.strings.values[0]
    return message.outputs[0].name if message.outputs else "?"


def output_type(message: Any) -> tuple[str, TensorType]:
    """Name and declared type of an operation's only output.

    Raises:
        CoreMLFileError: it has another number of outputs.
    """
    if len(message.outputs) != 1:
        raise CoreMLFileError(
            f"The operation {name_of(message)!r} ({message.type}) has "
            f"{len(message.outputs)} outputs."
        )
    output = message.outputs[0]
    return output.name, read_type(output.type, f"The output {output.name!r}")
