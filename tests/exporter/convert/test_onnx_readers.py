"""Every reader alone: a tiny ONNX model in onnxruntime against the graph that is read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto
from reader_checks import NODE, RANK4, C, H, W, check, only

from exporter.convert import graph as kinds
from exporter.convert.evaluate import Evaluator
from exporter.convert.from_onnx import UnsupportedOperatorsError, check_operators, graph_of
from exporter.convert.onnx_file import infer_shapes
from exporter.convert.onnx_readers import READERS
from support.onnx_files import make_model, normal, pixels, run

CONVOLUTIONS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "1x1": ((5, C, 1, 1), {}),
    "3x3 same": ((5, C, 3, 3), {"pads": [1, 1, 1, 1]}),
    "stride 2, uneven pads": ((5, C, 3, 3), {"strides": [2, 2], "pads": [0, 1, 1, 0]}),
    "5x3, strides 1 and 2": ((6, C, 5, 3), {"strides": [1, 2], "pads": [2, 0, 2, 1]}),
    "depthwise": ((C, 1, 3, 3), {"group": C, "pads": [1, 1, 1, 1]}),
    "depthwise, multiplier 2": ((2 * C, 1, 3, 3), {"group": C, "strides": [2, 1]}),
    "grouped": ((6, 2, 3, 3), {"group": 2}),
    "dilated": ((5, C, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "same upper": ((5, C, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((5, C, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "same upper, stride over kernel": ((5, C, 1, 1), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "valid": ((5, C, 3, 3), {"auto_pad": "VALID"}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_conv(name: str, bias: bool) -> None:
    shape, attributes = CONVOLUTIONS[name]
    weights = {"w": normal(*shape)}
    if bias:
        weights["b"] = normal(shape[0], seed=1)
    node = only(check([NODE("Conv", ["x", *weights], ["y"], **attributes)], weights))
    assert isinstance(node, kinds.Conv)
    assert node.weight.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_float_types(dtype: Any) -> None:
    """Through Casts, as exporters write them; widened or narrowed to float32."""
    weights = {"w": normal(5, C, 3, 3).astype(dtype)}
    nodes = [
        NODE("Cast", ["w"], ["w32"], to=TensorProto.FLOAT),
        NODE("Conv", ["x", "w32"], ["y"]),
    ]
    node = only(check(nodes, weights))
    assert isinstance(node, kinds.Conv)
    np.testing.assert_array_equal(node.weight, weights["w"].astype(np.float32))


def test_batch_normalization_by_hand() -> None:
    """scale = 3 / sqrt(3.75 + 0.25) = 1.5; shift = 1 - 2 * 1.5 = -2."""
    weights = {
        name: np.full(C, value, np.float32)
        for name, value in (("g", 3.0), ("b", 1.0), ("m", 2.0), ("v", 3.75))
    }
    nodes = [NODE("Relu", ["x"], ["r"])]
    nodes += [NODE("BatchNormalization", ["r", *weights], ["y"], epsilon=0.25)]
    node = check(nodes, weights).nodes[1]
    assert isinstance(node, kinds.BatchNorm)
    np.testing.assert_allclose(node.scale, 1.5, rtol=1e-6)
    np.testing.assert_allclose(node.shift, -2.0, rtol=1e-6)


FLATTEN = [NODE("Flatten", ["x"], ["f"])]
N = C * H * W
DENSE: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "plain": ("Gemm", [(N, 5)], {}),
    "transposed": ("Gemm", [(5, N)], {"transB": 1}),
    "bias": ("Gemm", [(5, N), (5,)], {"transB": 1}),
    "bias of two axes": ("Gemm", [(N, 5), (1, 5)], {}),
    "one bias for all": ("Gemm", [(N, 5), ()], {}),
    "alpha and beta": ("Gemm", [(5, N), (5,)], {"transB": 1, "alpha": 0.5, "beta": -2.0}),
    "matmul": ("MatMul", [(N, 5)], {}),
}


@pytest.mark.parametrize("name", DENSE)
def test_dense(name: str) -> None:
    operator, shapes, attributes = DENSE[name]
    weights = {f"w{i}": normal(*shape, seed=i) for i, shape in enumerate(shapes)}
    graph = check([*FLATTEN, NODE(operator, ["f", *weights], ["y"], **attributes)], weights)
    assert [type(node) for node in graph.nodes] == [kinds.Reshape, kinds.Dense]


OPERANDS: dict[str, tuple[int, ...]] = {
    "scalar": (),
    "one number": (1,),
    "per channel": (C, 1, 1),
    "per channel, 4 axes": (1, C, 1, 1),
    "per column": (W,),
    "per pixel": (H, W),
    "full": (1, C, H, W),
}


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", OPERANDS.values(), ids=OPERANDS.keys())
def test_with_a_constant(operator: str, shape: tuple[int, ...]) -> None:
    weights = {"c": np.asarray(np.abs(normal(*shape)) + 0.5, np.float32)}
    nodes = [NODE("Relu", ["x"], ["r"]), NODE(operator, ["r", "c"], ["y"])]
    check(nodes, weights)
    if operator != "Div":
        check([nodes[0], NODE(operator, ["c", "r"], ["y"])], weights)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
def test_of_two_tensors(operator: str) -> None:
    nodes = [NODE("Relu", ["x"], ["r"]), NODE(operator, ["r", "x"], ["y"])]
    check(nodes)
    pooled = [NODE("GlobalAveragePool", ["x"], ["g"]), NODE(operator, ["x", "g"], ["y"])]
    check(pooled)
    check([NODE(operator, ["x", "x"], ["y"])])


def test_concat() -> None:
    nodes = [NODE("Relu", ["x"], ["r"]), NODE("Concat", ["x", "r", "x"], ["y"], axis=-3)]
    node = check(nodes).nodes[-1]
    assert isinstance(node, kinds.Concat) and node.axis == 1
    check([nodes[0], NODE("Concat", ["x", "r"], ["y"], axis=2)])


WINDOWS: dict[str, dict[str, Any]] = {
    "2x2": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "3x3 padded": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "uneven": {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [0, 1, 2, 0]},
    "rounded up": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    "rounded up, padded": {
        "kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [0, 1, 1, 0],
    },
    "same upper": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "same lower": {"kernel_shape": [2, 4], "strides": [1, 1], "auto_pad": "SAME_LOWER"},
}  # fmt: skip


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("name", WINDOWS)
def test_pooling(operator: str, name: str) -> None:
    check([NODE(operator, ["x"], ["y"], **WINDOWS[name])])


def test_average_pool_that_counts_its_padding() -> None:
    attributes = {**WINDOWS["3x3 padded"], "count_include_pad": 1}
    node = only(check([NODE("AveragePool", ["x"], ["y"], **attributes)]))
    assert isinstance(node, kinds.AveragePool) and node.include_padding


def test_pooling_over_the_whole_picture() -> None:
    check([NODE("GlobalMaxPool", ["x"], ["y"])])
    assert isinstance(
        only(check([NODE("GlobalAveragePool", ["x"], ["y"])])), kinds.GlobalAveragePool
    )
    for axes, opset in (([2, 3], 18), ([-1, -2], 18), ([2, 3], 13)):
        for keep in (0, 1):
            if opset < 18:
                reduce = NODE("ReduceMean", ["x"], ["y"], axes=axes, keepdims=keep)
                node = only(check([reduce], opset=opset))
            else:
                reduce = NODE("ReduceMean", ["x", "axes"], ["y"], keepdims=keep)
                node = only(check([reduce], {"axes": np.array(axes, np.int64)}))
            assert isinstance(node, kinds.GlobalAveragePool) and node.keep_dims == bool(keep)
    axes = {"axes": np.array([-1, 2], np.int64)}
    node = only(check([NODE("ReduceMax", ["x", "axes"], ["y"])], axes))
    assert isinstance(node, kinds.MaxPool) and node.kernel == (H, W)
    check([NODE("ReduceMax", ["x", "axes"], ["y"], keepdims=0)], axes)
    check([NODE("ReduceMax", ["x"], ["y"], axes=[2, 3])], opset=11)


ACTIVATIONS: dict[str, tuple[str, dict[str, Any], type[kinds.Node]]] = {
    "relu": ("Relu", {}, kinds.Relu),
    "sigmoid": ("Sigmoid", {}, kinds.Sigmoid),
    "hard sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, kinds.HardSigmoid),
    "hard swish": ("HardSwish", {}, kinds.HardSwish),
    "tanh": ("Tanh", {}, kinds.Tanh),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    operator, attributes, kind = ACTIVATIONS[name]
    assert isinstance(only(check([NODE(operator, ["x"], ["y"], **attributes)])), kind)


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0, 6, kinds.Relu6), (0, None, kinds.Relu), (0, np.finfo(np.float32).max, kinds.Relu)],
)
def test_clip_with_inputs_and_with_attributes(low: float, high: Any, kind: type) -> None:
    weights = {"low": np.float32(low).reshape(())}
    if high is not None:
        weights["high"] = np.float32(high).reshape(())
    assert isinstance(only(check([NODE("Clip", ["x", *weights], ["y"])], weights)), kind)
    bounds = {"min": float(low)} if high is None else {"min": float(low), "max": float(high)}
    assert isinstance(only(check([NODE("Clip", ["x"], ["y"], **bounds)], opset=10)), kind)


def test_softmax() -> None:
    for axis in (-1, 1):
        graph = check([*FLATTEN, NODE("Softmax", ["f"], ["y"], axis=axis)])
        assert isinstance(graph.nodes[-1], kinds.Softmax)
    check([*FLATTEN, NODE("Softmax", ["f"], ["y"])], opset=11)
    check([*FLATTEN, NODE("Softmax", ["f"], ["y"])])


def test_everything_that_flattens_is_one_reshape() -> None:
    flat = np.array([1, -1], np.int64)
    only(check([NODE("Reshape", ["x", "s"], ["y"])], {"s": flat}))
    only(check([NODE("Reshape", ["x", "s"], ["y"])], {"s": np.array([0, -1], np.int64)}))
    only(check([NODE("Flatten", ["x"], ["y"], axis=1)]))
    pool = NODE("GlobalAveragePool", ["x"], ["p"])
    check([pool, NODE("Squeeze", ["p", "axes"], ["y"])], {"axes": np.array([2, 3], np.int64)})
    check([pool, NODE("Squeeze", ["p"], ["y"], axes=[2, 3])], opset=11)


def test_reshape_whose_target_is_computed_from_the_shape() -> None:
    """The chain that torch writes for `x.view(x.size(0), -1)`."""
    nodes = [
        NODE("Relu", ["x"], ["r"]),
        NODE("Shape", ["r"], ["shape"]),
        NODE("Gather", ["shape", "zero"], ["batch"]),
        NODE("Unsqueeze", ["batch", "axes"], ["batch1"]),
        NODE("Concat", ["batch1", "minus"], ["target"], axis=0),
        NODE("Reshape", ["r", "target"], ["y"]),
    ]
    weights = {
        "zero": np.array(0, np.int64),
        "axes": np.array([0], np.int64),
        "minus": np.array([-1], np.int64),
    }
    graph = check(nodes, weights)
    assert [type(node) for node in graph.nodes] == [kinds.Relu, kinds.Reshape]


def test_gather_of_all_elements_in_order_is_a_reshape() -> None:
    order = np.arange(C).reshape(1, C, 1, 1)
    nodes = [
        NODE("GlobalAveragePool", ["x"], ["p"]),
        NODE("Reshape", ["p", "flat"], ["line"]),
        NODE("Gather", ["line", "order"], ["strided"]),
        NODE("Reshape", ["strided", "target"], ["y"]),
    ]
    weights = {
        "flat": np.array([-1], np.int64),
        "order": order,
        "target": np.array([1, C], np.int64),
    }
    graph = check(nodes, weights)
    assert [type(node) for node in graph.nodes] == [kinds.GlobalAveragePool, kinds.Reshape]
    weights["order"] = order[:, ::-1].copy()  # another order is no reshape
    with pytest.raises(UnsupportedOperatorsError, match="Gather"):
        check(nodes, weights)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_pad(value: float) -> None:
    pads = [0, 0, 1, 2, 0, 0, 0, 3]
    weights = {"p": np.array(pads, np.int64), "v": np.float32(value).reshape(())}
    node = only(check([NODE("Pad", ["x", "p", "v"], ["y"])], weights))
    assert isinstance(node, kinds.Pad) and node.padding == (1, 2, 0, 3)
    check([NODE("Pad", ["x"], ["y"], pads=pads, value=value)], opset=10)
    axes = {"p": np.array([1, 0], np.int64), "v": weights["v"], "a": np.array([-1], np.int64)}
    node = only(check([NODE("Pad", ["x", "p", "v", "a"], ["y"])], axes))
    assert isinstance(node, kinds.Pad) and node.padding == (0, 1, 0, 0)


def test_nothing_is_left_of_operators_that_do_nothing() -> None:
    nodes = [
        NODE("Identity", ["x"], ["i"]),
        NODE("Relu", ["i"], ["r"]),
        NODE("Dropout", ["r"], ["d"]),
        NODE("Cast", ["d"], ["half"], to=TensorProto.FLOAT),
        NODE("Transpose", ["half"], ["t"], perm=[0, 2, 3, 1]),
        NODE("Transpose", ["t"], ["y"], perm=[0, 3, 1, 2]),
    ]
    assert isinstance(only(check(nodes)), kinds.Relu)


def test_channels_last_stretches() -> None:
    """What lies between two transposes is read in NCHW all the same."""
    inner = [
        NODE("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        NODE("Add", ["t", "c"], ["a"]),
        NODE("Relu", ["a"], ["r"]),
        NODE("Pad", ["r", "p"], ["q"]),
    ]
    weights = {"c": normal(C), "p": np.array([0, 1, 0, 0, 0, 0, 2, 0], np.int64)}
    check([*inner, NODE("Transpose", ["q"], ["y"], perm=[0, 3, 1, 2])], weights)
    graph = check([*inner, NODE("Flatten", ["q"], ["y"])], weights)
    assert isinstance(graph.nodes[-1], kinds.Reshape) and graph.nodes[-1].channels_last
    axes = {**weights, "axes": np.array([1, 2], np.int64)}
    check([*inner, NODE("ReduceMean", ["q", "axes"], ["y"], keepdims=0)], axes)


def test_pixels_with_their_normalization_become_the_input_and_one_node() -> None:
    """uint8 NHWC -> Cast -> Transpose -> / 255 -> - mean -> / std, in both orders."""
    mean, std = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.25, 0.5], np.float32)
    picture = pixels(5, 6)
    for early in (False, True):
        at = (1, 1, 1, 3) if early else (1, 3, 1, 1)
        weights = {
            "unit": np.float32(255).reshape(()),
            "mean": mean.reshape(at),
            "std": std.reshape(at),
        }
        move = lambda a, b: NODE("Transpose", [a], [b], perm=[0, 3, 1, 2])  # noqa: E731
        nodes = [
            NODE("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            *([] if early else [move("f", "first")]),
            NODE("Div", ["f" if early else "first", "unit"], ["u"]),
            NODE("Sub", ["u", "mean"], ["s"]),
            NODE("Div", ["s", "std"], ["n"]),
            *([move("n", "last")] if early else []),
            NODE("Relu", ["last" if early else "n"], ["y"]),
        ]
        model = make_model(nodes, [1, 5, 6, 3], weights, input_type=TensorProto.UINT8)
        graph = graph_of(infer_shapes(model, "tiny"), "tiny")
        assert graph.input == kinds.GraphInput("x", (1, 3, 5, 6))
        assert [type(node) for node in graph.nodes] == [kinds.Normalize, kinds.Relu]
        node = graph.nodes[0]
        assert isinstance(node, kinds.Normalize)
        np.testing.assert_allclose(node.mean, mean * 255, rtol=1e-6)
        np.testing.assert_allclose(node.scale, 1 / (std * 255), rtol=1e-6)
        found = Evaluator(graph, threads=1).run(picture)[graph.output]
        np.testing.assert_allclose(found, run(model, picture[None]), rtol=1e-4, atol=1e-6)


UNSUPPORTED: dict[str, tuple[list[onnx.NodeProto], dict[str, npt.NDArray[Any]], str]] = {
    "operator": ([NODE("Erf", ["x"], ["y"], name="n")], {}, "no target"),
    "clip bounds": ([NODE("Clip", ["x", "a", "b"], ["y"], name="n")],
                    {"a": np.array(-1, np.float32), "b": np.array(1, np.float32)}, r"\[-1, 1\]"),
    "hard sigmoid": ([NODE("HardSigmoid", ["x"], ["y"], name="n")], {}, "alpha"),
    "pad mode": ([NODE("Pad", ["x", "p"], ["y"], name="n", mode="reflect")],
                 {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)}, "reflect"),
    "padded channels": ([NODE("Pad", ["x", "p"], ["y"], name="n")],
                        {"p": np.array([0, 1, 0, 0, 0, 0, 0, 0], np.int64)}, "other axes"),
    "mean over channels": ([NODE("ReduceMean", ["x", "a"], ["y"], name="n")],
                           {"a": np.array([1], np.int64)}, "axes"),
    "softmax over channels": ([NODE("Softmax", ["x"], ["y"], name="n", axis=1)], {}, "axis"),
    "transpose": ([NODE("Transpose", ["x"], ["y"], name="n", perm=[0, 1, 3, 2])], {}, "orders"),
    "dilated pool": ([NODE("MaxPool", ["x"], ["y"], name="n", kernel_shape=[2, 2],
                            dilations=[2, 2])], {}, "dilated"),
    "product of tensors": ([NODE("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
                            NODE("MatMul", ["t", "w"], ["y"], name="n")], {"w": normal(C, 2)},
                           "NHWC"),
    "even window": ([NODE("LRN", ["x"], ["y"], name="n", size=4)], {}, "size is 4"),
    "steps": ([NODE("Slice", ["x", "s", "e", "a", "t"], ["y"], name="n")],
              {k: np.array([v]) for k, v in zip("seat", (0, 4, 1, 2), strict=True)}, "steps"),
    "ReLU of groups": ([NODE("Reshape", ["x", "split"], ["g"]),
                        NODE("Relu", ["g"], ["y"], name="n")],
                      {"split": np.array([1, 2, 2, H, W])}, "groups"),
    "maximum over channels": ([NODE("ReduceMax", ["x", "a"], ["y"], name="n")],
                              {"a": np.array([1], np.int64)}, "axes"),
    "other domain": ([NODE("Gelu", ["x"], ["y"], name="n", domain="com.microsoft")], {}, "own"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported(name: str) -> None:
    nodes, weights, reason = UNSUPPORTED[name]
    model = make_model(nodes, RANK4, weights)
    with pytest.raises(UnsupportedOperatorsError, match=reason) as caught:
        check_operators(model, "tiny")
        graph_of(infer_shapes(model, "tiny"), "tiny")
    assert [offender.node for offender in caught.value.offenders] == ["n"]


def test_all_offenders_are_listed_at_once() -> None:
    nodes = [
        NODE("Erf", ["x"], ["a"], name="first"),
        NODE("Relu", ["a"], ["b"], name="fine"),
        NODE("LeakyRelu", ["b"], ["c"], name="second"),
        NODE("HardSigmoid", ["c"], ["y"], name="third"),
        NODE("Cos", ["x"], ["unused"], name="dead"),
    ]
    with pytest.raises(UnsupportedOperatorsError) as caught:
        check(nodes)
    found = [(offender.node, offender.operator) for offender in caught.value.offenders]
    assert found == [("first", "Erf"), ("second", "LeakyRelu"), ("third", "HardSigmoid")]
    assert all(name in str(caught.value) for name in ("first", "second", "third", "alpha"))


def test_swish_of_opset_24() -> None:
    if onnx.defs.onnx_opset_version() < 24:
        pytest.skip("this onnx has no Swish")
    model = infer_shapes(make_model([NODE("Swish", ["x"], ["y"])], RANK4, opset=24), "tiny")
    assert isinstance(only(graph_of(model, "tiny")), kinds.Silu)


def test_every_reader_is_tested_here() -> None:
    files = Path(__file__).parent.glob("test_onnx_readers*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [name for name in READERS if f'"{name}"' not in text] == []
