"""Each pass but the folding of the normalization: by hand, and that outputs stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pass_graphs import (
    SIZE,
    F,
    X,
    batch_norm,
    chain,
    check,
    conv,
    kinds,
    moved,
    normalized,
)

from exporter.convert import passes
from exporter.convert.graph import (
    Add,
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    GraphError,
    HardSigmoid,
    HardSwish,
    MaxPool,
    Mul,
    Node,
    Pad,
    Relu,
    Relu6,
    Reshape,
    Sigmoid,
    Silu,
    Softmax,
    Sub,
)
from exporter.convert.passes.clean_up import CLEAN_UP
from exporter.convert.passes.flatten_channels_last import FLATTEN_CHANNELS_LAST
from exporter.convert.passes.fold_batch_norm import FOLD_BATCH_NORM
from exporter.convert.passes.fuse_activation import FUSE_ACTIVATION
from exporter.convert.passes.merge_pad import MERGE_PAD
from exporter.convert.passes.name_activations import NAME_ACTIVATIONS
from exporter.convert.passes.rewriting import Rewrite
from exporter.convert.unsupported import UnsupportedOperatorsError
from support.onnx_files import normal


def test_fold_batch_norm_by_hand() -> None:
    """w = 2, b = 1, scale = 3, shift = -4: w' = 6, b' = -1."""
    layer = Conv(name="c", inputs=("x",), output="c", weight=np.full((1, 3, 1, 1), 2, np.float32),
                 bias=np.ones(1, np.float32))  # fmt: skip
    norm = BatchNorm(name="n", inputs=("c",), output="n", scale=np.full(1, 3, np.float32),
                     shift=np.full(1, -4, np.float32))  # fmt: skip
    shape = (1, 1, SIZE, SIZE)
    after = check(FOLD_BATCH_NORM, chain([layer, norm], {"c": shape, "n": shape}))
    found = after.nodes[0]
    assert isinstance(found, Conv) and found.output == "n" and set(after.shapes) == {"x", "n"}
    np.testing.assert_array_equal(found.weight, np.full((1, 3, 1, 1), 6, np.float32))
    np.testing.assert_array_equal(found.bias, [-1])


def test_fold_batch_norm_of_depthwise_grouped_and_dense() -> None:
    for weight, groups in ((normal(6, 1, 3, 3), 3), (normal(3, 1, 1, 1), 3)):
        layer = conv("c", weight=weight, groups=groups)
        size = SIZE + 3 - weight.shape[2]
        shape = (1, len(weight), size, size)
        graph = chain([layer, batch_norm("n", "c", len(weight))], {"c": shape, "n": shape})
        assert kinds(check(FOLD_BATCH_NORM, graph)) == [Conv]
    flat = Reshape(name="f", inputs=("x",), output="f")
    dense = Dense(name="d", inputs=("f",), output="d", weight=normal(5, 3 * SIZE * SIZE),
                  bias=normal(5))  # fmt: skip
    plus = Add(name="a", inputs=("bias", "d"), output="a")
    shapes = {"f": (1, 3 * SIZE * SIZE), "d": (1, 5), "a": (1, 5)}
    graph = chain([flat, dense, plus], shapes, {"bias": normal(5, seed=3)})
    after = check(FOLD_BATCH_NORM, graph)
    assert kinds(after) == [Reshape, Dense] and not after.constants


@pytest.mark.parametrize("kind", [Add, Sub, Mul])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1)])
def test_fold_constants_per_channel(kind: type[Node], first: bool, shape: tuple[int, ...]) -> None:
    inputs = ("k", "c") if first else ("c", "k")
    node = kind(name="m", inputs=inputs, output="m")
    graph = chain([conv("c"), node], {"c": F, "m": F}, {"k": normal(*shape, seed=1) + 2})
    assert kinds(check(FOLD_BATCH_NORM, graph)) == [Conv]


def test_fold_batch_norm_keeps_its_hands_off() -> None:
    """Another reader, an activation between, a constant per pixel, the graph's output."""
    twice = [conv("c"), batch_norm("n", "c"), Add(name="s", inputs=("c", "n"), output="s")]
    assert check(FOLD_BATCH_NORM, chain(twice, {"c": F, "n": F, "s": F})) is not None
    assert not FOLD_BATCH_NORM.apply(chain(twice, {"c": F, "n": F, "s": F}))[1]
    fused = [conv("c", fused=Fused.RELU), batch_norm("n", "c")]
    assert not FOLD_BATCH_NORM.apply(chain(fused, {"c": F, "n": F}))[1]
    pixelwise = [conv("c"), Add(name="a", inputs=("c", "k"), output="a")]
    graph = chain(pixelwise, {"c": F, "a": F}, {"k": normal(SIZE, SIZE)})
    assert not FOLD_BATCH_NORM.apply(graph)[1]
    alone = chain([batch_norm("n", "x", 3)], {"n": (1, 3, SIZE, SIZE)})
    assert not FOLD_BATCH_NORM.apply(alone)[1]


