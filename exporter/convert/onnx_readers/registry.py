"""What every operator's reader shares: the registry, and the state of one reading.

A reader is a function of one ONNX node and a `Reading`; it appends graph nodes, or
says that a tensor is another one under a new name (`same`). A tensor of the ONNX
file is seen through a `View`: a Transpose between channels first and channels last
moves nothing here, it only changes the view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from exporter.convert.graph import Array, Node, Shape

Reader = Callable[[onnx.NodeProto, "Reading"], None]
READERS: dict[str, Reader] = {}
TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)


class Unsupported(Exception):  # noqa: N818 - a reason that is collected, not an error that is shown
    """Why a node cannot be read."""


class Layout(StrEnum):
    """In which order the ONNX file holds a tensor of rank 4; other ranks are FIRST."""

    FIRST = "NCHW"
    LAST = "NHWC"


@dataclass(frozen=True)
class View:
    """A graph tensor as the ONNX file sees it.

    Attributes:
        groups: above 1 where the file has split the axis of the channels into
            `[groups, C / groups]`, the first half of a channel shuffle.
        shuffled: whether it has exchanged those two axes since.
    """

    tensor: str
    layout: Layout = Layout.FIRST
    groups: int = 1
    shuffled: bool = False


def reads(*kinds: str) -> Callable[[Reader], Reader]:
    """Register the reader of one or more operators of ONNX's own domain.

    Raises:
        ValueError: one of them has a reader already.
    """

    def register(reader: Reader) -> Reader:
        for kind in kinds:
            if kind in READERS:
                raise ValueError(f"{kind} has two readers")
            READERS[kind] = reader
        return reader

    return register


class Reading:
    """One ONNX graph on its way to becoming ours.

    Args:
        source: name of the pixels' tensor, and how the file sees them.
        constants: every weight and folded value by ONNX name.
        shapes: inferred shape of every ONNX tensor.
    """

    def __init__(
        self,
        source: View,
        constants: Mapping[str, npt.NDArray[Any]],
        shapes: Mapping[str, tuple[int | str, ...]],
    ) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}
        self.unread: set[str] = set()  # outputs of nodes that could not be read
        self._values = constants
        self._onnx_shapes = shapes
        self._views = {source.tensor: source}
        self.shapes[source.tensor] = self._nchw(source.tensor, source.layout)

    def view(self, name: str) -> View:
        """How a tensor is seen.

        Raises:
            Unsupported: it is a constant, or its channels are split into groups.
        """
        found = self.any_view(name)
        if found.groups > 1:
            raise Unsupported("it works on channels that are split into groups")
        return found

    def any_view(self, name: str) -> View:
        """The same, for readers that know channels in groups.

        Raises:
            Unsupported: it is a constant.
        """
        if name in self._views:
            return self._views[name]
        if name in self._values:
            raise Unsupported(f"its input {name!r} is a constant, a computed tensor is needed")
        raise Unsupported(f"its input {name!r} is not known")

    def tensor(self, name: str) -> str:
        """The graph tensor of an input that has to be channels first.

        Raises:
            Unsupported: it is channels last, or a constant.
        """
        view = self.view(name)
        if view.layout is Layout.LAST:
            raise Unsupported("it works on a channels-last (NHWC) tensor")
        return view.tensor

    def constant(self, name: str, what: str) -> npt.NDArray[Any]:
        """An input that has to be a constant.

        Raises:
            Unsupported: it is computed.
        """
        if name not in self._values:
            raise Unsupported(f"its {what} is computed, a constant is needed")
        return self._values[name]

    def is_constant(self, name: str) -> bool:
        return name in self._values

    def shape(self, name: str) -> Shape:
        """The shape in the ONNX file.

        Raises:
            Unsupported: it is not known or not fixed.
        """
        found = self._onnx_shapes.get(name)
        if found is None or not all(isinstance(size, int) and size > 0 for size in found):
            raise Unsupported(f"the shape of {name!r} is not fixed: {found}")
        return tuple(int(size) for size in found)

    def add(self, node: Node, layout: Layout = Layout.FIRST) -> None:
        """Append a node whose output has the name of the ONNX tensor it stands for."""
        self.shapes[node.output] = self._nchw(node.output, layout)
        self._views[node.output] = View(node.output, layout)
        self.nodes.append(node)

    def add_inner(self, node: Node, shape: Shape) -> str:
        """Append a node whose output the ONNX file does not have."""
        self.shapes[node.output] = shape
        self.nodes.append(node)
        return node.output

    def same(self, output: str, view: View) -> None:
        """`output` is a tensor that is there already."""
        self._views[output] = view

    def operand(self, name: str, values: npt.ArrayLike) -> str:
        """Enter a float32 operand of Add, Sub or Mul; returns its name in the graph."""
        array = weights(np.asarray(values), "operand")
        key = name
        while key in self.constants and not np.array_equal(self.constants[key], array):
            key += "_"
        self.constants[key] = array
        return key

    def _nchw(self, name: str, layout: Layout) -> Shape:
        shape = self.shape(name)
        if len(shape) not in (2, 4) or shape[0] != 1:
            raise Unsupported(
                f"{name!r} has the shape {list(shape)}; only [1, n] and [1, C, H, W] are known"
            )
        if layout is Layout.LAST:
            return tuple(shape[axis] for axis in TO_NCHW)
        return shape


def weights(values: npt.NDArray[Any], what: str) -> Array:
    """Weights of any float type as float32.

    Raises:
        Unsupported: not a float type, or a double too large for float32.
    """
    if values.dtype not in (np.float16, np.float32, np.float64):
        raise Unsupported(f"its {what} is of type {values.dtype}")
    with np.errstate(over="ignore"):
        narrowed = np.ascontiguousarray(values.astype(np.float32, copy=False))
    if not np.isfinite(narrowed).all():
        raise Unsupported(f"its {what} does not fit into float32")
    return narrowed


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values; text as str, tensors as arrays."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        found[attribute.name] = value
    return found


def optional(node: onnx.NodeProto, position: int) -> str | None:
    """The name of an input that may be left away."""
    if position < len(node.input) and node.input[position]:
        return node.input[position]
    return None


def integers(
    node: onnx.NodeProto, reading: Reading, name: str, position: int
) -> tuple[int, ...] | None:
    """Whole numbers that older opsets have as attribute `name`, newer ones as an input."""
    given = attributes(node).get(name)
    source = optional(node, position)
    if given is None and source is not None:
        given = reading.constant(source, name)
    return None if given is None else tuple(int(v) for v in np.ravel(given))
