"""Small networks whose channels differ in size by two orders of magnitude, as MobileNetV2's do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import target_graphs

from exporter.convert.graph import Add, Conv, Fused, GlobalAveragePool, Graph


def sketch(seed: int = 0) -> target_graphs.Sketch:
    made = target_graphs.Sketch(seed=seed)
    made.input = replace(made.input, scale=1 / 64, zero_point=128)
    return made


def uneven(to: target_graphs.Sketch, out: int, inputs: int, *kernel: int, **options: Any) -> str:
    """A convolution whose channels differ in size."""
    name = to.conv(out, inputs, *kernel, **options)
    node = to.nodes[-1]
    assert isinstance(node, Conv)
    size = np.logspace(-1.5, 0.5, out).astype(np.float32)
    to.nodes[-1] = replace(
        node, weight=node.weight * size.reshape(-1, 1, 1, 1), bias=node.bias * size
    )
    return name


def inverted_residuals(seed: int, blocks: int, stride: int = 1) -> Graph:
    """A MobileNetV2 in small: expand, depthwise, project, and sums along a stream."""
    to = sketch(seed)
    stream = uneven(to, 6, 3, 3, 3, padding=(1, 1, 1, 1), strides=(2, 2))
    for _ in range(blocks):
        uneven(to, 12, 6, fused=Fused.RELU6)
        uneven(to, 12, 12, 3, 3, padding=(1, 1, 1, 1), groups=12, fused=Fused.RELU6)
        projected = uneven(to, 6, 12)
        stream = to.add(Add, stream, projected)
    uneven(to, 10, 6, fused=Fused.RELU6, strides=(stride, stride))
    to.add(GlobalAveragePool)
    return to.classify()


def images(graph: Graph, count: int = 6, seed: int = 0) -> list[np.ndarray]:
    """Noise, uint8 `[H, W, 3]`."""
    height, width = graph.input.shape[2:]
    random = np.random.default_rng(seed)
    return list(random.integers(0, 256, (count, height, width, 3), dtype=np.uint8))
