"""Folding the normalization: exact where it can be, measured where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import (
    SIZE,
    F,
    X,
    conv,
    kinds,
    moved,
    normalized,
    outputs,
)

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    Conv,
    Graph,
    GraphInput,
    MaxPool,
    Normalize,
)
from exporter.convert.passes import fold_normalization
from support.onnx_files import normal, pixels

IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


def folded(graph: Graph, tolerance: float = 2e-5) -> Graph:
    after, changed = fold_normalization.apply(graph, tolerance)
    assert changed and not fold_normalization.apply(after, tolerance)[1]
    assert fold_normalization.rewrite(tolerance).ensures(after) == []
    return after


@pytest.mark.parametrize("groups", [1, 3])
def test_without_padding_the_normalization_folds_exactly(groups: int) -> None:
    weight = normal(6, 3 // groups, 3, 3)
    layer = conv("c", "n", weight=weight, groups=groups, padding=(0, 0, 0, 0))
    before = normalized(*IMAGENET, [layer], c=(1, 6, SIZE - 2, SIZE - 2))
    after = folded(before, tolerance=0.0)
    assert kinds(after) == [Conv] and moved(before, after) < 1e-5
    assert 0 < after.input.scale < 1 and 104 <= after.input.zero_point <= 124


def test_a_whole_mean_folds_exactly_even_at_padded_borders() -> None:
    before = normalized([128] * 3, [127.5] * 3, [conv("c", "n")], c=F)
    after = folded(before, tolerance=0.0)
    assert kinds(after) == [Conv] and moved(before, after) < 1e-5
    assert after.input == GraphInput("x", X, float(np.float32(1 / 127.5)), 128)
    new, old = after.nodes[0], before.nodes[1]
    assert isinstance(new, Conv) and isinstance(old, Conv)
    np.testing.assert_array_equal(new.weight, old.weight)
    assert fold_normalization.cost(before) == fold_normalization.BorderCost(
        pytest.approx(0, abs=1e-4), pytest.approx(0, abs=1e-4), 0.0, 0.0
    )


def test_mean_127_5_by_hand() -> None:
    """Zero point 128, shift 0.5 / 127.5; a window at the border sees it on padded taps."""
    layer = Conv(name="c", inputs=("n",), output="c", weight=np.ones((1, 3, 3, 3), np.float32),
                 bias=np.zeros(1, np.float32), padding=(1, 1, 1, 1))  # fmt: skip
    before = normalized([127.5] * 3, [127.5] * 3, [layer], c=(1, 1, SIZE, SIZE))
    cost = fold_normalization.cost(before)
    assert cost is not None and cost.shift == pytest.approx(0.5 / 127.5)
    assert cost.convolution == pytest.approx(3 * 5 * 0.5 / 127.5)  # a corner: 5 taps of 9 outside
    assert cost.logit == pytest.approx(cost.convolution, rel=1e-3)
    loose, strict = folded(before, tolerance=1.0), folded(before)
    assert kinds(loose) == [Conv] and kinds(strict) == [Normalize, Conv]
    bias = loose.nodes[0]
    assert isinstance(bias, Conv) and bias.bias[0] == pytest.approx(27 * 0.5 / 127.5)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    picture = pixels(SIZE, SIZE)
    results = [Evaluator(g, threads=1).run(picture)["c"] for g in (before, loose, strict)]
    np.testing.assert_allclose(results[1][inside], results[0][inside], atol=2e-5)
    assert np.abs(results[1] - results[0]).max() == pytest.approx(cost.convolution, rel=1e-3)
    np.testing.assert_allclose(results[2], results[0], atol=2e-5)


def test_where_the_border_costs_too_much_only_the_shift_stays() -> None:
    before = normalized(*IMAGENET, [conv("c", "n")], c=F)
    after = folded(before)
    assert kinds(after) == [Normalize, Conv] and moved(before, after) < 1e-5
    kept = after.nodes[0]
    assert isinstance(kept, Normalize) and (kept.scale == 1).all()
    wanted = (np.array(IMAGENET[0]) - after.input.zero_point) * after.input.scale
    np.testing.assert_allclose(kept.mean, wanted, rtol=1e-5)


def test_readers_other_than_convolutions() -> None:
    """One scale for all goes into the input all the same; different ones stay as they are."""
    pool = MaxPool(name="p", inputs=("n",), output="p", kernel=(2, 2), strides=(2, 2))
    shape = (1, 3, SIZE // 2, SIZE // 2)
    same = normalized([127.5] * 3, [127.5] * 3, [pool], p=shape)
    after = folded(same)
    assert kinds(after) == [Normalize, MaxPool] and moved(same, after) < 1e-6
    whole = folded(normalized([128] * 3, [64] * 3, [pool], p=shape))
    assert kinds(whole) == [MaxPool]
    graph = normalized(*IMAGENET, [pool], p=shape)
    assert fold_normalization.apply(graph) == (graph, False)


@settings(max_examples=25, deadline=None)
@given(
    mean=st.lists(st.floats(-20, 280), min_size=3, max_size=3),
    std=st.lists(st.floats(0.5, 300), min_size=3, max_size=3),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_bound_at_the_border_is_exact(
    mean: list[float],
    std: list[float],
    padding: tuple[int, int, int, int],
    stride: int,
    dilation: int,
    seed: int,
) -> None:
    """Whatever the convolution: folding all moves its output by just the bound, else nothing."""
    top, left, bottom, right = padding
    reach = 2 * dilation
    size = tuple((SIZE + p - reach - 1) // stride + 1 for p in (top + bottom, left + right))
    layer = conv("c", "n", weight=normal(2, 3, 3, 3, seed=seed), padding=padding,
                 strides=(stride, stride), dilations=(dilation, dilation))  # fmt: skip
    before = normalized(mean, std, [layer], c=(1, 2, *size))
    cost = fold_normalization.cost(before)
    assert cost is not None
    magnitude = float(np.abs(outputs(before)).max())
    assert cost.logit == pytest.approx(cost.convolution, rel=1e-3, abs=1e-4 * magnitude)
    assert moved(before, folded(before)) < 1e-4
