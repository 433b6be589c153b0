"""Evaluate the ML program that a `.mlpackage` holds.

This computes what the file says, not what Apple's kernels do with it. Each
operation's result is computed in float32 (sums too) and then rounded to the element
type that the file declares for it, so a float16 program is rounded after each
operation; the Neural Engine may accumulate, fuse and order things otherwise.

Strictness is what makes the result evidence: an operation that is not known, an
input that nothing reads, a declared type or shape that is not the computed one, a
weight that nothing uses or an output that the description lacks is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.prove.runtimes.coreml import program_constexpr, program_ops, program_quantize
from exporter.prove.runtimes.coreml.description import Description
from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.kernels import Array
from exporter.prove.runtimes.coreml.lifetimes import last_uses
from exporter.prove.runtimes.coreml.operation import (
    HANDLERS,
    Compute,
    Operation,
    name_of,
    output_type,
)
from exporter.prove.runtimes.coreml.package import ModelFile
from exporter.prove.runtimes.coreml.values import (
    Constant,
    Storage,
    TensorType,
    read_type,
    to_precision,
)

OPERATION_MODULES = (
    program_ops,
    program_constexpr,
    program_quantize,
)  # importing them fills HANDLERS
_FUNCTION = "main"
_PROGRAM_NOTES = {"buildInfo"}  # says who wrote the file, changes nothing
_SELECTING = frozenset(  # they give values that they were given, so there is nothing to round
    [
        "clip",
        "relu",
        "relu6",
        "max_pool",
        "maximum",
        "minimum",
        "concat",
        "reshape",
        "squeeze",
        "expand_dims",
        "transpose",
        "slice_by_index",
        "pad",
        "identity",
        "classify",
    ]
)
SPECIFICATION_OF_OPSET = {  # the oldest specification version that may hold each opset
    "CoreML5": 6,  # iOS 15
    "CoreML6": 7,  # iOS 16
    "CoreML7": 8,  # iOS 17
    "CoreML8": 9,  # iOS 18
    "CoreML9": 10,  # iOS 26
}


@dataclass(frozen=True, eq=False)
class _Step:
    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    type: TensorType
    compute: Compute

    def run(self, values: Mapping[str, Any]) -> Any:
        where = f"The operation {self.name!r} ({self.kind})"
        try:
            result = np.asarray(self.compute(*(values[name] for name in self.inputs)))
        except (ValueError, IndexError, TypeError) as error:
            raise CoreMLFileError(f"{where} cannot be computed.", str(error)) from error
        if result.shape != self.type.shape:
            raise CoreMLFileError(
                f"{where} is declared to give {list(self.type.shape)}, it gives "
                f"{list(result.shape)}."
            )
        return result if self.kind in _SELECTING else to_precision(result, self.type.dtype)


class Program:
    """A checked program.

    Attributes:
        labels: the class labels of its `classify` operation; None without one.
        classes: how many probabilities it gives.

    Raises:
        CoreMLFileError: any rule of this module is broken.
    """

    def __init__(self, model: ModelFile, description: Description) -> None:
        self.labels: tuple[str, ...] | None = None
        self._probabilities = description.probabilities
        self._image = description.image.name
        self._types: dict[str, TensorType] = {}
        self._constants: dict[str, Constant] = {}
        self._steps: list[_Step] = []
        self._read: set[str] = set()
        self._storage = Storage(model)
        block, self._opset = _main_block(model.spec)
        self._declare_input(model.spec.mlProgram.functions[_FUNCTION], description)
        _refuse_unknown(block.operations, self._opset)
        for message in block.operations:
            self._add(message, description)
        self._finish(set(block.outputs), description)
        self.classes = self._types[self._probabilities].size

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the probabilities."""
        return self._types[self._probabilities].shape

    def run(self, planes: Array) -> Array:
        """Planes `[1, 3, H, W]` float32, 0..255, to float32 `[classes]`."""
        values: dict[str, Any] = {key: c.value for key, c in self._constants.items()}
        values[self._image] = planes
        for step in self._steps:
            values[step.output] = step.run(values)
            for name in self._last_use.get(step.output, ()):
                del values[name]
        return np.asarray(values[self._probabilities], np.float32).reshape(-1)

    def _declare_input(self, function: Any, description: Description) -> None:
        image = description.image
        expected = TensorType("float32", (1, 3, image.height, image.width))
        inputs = {i.name: read_type(i.type, f"The input {i.name!r}") for i in function.inputs}
        if inputs != {image.name: expected}:
            found = ", ".join(f"{name} {kind}" for name, kind in inputs.items())
            raise CoreMLFileError(
                f"The description hands over {image.name} {expected}; the program takes {found}."
            )
        self._types[image.name] = expected

    def _add(self, message: Any, description: Description) -> None:
        if message.type == "const":
            self._add_const(message)
        elif message.type == "classify":
            self._add_classify(message, description)
        else:
            self._add_operation(message)

    def _define(self, name: str, kind: TensorType) -> None:
        if name in self._types:
            raise CoreMLFileError(f"The program makes {name!r} twice.")
        self._types[name] = kind

    def _add_const(self, message: Any) -> None:
        name, declared = output_type(message)
        if set(message.attributes) - {"name"} != {"val"} or message.inputs or message.blocks:
            raise CoreMLFileError(f"The constant {name!r} has more or less than a value.")
        constant = self._storage.constant(message.attributes["val"], f"The constant {name!r}")
        if constant.type != declared or isinstance(constant.value, tuple):
            raise CoreMLFileError(
                f"The constant {name!r} is declared {declared}, its value is {constant.type}."
            )
        self._define(name, declared)
        self._constants[name] = constant

    def _operation(self, message: Any) -> Operation:
        return Operation(message, self._types, self._constants, self._storage, self._opset)

    def _add_operation(self, message: Any) -> None:
        op = self._operation(message)
        try:
            compute = HANDLERS[op.kind].handler(op)
        except (ValueError, IndexError) as error:
            raise op.error(str(error)) from error
        self._read |= op.finish()
        name, declared = output_type(message)
        if op.result != declared.dtype:
            raise op.error(f"its result is declared {declared.dtype}, it is {op.result}")
        self._define(name, declared)
        step = _Step(op.name, op.kind, tuple(op.operands), name, declared, compute)
        if all(operand in self._constants for operand in step.inputs):
            known = {operand: self._constants[operand].value for operand in step.inputs}
            self._constants[name] = Constant(declared, step.run(known))
        else:
            self._steps.append(step)

    def _add_classify(self, message: Any, description: Description) -> None:
        op = self._operation(message)
        if self.labels is not None:
            raise op.error("the program has a second one")
        kind = op.tensor("probabilities")
        classes = op.constant("classes")
        if classes is None or not isinstance(classes.value, tuple):
            raise op.error("its classes are no list of names")
        if kind.dtype != "float32":
            raise op.error(f"its probabilities are {kind}, it takes float32")
        if kind.size != len(classes.value):
            raise op.error(f"it has {len(classes.value)} classes and {kind.size} probabilities")
        self._read |= op.finish()
        outputs = [output.name for output in message.outputs]
        if outputs != [description.label, description.probabilities]:
            raise op.error(
                f"it gives {outputs}, the description predicts "
                f"{[description.label, description.probabilities]}"
            )
        _check_classify_types(op, message.outputs)
        self.labels = classes.value
        self._define(outputs[0], TensorType("string", ()))
        self._define(outputs[1], kind)
        self._steps.append(
            _Step(op.name, op.kind, tuple(op.operands), outputs[1], kind, lambda x: x)
        )

    def _finish(self, outputs: set[str], description: Description) -> None:
        if outputs != description.outputs:
            raise CoreMLFileError(
                f"The program gives {sorted(outputs)}, the description says "
                f"{sorted(description.outputs)}."
            )
        missing = sorted(outputs - set(self._types))
        if missing or (description.label is None) != (self.labels is None):
            raise CoreMLFileError(
                f"The program has no operation for its outputs {missing or sorted(outputs)}."
            )
        unread = sorted(set(self._types) - self._read - outputs)
        if unread:
            raise CoreMLFileError(
                f"The program makes or is given {', '.join(unread[:5])}, which nothing reads.",
                "what is not used means that something else is used in its place",
            )
        self._storage.finish()
        operands = {name for step in self._steps for name in step.inputs}
        self._constants = {n: c for n, c in self._constants.items() if n in operands}
        self._last_use = last_uses(self._steps, set(self._constants) | outputs)


