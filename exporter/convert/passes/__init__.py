"""Rewrites of the graph, one a file; each says what it requires and what it ensures."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.convert.graph import Graph
from exporter.convert.passes import fold_normalization
from exporter.convert.passes.clean_up import CLEAN_UP
from exporter.convert.passes.flatten_channels_last import FLATTEN_CHANNELS_LAST
from exporter.convert.passes.flatten_pooled import FLATTEN_POOLED
from exporter.convert.passes.fold_batch_norm import FOLD_BATCH_NORM
from exporter.convert.passes.fold_normalization import FLOAT_TOLERANCE, INT8_TOLERANCE, Pixels
from exporter.convert.passes.fuse_activation import FUSE_ACTIVATION
from exporter.convert.passes.merge_pad import MERGE_PAD
from exporter.convert.passes.merge_pointwise import MERGE_POINTWISE
from exporter.convert.passes.name_activations import NAME_ACTIVATIONS
from exporter.convert.passes.split_clipped_pools import SPLIT_CLIPPED_POOLS
from exporter.convert.passes.unshuffle import UNSHUFFLE

__all__ = ["FLOAT_TOLERANCE", "INT8_TOLERANCE", "for_channels_last", "standard"]


def standard(
    graph: Graph,
    *,
    tolerance: float = FLOAT_TOLERANCE,
    probes: Sequence[Pixels] | None = None,
) -> Graph:
    """Run the passes that every target wants, in order, and check what each ensures.

    Args:
        graph: as read from the ONNX file.
        tolerance: how far folding the normalization may move a probability;
            `INT8_TOLERANCE` suits a graph that is quantized.
        probes: pictures to measure that on, uint8 `[H, W, 3]`; synthetic ones when None.

    Raises:
        GraphError: a pass did not do what it ensures, a defect of the exporter.
    """
    for rewrite in (
        NAME_ACTIVATIONS,
        CLEAN_UP,
        MERGE_PAD,
        FOLD_BATCH_NORM,
        MERGE_POINTWISE,
        fold_normalization.rewrite(tolerance, probes),
        FUSE_ACTIVATION,
        FLATTEN_POOLED,
        UNSHUFFLE,
        CLEAN_UP,
    ):
        graph = rewrite.run(graph)
    return graph


def for_channels_last(graph: Graph) -> Graph:
    """What targets that hold tensors as NHWC want besides.

    Raises:
        UnsupportedOperatorsError: a flattened tensor is read by something whose
            weights cannot be put into another order.
    """
    for rewrite in (FLATTEN_CHANNELS_LAST, SPLIT_CLIPPED_POOLS, CLEAN_UP):
        graph = rewrite.run(graph)
    return graph