@pytest.mark.parametrize(("kind", "fused"), [(Relu, Fused.RELU), (Relu6, Fused.RELU6)])
def test_fuse_activation(kind: type[Node], fused: Fused) -> None:
    nodes = [
        conv("c"),
        kind(name="r", inputs=("c",), output="r"),
        Mul(name="m", inputs=("r", "two"), output="m"),
        kind(name="q", inputs=("m",), output="q"),
    ]
    graph = chain(nodes, {"c": F, "r": F, "m": F, "q": F}, {"two": np.full(1, 2)})
    after = check(FUSE_ACTIVATION, graph)
    assert [(type(n), n.output, n.fused) for n in after.nodes] == [  # type: ignore[attr-defined]
        (Conv, "r", fused),
        (Mul, "q", fused),
    ]


def test_fuse_activation_leaves_what_others_read() -> None:
    nodes = [
        conv("c"),
        Relu(name="r", inputs=("c",), output="r"),
        Add(name="a", inputs=("c", "r"), output="a"),
    ]
    assert not FUSE_ACTIVATION.apply(chain(nodes, {"c": F, "r": F, "a": F}))[1]
    with pytest.raises(GraphError, match="requires"):
        nodes = [conv("c"), batch_norm("n", "c"), Relu(name="r", inputs=("n",), output="r")]
        FUSE_ACTIVATION.run(chain(nodes, {"c": F, "n": F, "r": F}))


def test_merge_pad() -> None:
    pad = Pad(name="p", inputs=("x",), output="p", padding=(0, 1, 2, 0))
    padded = (1, 3, SIZE + 2, SIZE + 1)
    shapes = {"p": padded, "c": (1, 4, SIZE + 2, SIZE + 1)}
    after = check(MERGE_PAD, chain([pad, conv("c", "p")], shapes))
    found = after.nodes[0]
    assert isinstance(found, Conv) and found.padding == (1, 2, 3, 1)
    pool = AveragePool(name="c", inputs=("p",), output="c", kernel=(3, 2), strides=(1, 1))
    after = check(MERGE_PAD, chain([pad, pool], {"p": padded, "c": (1, 3, SIZE, SIZE)}))
    found = after.nodes[0]
    assert isinstance(found, AveragePool)
    assert found.padding == (0, 1, 2, 0) and found.include_padding


def test_merge_pad_keeps_its_hands_off() -> None:
    padded = (1, 3, SIZE + 2, SIZE + 2)
    pad = Pad(name="p", inputs=("x",), output="p", padding=(1, 1, 1, 1))
    maximum = MaxPool(name="m", inputs=("p",), output="m", kernel=(3, 3), strides=(1, 1))
    graph = chain([pad, maximum], {"p": padded, "m": (1, 3, SIZE, SIZE)})
    assert not MERGE_PAD.apply(graph)[1]  # a maximum with zeros is not one without
    ones = replace(pad, value=1.0)
    graph = chain([ones, conv("c", "p")], {"p": padded, "c": (1, 4, SIZE + 2, SIZE + 2)})
    assert not MERGE_PAD.apply(graph)[1]
    wide = replace(pad, padding=(2, 2, 2, 2))
    pool = AveragePool(name="m", inputs=("p",), output="m", kernel=(2, 2), strides=(1, 1))
    shapes = {"p": (1, 3, SIZE + 4, SIZE + 4), "m": (1, 3, SIZE + 3, SIZE + 3)}
    assert not MERGE_PAD.apply(chain([wide, pool], shapes))[1]  # windows of padding alone


