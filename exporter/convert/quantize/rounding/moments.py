"""What a layer's inputs vary like: the matrix that tells which rounding errors cancel.

For a layer y = w x, an error e of the weights costs E[(e (x - E[x]))^2] = e C e' with C the
covariance of its inputs; the mean error is a constant that the bias takes up. C is half the
Hessian of that cost, which is what GPTQ (Frantar et al. 2023) rounds by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Conv, Dense, Graph
from exporter.convert.quantize.ranges.observe import positions

POSITIONS = 64  # of one image, spread over the picture
_TOGETHER = 8  # images
MOST_INPUTS = 2304  # weights of one output channel: beyond, the matrix costs more than it gives
Matrix = npt.NDArray[np.float64]


class SecondMoments:
    """Watches the inputs of convolutions and dense layers; its size does not grow with images.

    Attributes:
        names: the tensors to give to `update`.
        layers: those that are watched, by name; layers with more than `MOST_INPUTS` weights
            an output channel are not.
    """

    def __init__(self, graph: Graph) -> None:
        self.layers: dict[str, Conv | Dense] = {
            node.name: node
            for node in graph.nodes
            if isinstance(node, Conv | Dense) and _fits(node)
        }
        self.names = tuple(dict.fromkeys(node.inputs[0] for node in self.layers.values()))
        self._products: dict[str, Matrix] = {}
        self._sums: dict[str, Matrix] = {}
        self._origins: dict[str, npt.NDArray[np.float32]] = {}
        self._counts: dict[str, int] = dict.fromkeys(self.layers, 0)
        self._waiting: dict[str, list[npt.NDArray[np.float32]]] = defaultdict(list)

    def update(self, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take one image's tensors, float32 `[1, C, H, W]` or `[1, C]`."""
        for name, node in self.layers.items():
            columns = _columns(node, values[node.inputs[0]])
            # near the mean, so that float32 products do not drown a small variance
            origin = self._origins.setdefault(name, columns.mean(axis=-1, keepdims=True))
            self._waiting[name].append(columns - origin)
            # one product of several images' columns is quicker than several products
            if _grouped(node) or len(self._waiting[name]) == _TOGETHER:
                self._add(name)

    def _add(self, name: str) -> None:
        """Take what waits into the sums."""
        columns = np.concatenate(self._waiting.pop(name), axis=-1)
        products = columns @ columns.swapaxes(-1, -2)
        sums = columns.sum(axis=-1, dtype=np.float64)
        if name in self._products:
            self._products[name] += products
            self._sums[name] += sums
        else:
            self._products[name] = products.astype(np.float64)
            self._sums[name] = sums
        self._counts[name] += columns.shape[-1]

    def covariance(self, name: str) -> Matrix:
        """Of one layer's inputs: `[n, n]`, or `[groups, n, n]` for a grouped convolution.

        n counts the input channels of an output channel times kernel positions, in the order
        of the layer's weights.
        """
        if self._waiting.get(name):
            self._add(name)
        mean = self._sums[name] / self._counts[name]
        return self._products[name] / self._counts[name] - mean[..., :, None] * mean[..., None, :]


def scaled(covariance: Matrix, scale: npt.NDArray[np.float64]) -> Matrix:
    """The covariance once channel c of the input is multiplied by `scale[c]`."""
    groups = len(covariance) if covariance.ndim == 3 else 1
    rows = scale.reshape(groups, -1)
    each = np.repeat(rows, covariance.shape[-1] // rows.shape[1], axis=1)
    by = each[:, :, None] * each[:, None, :]
    return covariance * (by if covariance.ndim == 3 else by[0])


def _grouped(node: Conv | Dense) -> bool:
    return isinstance(node, Conv) and node.groups > 1


def _fits(node: Conv | Dense) -> bool:
    return node.weight[0].size <= MOST_INPUTS


def _columns(node: Conv | Dense, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Input patches at some positions: `[n, positions]`, or `[groups, n, positions]`."""
    if isinstance(node, Dense):
        return values.reshape(-1, 1)
    picture = values[0]
    height, width = node.weight.shape[2:]
    top, left, bottom, right = node.padding
    if any(node.padding):
        picture = np.pad(picture, ((0, 0), (top, bottom), (left, right)))
    reach = [(height - 1) * node.dilations[0], (width - 1) * node.dilations[1]]
    rows = (picture.shape[1] - reach[0] - 1) // node.strides[0] + 1
    columns = (picture.shape[2] - reach[1] - 1) // node.strides[1] + 1
    taken = positions(rows * columns, POSITIONS)
    y, x = taken // columns * node.strides[0], taken % columns * node.strides[1]
    patches = np.stack(
        [
            picture[:, y + dy * node.dilations[0], x + dx * node.dilations[1]]
            for dy in range(height)
            for dx in range(width)
        ],
        axis=1,
    )
    shape = (node.groups, -1, len(taken)) if _grouped(node) else (-1, len(taken))
    return patches.reshape(shape)
