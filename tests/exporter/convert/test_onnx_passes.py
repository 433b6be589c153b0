"""Each pass: hand-computed rewrites, and that outputs stay where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.convert import passes
from exporter.convert.evaluate import Evaluator
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
    GraphInput,
    HardSigmoid,
    HardSwish,
    MaxPool,
    Mul,
    Node,
    Normalize,
    Pad,
    Relu,
    Relu6,
    Reshape,
    Sigmoid,
    Silu,
    Softmax,
    Sub,
)
from exporter.convert.passes import fold_normalization
from exporter.convert.passes.clean_up import CLEAN_UP
from exporter.convert.passes.flatten_channels_last import FLATTEN_CHANNELS_LAST
from exporter.convert.passes.fold_batch_norm import FOLD_BATCH_NORM
from exporter.convert.passes.fuse_activation import FUSE_ACTIVATION
from exporter.convert.passes.merge_pad import MERGE_PAD
from exporter.convert.passes.name_activations import NAME_ACTIVATIONS
from exporter.convert.passes.rewriting import Rewrite
from exporter.convert.unsupported import UnsupportedOperatorsError
from support.onnx_files import normal, pixels

SIZE = 6
SOURCE = GraphInput("x", (1, 3, SIZE, SIZE), 1 / 64, 128)


def chain(
    nodes: Sequence[Node],
    shapes: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, npt.NDArray[Any]] | None = None,
    source: GraphInput = SOURCE,
) -> Graph:
    """A graph from x whose output is that of the last node."""
    known = {source.name: source.shape, **shapes}
    values = {k: np.asarray(v, np.float32) for k, v in (constants or {}).items()}
    return Graph(source, nodes[-1].output, tuple(nodes), known, values)


def conv(output: str, source: str = "x", out: int = 4, **options: Any) -> Conv:
    options.setdefault("weight", normal(out, 3, 3, 3, seed=5))
    options.setdefault("padding", (1, 1, 1, 1))
    bias = normal(len(options["weight"]), seed=6)
    return Conv(name=output, inputs=(source,), output=output, bias=bias, **options)


def outputs(graph: Graph) -> npt.NDArray[np.float32]:
    run = Evaluator(graph, threads=1)
    return np.stack([run.run(pixels(SIZE, SIZE, seed=i))[graph.output] for i in range(3)])


def check(rewrite: Rewrite, graph: Graph, tolerance: float = 1e-5) -> Graph:
    """Run a pass; nothing moves, and a second run changes nothing."""
    after, changed = rewrite.apply(graph)
    assert changed == (after is not graph)
    assert rewrite.ensures(after) == []
    assert not rewrite.apply(after)[1]
    before = outputs(graph)
    np.testing.assert_allclose(outputs(after), before, atol=tolerance * np.abs(before).max())
    return after


def kinds(graph: Graph) -> list[type[Node]]:
    return [type(node) for node in graph.nodes]


FOUR = {"shape": (1, 4, SIZE, SIZE)}
F = FOUR["shape"]


def batch_norm(output: str, source: str, channels: int = 4) -> BatchNorm:
    scale = normal(channels, seed=7) + 1
    return BatchNorm(name=output, inputs=(source,), output=output, scale=scale,
                     shift=normal(channels, seed=8))  # fmt: skip


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
X = (1, 3, SIZE, SIZE)


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


RAW = GraphInput("x", (1, 3, SIZE, SIZE))
IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


def normalized(
    mean: Sequence[float],
    std: Sequence[float],
    nodes: Sequence[Node],
    constants: Mapping[str, npt.NDArray[Any]] | None = None,
    **shapes: tuple[int, ...],
) -> Graph:
    first = Normalize(
        name="n",
        inputs=("x",),
        output="n",
        mean=np.array(mean, np.float32),
        scale=(1 / np.array(std)).astype(np.float32),
    )
    return chain([first, *nodes], {"n": X, **shapes}, constants, source=RAW)


def folded(graph: Graph, tolerance: float = 2e-5) -> Graph:
    after, changed = fold_normalization.apply(graph, tolerance)
    assert changed and not fold_normalization.apply(after, tolerance)[1]
    assert fold_normalization.rewrite(tolerance).ensures(after) == []
    return after


def moved(before: Graph, after: Graph) -> float:
    return float(np.abs(outputs(before) - outputs(after)).max() / np.abs(outputs(before)).max())


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
