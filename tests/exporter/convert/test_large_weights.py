"""Weights beyond what is copied: where they are kept apart, nothing else may change."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.convert import held_weights, onnx_file
from exporter.convert.evaluate import Evaluator, to_onnx_model
from exporter.convert.graph import Array, Conv, Dense, Fused, Graph, GraphInput, Reshape, Softmax
from exporter.convert.held_weights import Weights, initializer, open_model, row_blocks
from exporter.convert.quantize.exact import linear, writer
from exporter.convert.quantize.exact.simulator import ExactSimulator
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.quantize.rounding.bias_correction import image_limit
from exporter.convert.quantize.rounding.equalize import rescaled
from exporter.convert.quantize.rounding.sum_preserving import to_float16
from exporter.convert.quantize.rounding.weights import dequantize_weights, quantize_weights
from models.errors import UserError

RANDOM = np.random.default_rng(3)
SIDE, WIDE = 8, 300


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def graph() -> Graph:
    """A convolution of 80 channels, a dense layer of 5120 inputs and one of 300."""
    nodes = (
        Conv(name="conv", inputs=("x",), output="c", weight=normal(80, 3, 3, 3), bias=normal(80),
             padding=(1, 1, 1, 1), fused=Fused.RELU),
        Reshape(name="flat", inputs=("c",), output="f"),
        Dense(name="wide", inputs=("f",), output="w", weight=normal(WIDE, 80 * SIDE * SIDE) / 60,
              bias=normal(WIDE), fused=Fused.RELU),
        Dense(name="head", inputs=("w",), output="y", weight=normal(7, WIDE) / 20, bias=normal(7)),
        Softmax(name="last", inputs=("y",), output="p"),
    )  # fmt: skip
    shapes = {"x": (1, 3, SIDE, SIDE), "c": (1, 80, SIDE, SIDE), "f": (1, 80 * SIDE * SIDE),
              "w": (1, WIDE), "y": (1, 7), "p": (1, 7)}  # fmt: skip
    source = GraphInput("x", shapes["x"], scale=1 / 64, zero_point=128)
    return Graph(source, "p", nodes, shapes)


def picture() -> np.ndarray:
    return RANDOM.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def test_a_session_with_weights_apart_answers_as_one_with_all_inside() -> None:
    import onnxruntime

    own, pixels = graph(), picture()
    held: Weights = {}
    apart = to_onnx_model(own, ["p"], held)
    assert list(held) == ["w/weight"]
    assert apart.ByteSize() < 50_000 < 6_000_000 < to_onnx_model(own, ["p"]).ByteSize()
    inside = open_model(to_onnx_model(own, ["p"]), onnxruntime.SessionOptions())
    feed = {"x": ((pixels.astype(np.float32) - 128) / 64).transpose(2, 0, 1)[None]}
    expected = inside.run(["p"], feed)[0]
    np.testing.assert_array_equal(Evaluator(own).run(pixels)["p"], expected)
    other = held["w/weight"] * 2  # so that it is seen that these are the weights that count
    changed = open_model(apart, onnxruntime.SessionOptions(), {"w/weight": other})
    assert np.abs(changed.run(["p"], feed)[0] - expected).max() > 1e-3


def test_a_session_keeps_the_memory_that_it_reads() -> None:
    import onnxruntime

    weight = normal(400, 400)
    held = {"w": weight.copy()}
    body = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],  # an operand that is not repacked
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [400, 400])],
        [initializer("w", weight, {})],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_model(model, onnxruntime.SessionOptions(), held)
    held.clear()
    gc.collect()
    noise = [np.full_like(weight, 7.0) for _ in range(8)]  # takes what was freed
    (found,) = session.run(["y"], {"x": np.zeros(1, np.float32)})
    np.testing.assert_array_equal(found, weight)
    assert len(noise) == 8


def test_row_blocks_cover_every_row_once() -> None:
    for rows, most in ((10, 12), (7, 1), (1, 100), (0, 5)):
        array = np.zeros((rows, 4))
        seen = np.zeros(rows, int)
        for some in row_blocks(array, most):
            seen[some] += 1
            assert array[some].size <= max(most, 4)
        assert (seen == 1).all()


@pytest.mark.parametrize("most", [2**22, 900])
def test_weights_in_blocks_are_those_of_the_formulas(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(held_weights.row_blocks, "__defaults__", (most,))
    weight, bias = normal(37, 11, 5, 5), normal(37)
    source, made = Affine(0.02, -3), Affine(0.7, 5)
    stored, _ = quantize_weights(weight, bias, source, made)
    exact = weight.astype(np.float64) / stored.scales.astype(np.float64).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(stored.values, np.clip(np.rint(exact), -127, 127))
    np.testing.assert_allclose(stored.scales, np.abs(weight).max(axis=(1, 2, 3)) / 127, rtol=1e-6)
    again, _ = dequantize_weights(stored, source)
    scaled = stored.values * stored.scales.astype(np.float64).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(again, scaled.astype(np.float32))
    own = graph()
    factors = {"f": RANDOM.uniform(1, 4, 80 * SIDE * SIDE), "w": RANDOM.uniform(1, 4, WIDE)}
    moved = next(n for n in rescaled(own, factors).nodes if n.name == "wide")
    old = next(n for n in own.nodes if n.name == "wide")
    assert isinstance(moved, Dense)
    assert isinstance(old, Dense)
    wanted = old.weight.astype(np.float64) * factors["w"][:, None] / factors["f"]
    np.testing.assert_array_equal(moved.weight, wanted.astype(np.float32))


@pytest.mark.parametrize("ties", [False, True])
def test_float16_takes_the_largest_as_a_stable_sort_does(ties: bool) -> None:
    weight = normal(9, 70, 3, 3) / 10
    weight = np.round(weight * 30) / 30 if ties else weight
    rows = weight.reshape(9, -1).astype(np.float64)
    found = rows.astype(np.float16)
    error = (found.astype(np.float64) - rows).sum(axis=1)
    each = np.arange(9)
    for column in np.argsort(-np.abs(rows), axis=1, kind="stable")[:, :32].T:
        error -= found[each, column].astype(np.float64) - rows[each, column]
        settled = (rows[each, column] - error).astype(np.float16)
        error += settled.astype(np.float64) - rows[each, column]
        found[each, column] = settled
    np.testing.assert_array_equal(to_float16(weight), found.reshape(weight.shape))


def planned() -> tuple[Graph, QuantizationPlan]:
    own = graph()
    scales = {"x": Affine(1 / 64, 0), "c": Affine(0.1, -128), "f": Affine(0.1, -128),
              "w": Affine(0.05, -128), "y": Affine(0.05, 3)}  # fmt: skip
    weights = {
        node.name: quantize_weights(
            node.weight, node.bias, scales[node.inputs[0]], scales[node.output]
        )[0]
        for node in own.nodes
        if isinstance(node, Conv | Dense)
    }
    return own, QuantizationPlan(scales, weights, {})


def test_a_layer_cut_into_parts_reads_each_channel_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own, plan = planned()
    parts = linear.exact_parts(
        plan.weights["wide"].values, writer.Steps("f", plan.activations["f"])
    )
    assert len(parts) > 1
    pixels = picture()
    sliced = ExactSimulator(own, plan, ["w", "y"]).integers(pixels)
    # every part whole, with zeros where it has no weights
    whole = lambda source, part, to: [source.name, to.constant(part)]  # noqa: E731
    monkeypatch.setattr(linear, "_what_counts", whole)
    masked = ExactSimulator(own, plan, ["w", "y"]).integers(pixels)
    for name in ("w", "y"):
        np.testing.assert_array_equal(sliced[name], masked[name])
    assert len(np.unique(sliced["w"])) > 20


def big_model(rows: int = 6) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((rows, 5), np.float32), "weight")
    shape = numpy_helper.from_array(np.array([1, 5], np.int64), "shape")
    body = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["flat"]),
         helper.make_node("Gemm", ["flat", "weight"], ["y"], transB=1)],
        "big",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight, shape],
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_shapes_are_inferred_without_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = onnx_file.shapes_of(onnx_file.infer_shapes(big_model(), "m"))
    monkeypatch.setattr(onnx_file, "_LARGE", 10)
    model = big_model()
    found = onnx_file.infer_shapes(model, "m")
    assert found is model
    assert onnx_file.shapes_of(found) == usual == {
        "x": (1, 5, 1, 1), "flat": (1, 5), "y": (1, 6), "weight": (6, 5), "shape": (2,)
    }  # fmt: skip
    assert [value.name for value in found.graph.input] == ["x"]
    assert [tensor.name for tensor in found.graph.initializer] == ["weight", "shape"]
    onnx_file.check_model(found, "m")


def test_damaged_large_weights_are_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "_LARGE", 10)
    short = big_model()
    short.graph.initializer[0].raw_data = short.graph.initializer[0].raw_data[:-4]
    with pytest.raises(UserError, match="ONNX's own checks"):
        onnx_file.check_model(short, "m")
    wrong = big_model()
    wrong.graph.initializer[0].dims[:] = [5, 6]  # the same bytes, another shape
    with pytest.raises(onnx_file.ShapesError):
        onnx_file.infer_shapes(wrong, "m")


def test_dense_weights_kept_from_the_tracer_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="traces with torch")
    from exporter.convert import to_onnx
    from models.contract import Contract, Label, Preprocessing

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = torch.nn.Linear(48, 48), torch.nn.Linear(48, 5)

        def forward(self, x: Any) -> Any:
            flat = x.permute(0, 3, 1, 2).float().flatten(1) / 255
            return torch.softmax(self.again(self.first(torch.relu(self.first(flat)))), 1)

    rule = Preprocessing(height=4, width=4, resize_shorter_side=4)
    contract = Contract(tuple(Label(name) for name in "abcde"), rule, name="net")
    net = Net()
    to_onnx.export_classifier(net, contract, tmp_path / "inside.onnx")
    monkeypatch.setattr(to_onnx, "_LARGE", 100)
    to_onnx.export_classifier(net, contract, tmp_path / "apart.onnx")
    models = [onnx.load(str(tmp_path / name)) for name in ("inside.onnx", "apart.onnx")]
    weights = [
        {t.name: numpy_helper.to_array(t).tobytes() for t in m.graph.initializer} for m in models
    ]
    assert weights[0] == weights[1]
    assert [value.name for value in models[1].graph.input] == ["image"]
    kinds = [[node.op_type for node in model.graph.node] for model in models]
    assert kinds[0] == kinds[1]


def test_fewer_images_are_kept_of_networks_that_take_long() -> None:
    """By hand: 2^37 multiply-adds, and 1 GB in six tensors of the largest size."""

    def limit(channels: int, side: int) -> int:
        shape = (1, channels, side, side)
        conv = Conv(
            name="c", inputs=("x",), output="y", padding=(1, 1, 1, 1),
            weight=np.broadcast_to(np.float32(0), (channels, channels, 3, 3)),
            bias=np.zeros(channels, np.float32),
        )  # fmt: skip
        return image_limit(Graph(GraphInput("x", shape), "y", (conv,), {"x": shape, "y": shape}))

    assert limit(1024, 16) == 32  # 2.4e9 each: 56 would be little enough
    assert limit(2048, 16) == 14  # 9.7e9 each
    assert limit(4096, 16) == 8  # 3.9e10 each, but 8 there must be
    assert limit(64, 1000) == 8  # 256 MB each
    assert limit(16, 400) == 17  # 10 MB each: 17 times 6 of them are 1 GB
