"""Readers of what cuts, moves and normalizes channels, and of pools that round up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reader_checks import NODE, RANK4, C, H, W, check, only

from exporter.convert import graph as kinds
from exporter.convert.quantize.windows import window_counts
from support.onnx_files import make_model, normal, run


def test_split_is_a_slice_for_each_part() -> None:
    swapped = NODE("Concat", ["p1", "p0"], ["y"], axis=1)
    sizes = {"sizes": np.array([1, 3], np.int64)}
    graph = check([NODE("Split", ["x", "sizes"], ["p0", "p1"], axis=-3), swapped], sizes)
    slices = [node for node in graph.nodes if isinstance(node, kinds.Slice)]
    assert [(n.axis, n.start, n.stop) for n in slices] == [(1, 0, 1), (1, 1, 4)]
    rows = [NODE("Split", ["x"], ["p0", "p1"], axis=2, num_outputs=2)]  # of 9: 5 and 4
    check([*rows, NODE("Concat", ["p1", "p0"], ["y"], axis=2)])
    check([NODE("Split", ["x"], ["p0", "p1"], axis=1, split=[3, 1]), swapped], opset=11)
    check([NODE("Split", ["x"], ["y", "other"], axis=3, num_outputs=2)])
    last = [
        NODE("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        NODE("Split", ["t"], ["a", "b"], axis=3, num_outputs=2),
        NODE("Transpose", ["b"], ["y"], perm=[0, 3, 1, 2]),
    ]
    assert isinstance(check(last).nodes[-1], kinds.Slice)


SLICES: dict[str, tuple[list[int], list[int], list[int]]] = {  # starts, ends, axes
    "channels": ([1], [3], [1]),
    "from the end": ([-3], [-1], [-1]),
    "to the end": ([2], [2**31 - 1], [2]),
    "height and width": ([1, 2], [8, 2**62], [2, 3]),
    "all of it": ([0], [100], [3]),
}


@pytest.mark.parametrize("name", SLICES)
def test_slice(name: str) -> None:
    starts, ends, axes = SLICES[name]
    bounds = {"s": np.array(starts), "e": np.array(ends), "a": np.array(axes)}
    graph = check([NODE("Relu", ["x"], ["r"]), NODE("Slice", ["r", *bounds], ["y"])], bounds)
    assert len(graph.nodes) == 1 + (0 if name == "all of it" else len(axes))
    steps = {**bounds, "steps": np.ones(len(axes), np.int64)}
    check([NODE("Slice", ["x", *steps], ["z"]), NODE("Relu", ["z"], ["y"])], steps)
    old = NODE("Slice", ["x"], ["z"], starts=starts, ends=ends, axes=[a % 4 for a in axes])
    check([old, NODE("Relu", ["z"], ["y"])], opset=9)


def test_slice_without_axes() -> None:
    bounds = {"s": np.array([0, 1]), "e": np.array([1, 4])}
    node = only(check([NODE("Slice", ["x", *bounds], ["y"])], bounds))
    assert isinstance(node, kinds.Slice) and (node.axis, node.start, node.stop) == (1, 1, 4)


SHUFFLE = [
    NODE("Reshape", ["x", "split"], ["g"]),
    NODE("Transpose", ["g"], ["t"], perm=[0, 2, 1, 3, 4]),
    NODE("Reshape", ["t", "joined"], ["y"]),
]


@pytest.mark.parametrize("groups", [2, 3])
def test_reshape_transpose_reshape_is_a_channel_shuffle(groups: int) -> None:
    shape = [1, 6, 5, 3]
    weights = {"split": np.array([1, groups, -1, 5, 3]), "joined": np.array([1, 6, 5, 3])}
    node = only(check(SHUFFLE, weights, shape=shape))
    assert isinstance(node, kinds.ChannelShuffle) and node.groups == groups
    values = normal(*shape)
    shuffled = torch.nn.ChannelShuffle(groups)(torch.from_numpy(values))
    np.testing.assert_array_equal(run(make_model(SHUFFLE, shape, weights), values), shuffled)


def test_a_channel_shuffle_of_channels_last() -> None:
    nodes = [
        NODE("Transpose", ["x"], ["n"], perm=[0, 2, 3, 1]),
        NODE("Reshape", ["n", "split"], ["g"]),
        NODE("Transpose", ["g"], ["t"], perm=[0, 1, 2, 4, 3]),
        NODE("Reshape", ["t", "joined"], ["j"]),
        NODE("Transpose", ["j"], ["y"], perm=[0, 3, 1, 2]),
    ]
    weights = {"split": np.array([1, 5, 3, 2, 3]), "joined": np.array([1, 5, 3, 6])}
    assert isinstance(only(check(nodes, weights, shape=[1, 6, 5, 3])), kinds.ChannelShuffle)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_a_shuffle_that_ends_in_a_flattening(last: bool, moved: bool) -> None:
    """onnxsim makes one reshape of the two."""
    shape, weights = [1, 6, 5, 3], {"split": np.array([1, 2, 3, 5, 3]), "flat": np.array([1, -1])}
    order, start = [0, 2, 1, 3, 4], []
    if last:
        weights["split"], order = np.array([1, 5, 3, 2, 3]), [0, 1, 2, 4, 3]
        start = [NODE("Transpose", ["x"], ["n"], perm=[0, 2, 3, 1])]
    nodes = [*start, NODE("Reshape", ["n" if last else "x", "split"], ["g"])]
    if moved:
        nodes.append(NODE("Transpose", ["g"], ["t"], perm=order))
    nodes.append(NODE("Reshape", ["t" if moved else "g", "flat"], ["y"]))
    graph = check(nodes, weights, shape=shape)
    assert [type(node) for node in graph.nodes] == [kinds.ChannelShuffle] * moved + [kinds.Reshape]


def test_splitting_and_joining_channels_alone_is_nothing() -> None:
    weights = {"split": np.array([1, 2, 2, H, W]), "joined": np.array(RANK4)}
    nodes = [SHUFFLE[0], NODE("Reshape", ["g", "joined"], ["j"]), NODE("Relu", ["j"], ["y"])]
    assert isinstance(only(check(nodes, weights)), kinds.Relu)


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_local_response_normalization(size: int) -> None:
    given = {"size": size, "alpha": 0.02, "beta": 0.6, "bias": 1.5}
    node = only(check([NODE("LRN", ["x"], ["y"], **given)]))
    assert isinstance(node, kinds.LocalResponseNorm)
    assert [node.size, node.alpha, node.beta, node.bias] == pytest.approx([*given.values()])
    values = normal(*RANK4)
    found = run(make_model([NODE("LRN", ["x"], ["y"], **given)], RANK4), values)
    ours = torch.nn.LocalResponseNorm(size, 0.02, 0.6, 1.5)(torch.from_numpy(values))
    np.testing.assert_allclose(found, ours, rtol=1e-5)


def test_local_response_normalization_has_defaults() -> None:
    node = only(check([NODE("LRN", ["x"], ["y"], size=5)]))
    assert isinstance(node, kinds.LocalResponseNorm)
    assert (node.alpha, node.beta, node.bias) == pytest.approx((1e-4, 0.75, 1.0))


CEILED = {  # kernel, strides, pads: the last window reaches beyond the padding
    "padded": ([3, 3], [2, 2], [1, 1, 1, 1]),
    "uneven": ([4, 3], [3, 2], [2, 0, 1, 1]),
    "no padding": ([2, 2], [2, 2], [0, 0, 0, 0]),
    "nothing rounded up": ([3, 3], [1, 1], [1, 1, 1, 1]),
}


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("name", CEILED)
def test_ceil_mode_and_count_include_pad_together(name: str, opset: int) -> None:
    kernel, strides, pads = CEILED[name]
    node = NODE("AveragePool", ["x"], ["y"], kernel_shape=kernel, strides=strides, pads=pads,
                 ceil_mode=1, count_include_pad=1)  # fmt: skip
    shape = [1, C, 8, 10]
    graph = check([node], shape=shape, opset=opset)
    values = normal(*shape)
    found = run(make_model([node], shape, opset=opset), values)
    if pads[:2] == pads[2:]:
        pool = torch.nn.AvgPool2d(kernel, strides, pads[:2], ceil_mode=True)  # type: ignore[arg-type]
        np.testing.assert_allclose(pool(torch.from_numpy(values)), found, atol=1e-6)
    pool_node = graph.nodes[-1]
    assert isinstance(pool_node, kinds.AveragePool)
    if name == "padded":  # 3x3 windows, of which the last hold 2 rows or columns
        counts = window_counts(pool_node, *graph.shapes[pool_node.inputs[0]][2:])
        assert counts[0, 0, :, 0].tolist() == [9, 9, 9, 9, 6]