def _main_block(spec: Any) -> tuple[Any, int]:
    program = spec.mlProgram
    if program.version != 1 or set(program.attributes) - _PROGRAM_NOTES:
        raise CoreMLFileError(
            f"The program has version {program.version} and the attributes "
            f"{sorted(program.attributes)}."
        )
    if list(program.functions) != [_FUNCTION]:
        raise CoreMLFileError(f"The program has the functions {sorted(program.functions)}.")
    function = program.functions[_FUNCTION]
    opset = function.opset
    if opset not in SPECIFICATION_OF_OPSET:
        raise CoreMLFileError(
            f"The program is written in the opset {opset!r}.",
            "known: " + ", ".join(SPECIFICATION_OF_OPSET),
        )
    needed = SPECIFICATION_OF_OPSET[opset]
    if spec.specificationVersion < needed:
        raise CoreMLFileError(
            f"The file has specification version {spec.specificationVersion}.",
            f"its opset {opset} needs version {needed} at least",
        )
    if list(function.block_specializations) != [opset] or function.attributes:
        raise CoreMLFileError(
            f"The program is specialized for {sorted(function.block_specializations)}, "
            f"its opset is {opset}."
        )
    block = function.block_specializations[opset]
    if block.inputs or block.attributes:
        raise CoreMLFileError("The program's block has inputs or attributes of its own.")
    return block, int(opset.removeprefix("CoreML"))


def _refuse_unknown(operations: Any, opset: int) -> None:
    strange: dict[str, list[str]] = {}
    early: dict[str, list[str]] = {}
    for message in operations:
        if message.type in ("const", "classify"):
            continue
        entry = HANDLERS.get(message.type)
        if entry is None:
            strange.setdefault(message.type, []).append(name_of(message))
        elif entry.since > opset:
            early.setdefault(message.type, []).append(name_of(message))
    for found, why in (
        (strange, "operations that the evaluator does not know"),
        (early, f"operations that the opset CoreML{opset} does not have"),
    ):
        if found:
            listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in found.items())
            raise CoreMLFileError(f"The program has {why}.", listed)


def _check_classify_types(op: Operation, outputs: Any) -> None:
    if read_type(outputs[0].type, "The label") != TensorType("string", ()):
        raise op.error("its label is declared as something else than a string")
    kind = outputs[1].type
    if kind.WhichOneof("type") != "dictionaryType":
        raise op.error("its probabilities are declared as something else than a dictionary")
    key = read_type(kind.dictionaryType.keyType, "The dictionary's key")
    value = read_type(kind.dictionaryType.valueType, "The dictionary's value")
    if key.dtype != "string" or value.dtype not in ("float32", "float64"):
        raise op.error(f"its probabilities are declared from {key} to {value}")
