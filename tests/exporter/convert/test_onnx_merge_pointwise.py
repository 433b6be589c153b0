"""A linear 1x1 convolution is merged into the convolution that reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pass_graphs import SIZE, X, chain, check, conv, kinds, moved, normalized

from exporter.convert.graph import Conv, Fused, Graph, Node, Relu
from exporter.convert.passes import standard
from exporter.convert.passes.merge_pointwise import MERGE_POINTWISE
from support.onnx_files import normal

GRAY = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
ONE, FOUR = (1, 1, SIZE, SIZE), (1, 4, SIZE, SIZE)


def weigh(source: str = "x", bias: float = 0.0, **options: Any) -> Conv:
    weight = options.pop("weight", GRAY)
    biases = np.full(len(weight), bias, np.float32)
    return Conv(name="g", inputs=(source,), output="g", weight=weight, bias=biases, **options)


def after(first: Conv, **options: Any) -> Conv:
    options.setdefault("weight", normal(4, len(first.weight), 3, 3, seed=5))
    return conv("c", "g", **options)


def pair(first: Conv, second: Conv, **shapes: tuple[int, ...]) -> Graph:
    middle = (1, len(first.weight), SIZE, SIZE)
    return chain([first, second], {"g": middle, "c": FOUR, **shapes})


def test_grayscale_weights_go_into_a_padded_convolution() -> None:
    merged = check(MERGE_POINTWISE, pair(weigh(), after(weigh(), fused=Fused.RELU)))
    assert kinds(merged) == [Conv]
    node = merged.nodes[0]
    assert isinstance(node, Conv) and node.weight.shape == (4, 3, 3, 3)
    assert node.fused is Fused.RELU and "g" not in merged.shapes


def test_the_normalization_still_folds_into_the_merged_convolution() -> None:
    first = weigh("n")
    nodes: list[Node] = [first, after(first, padding=(0, 0, 0, 0))]
    graph = normalized((124, 116, 104), (58, 57, 57), nodes, g=ONE, c=(1, 4, 4, 4))
    folded = standard(graph)
    assert kinds(folded) == [Conv] and folded.input.scale != 1.0
    assert moved(graph, folded) < 1e-5


@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
def test_a_bias_moves_along_where_nothing_is_padded(strides: tuple[int, int]) -> None:
    second = after(weigh(), padding=(0, 0, 0, 0), strides=strides)
    graph = pair(weigh(bias=0.7), second, c=(1, 4, 4 // strides[0], 4))
    assert kinds(check(MERGE_POINTWISE, graph)) == [Conv]


def test_a_merge_that_needs_fewer_multiply_adds_is_done_anywhere() -> None:
    wide = normal(6, 3, 1, 1, seed=9)
    relu = Relu(name="r", inputs=("x",), output="r")
    first, second = weigh("r", weight=wide), after(weigh(weight=wide))
    shapes = {"r": X, "g": (1, 6, SIZE, SIZE), "c": FOUR}
    assert kinds(check(MERGE_POINTWISE, chain([relu, first, second], shapes))) == [Relu, Conv]
    narrow = chain([relu, weigh("r"), after(weigh())], {"r": X, "g": ONE, "c": FOUR})
    assert not MERGE_POINTWISE.apply(narrow)[1]


STAY = {
    "bias and padding": (weigh(bias=0.7), after(weigh())),
    "activation": (weigh(fused=Fused.RELU), after(weigh())),
    "3x3": (weigh(weight=normal(1, 3, 3, 3, seed=2), padding=(1, 1, 1, 1)), after(weigh())),
    "grouped reader": (
        weigh(weight=normal(4, 3, 1, 1, seed=2)),
        after(weigh(), weight=normal(4, 1, 3, 3, seed=3), groups=4),
    ),
}


@pytest.mark.parametrize("why", STAY)
def test_what_cannot_be_merged_exactly_stays(why: str) -> None:
    first, second = STAY[why]
    assert not MERGE_POINTWISE.apply(pair(first, second))[1]


def test_a_result_that_others_read_stays() -> None:
    graph = pair(weigh(), after(weigh()))
    other = Relu(name="r", inputs=("g",), output="r")
    both = replace(graph, nodes=(*graph.nodes, other), shapes={**graph.shapes, "r": ONE})
    assert not MERGE_POINTWISE.apply(both)[1]


def test_a_merge_with_the_channels_exchanged_is_noticed() -> None:
    graph = pair(weigh(), after(weigh()))
    merged = check(MERGE_POINTWISE, graph)
    node = merged.nodes[0]
    assert isinstance(node, Conv)
    wrong = replace(node, weight=np.ascontiguousarray(node.weight[:, ::-1]))
    assert moved(graph, replace(merged, nodes=(wrong,))) > 1e-2
