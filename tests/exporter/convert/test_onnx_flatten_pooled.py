"""A pooled tensor is flat at once where only a Reshape reads it."""

from __future__ import annotations

from pass_graphs import X, chain, check, kinds

from exporter.convert.graph import Add, GlobalAveragePool, Relu, Reshape, Sigmoid
from exporter.convert.passes.flatten_pooled import FLATTEN_POOLED

POOLED, FLAT = (1, 3, 1, 1), (1, 3)


def test_the_pool_takes_the_place_of_the_reshape() -> None:
    nodes = [
        Relu(name="r", inputs=("x",), output="r"),
        GlobalAveragePool(name="g", inputs=("r",), output="g"),
        Reshape(name="f", inputs=("g",), output="f"),
        Sigmoid(name="s", inputs=("f",), output="s"),
    ]
    after = check(FLATTEN_POOLED, chain(nodes, {"r": X, "g": POOLED, "f": FLAT, "s": FLAT}))
    assert kinds(after) == [Relu, GlobalAveragePool, Sigmoid]
    pool = after.nodes[1]
    assert isinstance(pool, GlobalAveragePool) and not pool.keep_dims
    assert pool.output == "f" and set(after.shapes) == {"x", "r", "f", "s"}


def test_what_others_read_stays_as_it_is() -> None:
    nodes = [
        GlobalAveragePool(name="g", inputs=("x",), output="g"),
        Reshape(name="f", inputs=("g",), output="f"),
        Add(name="a", inputs=("x", "g"), output="a"),
        Reshape(name="b", inputs=("a",), output="b"),
    ]
    shapes = {"g": POOLED, "f": FLAT, "a": X, "b": (1, X[1] * X[2] * X[3])}
    assert not FLATTEN_POOLED.apply(chain(nodes, shapes))[1]


def test_a_pool_that_makes_the_output_is_left_alone() -> None:
    nodes = [GlobalAveragePool(name="g", inputs=("x",), output="g")]
    assert not FLATTEN_POOLED.apply(chain(nodes, {"g": POOLED}))[1]