THREE = np.full((1, 1, 1, 1), 3)
SIXTH = np.full((1, 1, 1, 1), 1 / 6)


def written_out(order: int) -> dict[str, Graph]:
    """Composite activations, with the inputs of products in both orders."""

    def mul(output: str, *inputs: str) -> Mul:
        return Mul(name=output, inputs=inputs[::-1] if order else inputs, output=output)

    gate = [
        Add(name="a", inputs=("x", "three"), output="a"),
        Relu6(name="r", inputs=("a",), output="r"),
    ]
    sigmoid = Sigmoid(name="s", inputs=("x",), output="s")
    hard = HardSigmoid(name="s", inputs=("x",), output="s")
    shapes = dict.fromkeys("arstm", X)
    constants = {"three": THREE, "sixth": SIXTH}
    found = {
        "silu": [sigmoid, mul("m", "x", "s")],
        "hard swish of hard sigmoid": [hard, mul("m", "x", "s")],
        "hard sigmoid": [*gate, mul("m", "r", "sixth")],
        "hard swish, product first": [*gate, mul("t", "x", "r"), mul("m", "t", "sixth")],
        "hard swish, division first": [*gate, mul("t", "r", "sixth"), mul("m", "x", "t")],
    }
    return {
        name: chain(
            nodes,
            shapes,
            {k: v for k, v in constants.items() if any(k in n.inputs for n in nodes)},
        )
        for name, nodes in found.items()
    }


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", written_out(0))
def test_name_activations(name: str, order: int) -> None:
    after = check(NAME_ACTIVATIONS, written_out(order)[name])
    wanted = {"silu": Silu, "hard sigmoid": HardSigmoid}.get(name, HardSwish)
    assert kinds(after) == [wanted] and not after.constants


def test_name_activations_wants_the_exact_pattern() -> None:
    for change in ({"three": np.full(1, 2.9)}, {"sixth": np.full(1, 0.2)}):
        graph = written_out(0)["hard swish, product first"]
        graph = replace(
            graph,
            constants={**graph.constants, **{k: v.astype(np.float32) for k, v in change.items()}},
        )
        assert not NAME_ACTIVATIONS.apply(graph)[1]
    nodes = [
        Sigmoid(name="s", inputs=("x",), output="s"),
        Mul(name="m", inputs=("x", "s"), output="m"),
        Add(name="t", inputs=("m", "s"), output="t"),
    ]
    assert not NAME_ACTIVATIONS.apply(chain(nodes, dict.fromkeys("smt", X)))[1]


def test_clean_up() -> None:
    nodes = [
        Relu6(name="r", inputs=("x",), output="r"),
        Relu(name="q", inputs=("r",), output="q"),
        Add(name="a", inputs=("q", "zero"), output="a"),
        Mul(name="m", inputs=("one", "a"), output="m"),
        Concat(name="k", inputs=("m",), output="k"),
        Pad(name="p", inputs=("k",), output="p", padding=(0, 0, 0, 0)),
        Sigmoid(name="dead", inputs=("p",), output="dead"),
        MaxPool(name="w", inputs=("p",), output="w", kernel=(1, 1), strides=(1, 1)),
        conv("c", "w"),
    ]
    shapes = dict.fromkeys(("r", "q", "a", "m", "k", "p", "dead", "w"), X)
    constants = {"zero": np.zeros((1, 3, 1, 1)), "one": np.ones(1)}
    after = check(CLEAN_UP, chain(nodes, {**shapes, "c": F}, constants))
    assert kinds(after) == [Relu6, Conv] and set(after.shapes) == {"x", "r", "c"}
    assert not after.constants


def test_clean_up_keeps_what_counts() -> None:
    nodes = [
        Relu(name="r", inputs=("x",), output="r"),
        Relu6(name="q", inputs=("r",), output="q"),
        Sub(name="s", inputs=("zero", "q"), output="s"),
        Relu(name="t", inputs=("s",), output="t"),
    ]
    graph = chain(nodes, dict.fromkeys("rqst", X), {"zero": np.zeros(1)})
    assert not CLEAN_UP.apply(graph)[1]


