"""Average pools whose padding does not count, as pools without padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import kinds

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import AveragePool, Concat, Graph, Slice
from exporter.convert.passes import for_channels_last, split_clipped_pools
from exporter.convert.passes.split_clipped_pools import SPLIT_CLIPPED_POOLS
from support.tflite_files import CONTRACT, Net, float_model, pixels_for, plan_for, run, to_bytes


def pooled(
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    included: bool = False,
) -> Graph:
    net = Net(2, *size)
    net.add(AveragePool, kernel=kernel, strides=strides, padding=padding, include_padding=included)
    return net.graph()


def test_three_by_three_with_stride_two() -> None:
    """As in the module's picture: windows of 2, 3 and 3 rows."""
    graph = pooled((6, 6), (3, 3), (2, 2), (1, 1, 1, 1))
    assert check_net(graph) == [
        Slice, AveragePool, Slice, AveragePool, Concat,
        Slice, AveragePool, Slice, AveragePool, Concat,
    ]  # fmt: skip


def check_net(graph: Graph) -> list[type]:
    after, changed = SPLIT_CLIPPED_POOLS.apply(graph)
    assert changed and SPLIT_CLIPPED_POOLS.ensures(after) == []
    assert not SPLIT_CLIPPED_POOLS.apply(after)[1]
    image = pixels_for(graph)[0]
    wanted = Evaluator(graph, threads=1).run(image)[graph.output]
    found = Evaluator(after, threads=1).run(image)[after.output]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert after.shapes[after.output] == wanted.shape
    return kinds(after)


STAY = {
    "no padding": ((7, 7), (3, 3), (2, 2), (0, 0, 0, 0), False),
    "SAME": ((6, 9), (3, 3), (1, 1), (1, 1, 1, 1), False),
    "SAME, of ceil_mode": ((6, 6), (3, 3), (2, 2), (0, 0, 1, 1), False),
    "counted": ((6, 7), (3, 3), (2, 2), (1, 1, 1, 1), True),
    "padding that nothing reaches": ((6, 6), (2, 2), (3, 3), (0, 0, 1, 1), False),
}


@pytest.mark.parametrize("name", STAY)
def test_what_targets_can_write_stays(name: str) -> None:
    size, kernel, strides, padding, included = STAY[name]
    assert not SPLIT_CLIPPED_POOLS.apply(pooled(size, kernel, strides, padding, included))[1]


axis = st.tuples(
    st.integers(3, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(0, 3)
)


@settings(max_examples=15, deadline=None)
@given(axis, axis)
def test_any_pool_is_written_as_onnxruntime_computes_it(
    rows: tuple[int, ...], columns: tuple[int, ...]
) -> None:
    """Through the writer, in float and int8; size, kernel, stride and padding are drawn."""
    sides = [
        (size, kernel, stride, min(before, kernel - 1), min(after, kernel - 1))
        for size, kernel, stride, before, after in (rows, columns)
    ]
    (h, kh, sh, top, bottom), (w, kw, sw, left, right) = sides
    if h + top + bottom < kh or w + left + right < kw:
        return
    graph = pooled((h, w), (kh, kw), (sh, sw), (top, left, bottom, right))
    images = pixels_for(graph)
    ready = for_channels_last(graph)
    model = float_model(ready)
    plan = plan_for(ready, images)
    largest = max(affine.scale for affine in plan.activations.values())
    integers = run(to_bytes(ready, CONTRACT, "int8", plan), images)
    evaluator = Evaluator(graph, threads=1)
    for image, found, int8 in zip(images, run(model, images), integers, strict=True):
        wanted = evaluator.run(image)[graph.output]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert np.abs(int8 - wanted).max() <= 2.1 * largest


def test_a_window_off_by_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = split_clipped_pools._windows
    monkeypatch.setattr(
        split_clipped_pools,
        "_windows",
        lambda *of: [(a, max(b - (a > 0), a + 1)) for a, b in honest(*of)],
    )
    with pytest.raises(AssertionError):
        check_net(pooled((6, 6), (3, 3), (2, 2), (1, 1, 1, 1)))
