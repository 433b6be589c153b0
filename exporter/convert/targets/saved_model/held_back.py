"""Large weights that TensorFlow never sees: it would copy each a dozen times before it is on disk.

While the function is traced and saved, a constant of the same shape with one number in all
places stands for such a weight. TensorFlow stores that as one number, and afterwards the
weight's own bytes are put there. With VGG16 (553 MB) that is the difference between 7.6 GB
of memory and 2.8.

TensorFlow's loader copies constants as often: 9.4 GB and 37 seconds until VGG16 has answered
once. Where there are many, they become variables after all, which are read as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

LARGE = 2**16  # values of one weight
MANY = 2**26  # values of all large weights: with more, they are variables


class HeldBack:
    """Weights by the number that stands for them.

    Attributes:
        variables: the weights, where they are many; to be kept with the function.
    """

    def __init__(self) -> None:
        self._weights: list[npt.NDArray[np.float32]] = []
        self._asked = 0
        self.variables: list[Any] = []

    def collect(self, tf: Any, build: Callable[[], object]) -> None:
        """Learn from a trial which weights there are; many become variables.

        Args:
            build: writes the function's operators, always with the same weights in order.
        """
        with tf.Graph().as_default():
            build()
        if sum(weight.size for weight in self._weights) > MANY:
            self.variables = [
                tf.Variable(np.ascontiguousarray(weight), trainable=False, name=f"weight_{number}")
                for number, weight in enumerate(self._weights)
            ]
        self._weights.clear()

    def stand_in(self, tf: Any, weight: npt.NDArray[np.float32]) -> Any:
        """A constant of the weight's shape, or its variable; for a function that is traced."""
        if self.variables:
            self._asked += 1
            return self.variables[(self._asked - 1) % len(self.variables)]
        self._weights.append(weight)
        return tf.constant(float(len(self._weights)), tf.float32, weight.shape)

    def put_back(self, graph: Any) -> None:
        """Store the weights in the constants of a `MetaGraphDef` that stand for them.

        Raises:
            RuntimeError: one of them is not found, or a constant stands for none.
        """
        library = graph.graph_def.library.function
        bodies = [graph.graph_def.node, *(function.node_def for function in library)]
        found = set()
        for node in (node for body in bodies for node in body if node.op == "Const"):
            tensor = node.attr["value"].tensor
            shape = tuple(size.size for size in tensor.tensor_shape.dim)
            if len(tensor.float_val) != 1 or np.prod(shape, dtype=np.int64) < LARGE:
                continue
            place = int(tensor.float_val[0]) - 1
            if not 0 <= place < len(self._weights) or self._weights[place].shape != shape:
                raise RuntimeError(f"{node.name} stands for no weight")
            del tensor.float_val[:]
            tensor.tensor_content = self._weights[place].astype("<f4", copy=False).tobytes()
            found.add(shape)
        if {weight.shape for weight in self._weights} - found:
            raise RuntimeError("TensorFlow left a weight out")