def flattening(channels: int = 3, between: type[Node] | None = None) -> Graph:
    count = channels * SIZE * SIZE
    nodes: list[Node] = [Reshape(name="f", inputs=("x",), output="f")]
    if between:
        nodes.append(between(name="b", inputs=("f",), output="b"))
    nodes.append(
        Dense(
            name="d",
            inputs=(nodes[-1].output,),
            output="d",
            weight=normal(5, count),
            bias=normal(5),
        )
    )
    return chain(nodes, {"f": (1, count), "b": (1, count), "d": (1, 5)})


@pytest.mark.parametrize("between", [None, Relu, HardSwish])
def test_flatten_channels_last(between: type[Node] | None) -> None:
    before = flattening(between=between)
    after = check(FLATTEN_CHANNELS_LAST, before)
    reshape, dense, old = after.nodes[0], after.nodes[-1], before.nodes[-1]
    assert isinstance(reshape, Reshape) and reshape.channels_last
    assert isinstance(dense, Dense) and isinstance(old, Dense)
    assert dense.weight[2, 1] == old.weight[2, SIZE * SIZE]  # pixel 0, channel 1


def test_flatten_channels_last_only_where_it_matters() -> None:
    pooled = [
        GlobalAveragePool(name="g", inputs=("x",), output="g"),
        Reshape(name="f", inputs=("g",), output="f"),
        Softmax(name="s", inputs=("f",), output="s"),
    ]
    graph = chain(pooled, {"g": (1, 3, 1, 1), "f": (1, 3), "s": (1, 3)})
    assert passes.for_channels_last(graph) is graph


def test_flatten_channels_last_refuses_what_it_cannot_permute() -> None:
    count = 3 * SIZE * SIZE
    nodes = [
        Reshape(name="f", inputs=("x",), output="f"),
        Softmax(name="s", inputs=("f",), output="s"),
    ]
    with pytest.raises(UnsupportedOperatorsError, match="Softmax 's'"):
        passes.for_channels_last(chain(nodes, {"f": (1, count), "s": (1, count)}))


def test_a_pass_that_does_not_keep_its_word_is_caught() -> None:
    lazy = Rewrite("lazy", lambda graph: (graph, False), FUSE_ACTIVATION.ensures)
    nodes = [conv("c"), Relu(name="r", inputs=("c",), output="r")]
    with pytest.raises(GraphError, match="lazy ensures"):
        lazy.run(chain(nodes, {"c": F, "r": F}))


def test_standard_on_a_small_network() -> None:
    """Every pass has something to do, and the order serves them all."""
    nodes = [
        Pad(name="p", inputs=("n",), output="p", padding=(1, 1, 1, 1)),
        conv("c", "p", padding=(0, 0, 0, 0)),
        batch_norm("b", "c"),
        Add(name="a", inputs=("b", "three"), output="a"),
        Relu6(name="r", inputs=("a",), output="r"),
        Mul(name="t", inputs=("b", "r"), output="t"),
        Mul(name="h", inputs=("t", "sixth"), output="h"),
        conv("d", "h", weight=normal(4, 4, 3, 3)),
        batch_norm("e", "d"),
        Relu(name="g", inputs=("e",), output="g"),
        Reshape(name="f", inputs=("g",), output="f"),
        Dense(name="l", inputs=("f",), output="l", weight=normal(5, 4 * SIZE**2, scale=0.05),
              bias=normal(5)),
        Softmax(name="s", inputs=("l",), output="s"),
    ]  # fmt: skip
    shapes = dict.fromkeys("cbarthdeg", F)
    shapes |= {"p": (1, 3, SIZE + 2, SIZE + 2), "f": (1, 4 * SIZE**2), "l": (1, 5), "s": (1, 5)}
    constants = {"three": np.array([3]), "sixth": np.array([1 / 6])}
    before = normalized([128] * 3, [127.5] * 3, nodes, constants, **shapes)
    after = passes.for_channels_last(passes.standard(before))
    assert kinds(after) == [Conv, HardSwish, Conv, Reshape, Dense, Softmax]
    assert after.nodes[2].fused is Fused.RELU  # type: ignore[attr-defined]
    assert moved(before, after) < 1e-5
