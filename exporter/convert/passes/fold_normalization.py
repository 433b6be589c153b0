"""Move the normalization of the pixels into the graph's input and the first convolutions.

    before: pixels -> Normalize(mean, scale) -> Conv(w, b)
    after:  s * (pixels - z) -> Conv(w * scale / s, b + sum(w * scale * (z - mean)))

with one scale s and one whole number z for all channels, which a quantized input
tensor can express. The scale moves exactly. The shift `scale * (z - mean)` is exact
wherever the window lies inside the picture; where the convolution pads with zeros,
those now stand for the pixel value z instead of the mean, and every padded tap adds
`w * scale * (z - mean)`. What that costs is measured on images, and where it is more
than a tolerance the shift stays as an operator:

    kept:   s * (pixels - z) -> Normalize(s * (mean - z), 1) -> Conv(w * scale / s, b)

Requires: only the pixels are read by a Normalize, and nothing else reads them.
Ensures: no Normalize has a scale other than 1, unless something else than
convolutions reads it with different scales; probabilities move on the probes by no
more than the tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Graph, GraphInput, Node, Normalize
from exporter.convert.passes.rewriting import Outcome, Rewrite, Uses, rebuild

# The gate of float files is 1e-4 on a probability; this leaves four fifths of it.
FLOAT_TOLERANCE = 2e-5
# An int8 file may move by far more: its gate is on the agreement of answers.
INT8_TOLERANCE = 5e-3
# A change at the border this many times the tolerance is not worth measuring: keeping
# the shift is exact, and networks were seen to pass on 1/100 to 1/1 of the change.
_HOPELESS = 1000.0

Pixels = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BorderCost:
    """What folding the shift changes.

    Attributes:
        probability: largest absolute change of a probability over the probes.
        logit: the same of a logit.
        convolution: largest absolute change that the first convolutions can see at a
            padded border, exact and the same for every image (in units of their output).
        shift: the largest |scale * (z - mean)| of a channel (normalized units).
    """

    probability: float
    logit: float
    convolution: float
    shift: float


@dataclass(frozen=True)
class _Split:
    """`(x - mean) * scale` as `s * (x - z) * ratio + shift`, per channel."""

    source: GraphInput
    ratio: Vector
    shift: Vector


def apply(
    graph: Graph,
    tolerance: float = FLOAT_TOLERANCE,
    probes: Sequence[Pixels] | None = None,
) -> Outcome:
    """Fold the normalization, wholly or all but its shift.

    Args:
        graph: with its Normalize, if any, right behind the pixels.
        tolerance: how far a probability may move because of padded borders.
        probes: pictures to measure that on, uint8 `[H, W, 3]`; synthetic ones when None.
    """
    node = _normalize(graph)
    if node is None or _is_folded(graph, node):
        return graph, False
    split = _split(graph, node)
    if split is None:
        return graph, False
    whole = _folded(graph, node, split)
    if whole is not None and _costs_no_more(graph, whole, node, split, tolerance, probes):
        return whole, True
    return _shift_kept(graph, node, split), True


def cost(graph: Graph, probes: Sequence[Pixels] | None = None) -> BorderCost | None:
    """What folding the shift would change; None where there is nothing to fold."""
    node = _normalize(graph)
    split = None if node is None else _split(graph, node)
    whole = None if node is None or split is None else _folded(graph, node, split)
    if node is None or split is None or whole is None:
        return None
    pictures = synthetic_probes(graph.input.shape) if probes is None else probes
    probability = _moved(graph, whole, graph.output, whole.output, pictures)
    logit = _moved(graph, whole, graph.logits, whole.logits, pictures)
    shift = float(np.abs(split.shift).max())
    return BorderCost(probability, logit, _at_border(graph, node, split), shift)


def _normalize(graph: Graph) -> Normalize | None:
    """The Normalize behind the pixels, where nothing else reads them."""
    readers = graph.consumers(graph.input.name)
    if len(readers) == 1 and isinstance(readers[0], Normalize) and graph.input.scale == 1.0:
        return readers[0]
    return None


def _is_folded(graph: Graph, node: Normalize) -> bool:
    return graph.input.scale != 1.0 and bool((node.scale == 1.0).all())


def _split(graph: Graph, node: Normalize) -> _Split | None:
    """Choose s and z; None where different scales reach something but convolutions."""
    scale, mean = node.scale.astype(np.float64), node.mean.astype(np.float64)
    readers = Uses(graph).readers[node.output]
    convolutions = all(isinstance(reader, Conv) for reader in readers)
    if node.output == graph.output or not (convolutions or np.ptp(scale) == 0):
        return None
    common = float(np.float32(np.abs(scale).mean()))
    weight = sum((_channel_weight(r, len(scale)) for r in readers if isinstance(r, Conv)),
                 np.zeros(len(scale)))  # fmt: skip
    zero_point = _weighted_median(mean, weight * np.abs(scale))
    source = replace(graph.input, scale=common, zero_point=zero_point)
    ratio = np.ones(len(scale)) if np.ptp(scale) == 0 and scale[0] > 0 else scale / common
    if not convolutions and (ratio != 1).any():
        return None
    return _Split(source, ratio, scale * (zero_point - mean))


def _channel_weight(node: Conv, channels: int) -> Vector:
    """How much a shift of each input channel can do at most: the sum of |w|."""
    return _per_channel(node, channels, np.abs(node.weight.astype(np.float64))).sum(axis=(0, 2, 3))


def _per_channel(node: Conv, channels: int, weight: Vector) -> Vector:
    """Weights with all input channels on axis 1, zero where a group does not read one."""
    full = np.zeros((len(weight), channels, *weight.shape[2:]))
    each_out, each_in = len(weight) // node.groups, channels // node.groups
    for group in range(node.groups):
        out = slice(group * each_out, (group + 1) * each_out)
        full[out, group * each_in : (group + 1) * each_in] = weight[out]
    return full


def _weighted_median(mean: Vector, weight: Vector) -> int:
    """The whole number 0..255 z with the least `sum(weight * |z - mean|)`, a tie upwards."""
    levels = np.arange(256)
    sums = (np.maximum(weight, 1e-12) * np.abs(levels[:, None] - mean)).sum(axis=1)
    return int(np.flatnonzero(np.isclose(sums, sums.min(), rtol=1e-9, atol=0))[-1])


def _scaled(graph: Graph, node: Normalize, split: _Split) -> dict[str, Conv]:
    """The first convolutions, by name, with the scales in their weights."""
    channels = len(split.ratio)
    found = {}
    for reader in graph.consumers(node.output):
        if isinstance(reader, Conv):
            each = split.ratio.reshape(reader.groups, channels // reader.groups)
            rows = np.repeat(each, len(reader.weight) // reader.groups, axis=0)
            weight = reader.weight.astype(np.float64) * rows[:, :, None, None]
            found[reader.name] = replace(reader, weight=weight.astype(np.float32))
    return found


def _folded(graph: Graph, node: Normalize, split: _Split) -> Graph | None:
    """Everything folded; None where something but convolutions needs the shift."""
    convolutions = _scaled(graph, node, split)
    only = len(convolutions) == len(graph.consumers(node.output))
    if not only and split.shift.any():
        return None
    nodes: dict[str, Node | None] = {node.name: None}
    for name, conv in convolutions.items():
        old = next(reader for reader in graph.nodes if reader.name == name)
        assert isinstance(old, Conv)
        full = _per_channel(old, len(split.shift), old.weight.astype(np.float64))
        bias = old.bias + (full * split.shift[:, None, None]).sum(axis=(1, 2, 3))
        nodes[name] = replace(conv, bias=bias.astype(np.float32))
    changed = replace(graph, input=split.source)
    return rebuild(changed, nodes, {node.output: graph.input.name})


def _shift_kept(graph: Graph, node: Normalize, split: _Split) -> Graph:
    scale, zero_point = split.source.scale, split.source.zero_point
    kept = replace(
        node,
        mean=((node.mean.astype(np.float64) - zero_point) * scale).astype(np.float32),
        scale=np.ones_like(node.scale),
    )
    nodes: dict[str, Node | None] = {node.name: kept, **_scaled(graph, node, split)}
    return rebuild(replace(graph, input=split.source), nodes)


def _costs_no_more(
    graph: Graph,
    whole: Graph,
    node: Normalize,
    split: _Split,
    tolerance: float,
    probes: Sequence[Pixels] | None,
) -> bool:
    at_border = _at_border(graph, node, split)
    if at_border == 0.0 or at_border > _HOPELESS * tolerance:
        return at_border == 0.0
    pictures = synthetic_probes(graph.input.shape) if probes is None else probes
    moved = _moved(graph, whole, graph.output, whole.output, pictures, enough=tolerance)
    return moved <= tolerance


def _at_border(graph: Graph, node: Normalize, split: _Split) -> float:
    """The largest change of a convolution's output at a padded border.

    For each output channel the change of a window is the sum of `w * shift` over its
    taps that lie in the padding. A window meets the picture's border from one side, or
    at a corner from two, so the taps in the padding are some first or last rows,
    together with some first or last columns.
    """
    worst = 0.0
    for conv in graph.consumers(node.output):
        if not isinstance(conv, Conv) or not any(conv.padding):
            continue
        full = _per_channel(conv, len(split.shift), conv.weight.astype(np.float64))
        taps = np.einsum("ocyx,c->oyx", full, split.shift)
        size = graph.shapes[node.output][2:]
        rows, columns = (_outside(conv, axis, size[axis]) for axis in range(2))
        for row in rows:
            for column in columns:
                outside = row[:, None] | column[None, :]
                worst = max(worst, float(np.abs(taps[:, outside].sum(axis=1)).max()))
    return worst


def _outside(conv: Conv, axis: int, size: int) -> list[npt.NDArray[np.bool_]]:
    """For each distinct window position along an axis, which taps lie in the padding."""
    before, after = conv.padding[axis], conv.padding[axis + 2]
    taps = np.arange(conv.weight.shape[2 + axis]) * conv.dilations[axis]
    starts = np.arange(-before, size + after - taps[-1], conv.strides[axis])
    places = starts[:, None] + taps
    return list(np.unique((places < 0) | (places >= size), axis=0))


def _moved(
    before: Graph,
    after: Graph,
    tensor: str,
    other: str,
    probes: Sequence[Pixels],
    enough: float = np.inf,
) -> float:
    """The largest change of a tensor over the probes; stops once it is above `enough`."""
    old, new = Evaluator(before, (tensor,), threads=1), Evaluator(after, (other,), threads=1)
    worst = 0.0
    for pixels in probes:
        worst = max(worst, float(np.abs(old.run(pixels)[tensor] - new.run(pixels)[other]).max()))
        if worst > enough:
            break
    return worst


def synthetic_probes(shape: tuple[int, ...]) -> list[Pixels]:
    """Four deterministic pictures for an input `[1, C, H, W]`: gradients, noise, both, dark."""
    channels, height, width = shape[1:]
    rng = np.random.default_rng(2018)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    slope = (x / max(width - 1, 1) + y / max(height - 1, 1))[..., None] / 2
    gradient = rng.uniform(20, 90, channels) + slope * rng.uniform(60, 150, channels)
    noise = rng.uniform(0, 255, (height, width, channels))
    coarse = noise[:: max(height // 8, 1), :: max(width // 8, 1)]
    blocks = np.kron(coarse, np.ones((height // len(coarse) + 1, width // coarse.shape[1] + 1, 1)))
    pictures = (gradient, noise, 0.6 * gradient + 0.4 * blocks[:height, :width], 0.15 * noise)
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in pictures]


def _structure(graph: Graph) -> list[str]:
    """What `ensures` promises about the graph's form."""
    node = _normalize(graph)
    if node is None or _split(graph, node) is None:
        return []
    return [f"{node.name} still holds a scale that the input could take"]


def rewrite(tolerance: float = FLOAT_TOLERANCE, probes: Sequence[Pixels] | None = None) -> Rewrite:
    """The pass with its two settings."""
    return Rewrite(
        "fold_normalization", partial(apply, tolerance=tolerance, probes=probes), _structure
    )
