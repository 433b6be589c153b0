"""ONNX classifiers from elsewhere become model.onnx, or are refused with the reason."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.convert.adopt_checks import AdoptError
from exporter.convert.evaluate import Evaluator
from exporter.convert.from_onnx import UnsupportedOperatorsError, read_graph
from exporter.convert.onnx_file import OnnxFileError, contract_of, load_model
from exporter.convert.to_onnx import adopt_onnx
from models.contract import Contract, Label, Normalization, Preprocessing
from support import nets
from support.onnx_files import make_model, normal, pixels, run

_NODE = helper.make_node
H, W, CLASSES = 12, 9, 4
NORMALIZATION = Normalization((120.0, 110.0, 100.0), (60.0, 55.0, 50.0))


def contract(**changes: Any) -> Contract:
    labels = tuple(Label(f"species {i}") for i in range(CLASSES))
    rule = Preprocessing(H, W, 16, normalization=NORMALIZATION)
    return dataclasses.replace(Contract(labels, rule), **changes)


def body(source: str = "x", end: str | None = None, last: bool = False) -> list[onnx.NodeProto]:
    """A convolution, pooling and a dense layer; the result is called y."""
    start = [_NODE("Transpose", [source], ["nchw"], perm=[0, 3, 1, 2])] if last else []
    scores = "scores" if end else "y"
    return [
        *start,
        _NODE("Conv", ["nchw" if last else source, "w"], ["c"], pads=[1, 1, 1, 1]),
        _NODE("Relu", ["c"], ["r"]),
        _NODE("GlobalAveragePool", ["r"], ["g"]),
        _NODE("Flatten", ["g"], ["f"]),
        _NODE("Gemm", ["f", "d", "b"], [scores], transB=1),
        *([_NODE(end, [scores], ["y"])] if end else []),
    ]


def weights(dtype: Any = np.float32) -> dict[str, npt.NDArray[Any]]:
    found = {"w": normal(6, 3, 3, 3), "d": normal(CLASSES, 6, seed=1), "b": normal(CLASSES, seed=2)}
    return {name: value.astype(dtype) for name, value in found.items()}


def save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def theirs(folder: Path, shape: Any = (1, 3, H, W), end: str | None = None, **options: Any) -> Path:
    last = shape[3] == 3
    options.setdefault("output_shape", ["n", CLASSES])
    return save(make_model(body(end=end, last=last), shape, weights(), **options), folder)


def normalized(picture: npt.NDArray[np.uint8], last: bool = False) -> npt.NDArray[np.float32]:
    values = (picture - np.array(NORMALIZATION.mean)) / np.array(NORMALIZATION.std)
    values = values.astype(np.float32)
    return np.ascontiguousarray((values if last else values.transpose(2, 0, 1))[None])


def softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    powers = np.exp(scores - scores.max())
    result: npt.NDArray[np.float32] = powers / powers.sum()
    return result


def adopted(source: Path, given: Contract, folder: Path) -> tuple[onnx.ModelProto, Path]:
    """Adopt, and check everything that model.onnx promises."""
    path = folder / "model.onnx"
    adopt_onnx(source, given, path)
    model = load_model(path)
    onnx.checker.check_model(model, full_check=True)
    assert contract_of(model, "it") == given
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["probabilities"]
    read_graph(path)
    return model, path


def check(source: Path, folder: Path, last: bool = False, given: Contract | None = None) -> None:
    """The adopted file gives the softmax of what the model gave for normalized pixels."""
    given = given or contract()
    model, path = adopted(source, given, folder)
    graph = read_graph(path)
    original = load_model(source)
    for seed in range(3):
        picture = pixels(H, W, seed=seed)
        scores = run(original, normalized(picture, last))
        wanted = softmax(scores) if given.activation == "softmax" else 1 / (1 + np.exp(-scores))
        np.testing.assert_allclose(run(model, picture[None]), wanted, atol=1e-5)
        found = Evaluator(graph, threads=1).run(picture)[graph.output]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("batch", [1, "N", "batch_size"])
def test_float_nchw_of_any_batch(batch: Any, tmp_path: Path) -> None:
    check(theirs(tmp_path, (batch, 3, H, W)), tmp_path)


def test_a_fixed_batch_of_eight_becomes_one(tmp_path: Path) -> None:
    source = theirs(tmp_path, (8, 3, H, W))
    model, _ = adopted(source, contract(), tmp_path)
    picture = pixels(H, W)
    scores = run(load_model(source), np.repeat(normalized(picture), 8, axis=0))[:1]
    np.testing.assert_allclose(run(model, picture[None]), softmax(scores), atol=1e-5)


def test_float_nhwc(tmp_path: Path) -> None:
    check(theirs(tmp_path, (1, H, W, 3)), tmp_path, last=True)


GRAY = Preprocessing(
    H, W, 16, normalization=Normalization((110.0,) * 3, (55.0,) * 3), grayscale=True
)


@pytest.mark.parametrize("last", [False, True])
def test_one_channel_is_weighed_from_rgb(last: bool, tmp_path: Path) -> None:
    weighed = {**weights(), "w": normal(6, 1, 3, 3)}
    shape = (1, H, W, 1) if last else (1, 1, H, W)
    made = make_model(body(last=last), shape, weighed, output_shape=["n", CLASSES])
    source = save(made, tmp_path)
    model, path = adopted(source, contract(preprocessing=GRAY), tmp_path)
    picture = pixels(H, W)
    gray = (picture @ np.array([0.299, 0.587, 0.114]) - 110.0) / 55.0
    wanted = softmax(run(load_model(source), gray.astype(np.float32).reshape(shape)))
    np.testing.assert_allclose(run(model, picture[None]), wanted, atol=1e-5)
    graph = read_graph(path)
    found = Evaluator(graph, threads=1).run(picture)[graph.output]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_one_channel_and_a_contract_of_colours_do_not_fit(tmp_path: Path) -> None:
    weighed = {**weights(), "w": normal(6, 1, 3, 3)}
    made = make_model(body(), (1, 1, H, W), weighed, output_shape=["n", CLASSES])
    with pytest.raises(AdoptError, match="shape") as caught:
        adopt_onnx(save(made, tmp_path), contract(), tmp_path / "model.onnx")
    assert "input.grayscale: true" in caught.value.mend
    with pytest.raises(AdoptError, match="shape"):
        adopt_onnx(theirs(tmp_path), contract(preprocessing=GRAY), tmp_path / "model.onnx")


def test_sigmoid_by_contract(tmp_path: Path) -> None:
    check(theirs(tmp_path), tmp_path, given=contract(activation="sigmoid"))


@pytest.mark.parametrize(("end", "activation"), [("Softmax", "softmax"), ("Sigmoid", "sigmoid")])
def test_an_activation_that_is_there_is_not_put_twice(
    end: Any, activation: Any, tmp_path: Path
) -> None:
    source = theirs(tmp_path, end=end)
    model, _ = adopted(source, contract(activation=activation), tmp_path)
    picture = pixels(H, W)
    wanted = run(load_model(source), normalized(picture))
    np.testing.assert_allclose(run(model, picture[None]), wanted, atol=1e-6)


def test_log_softmax_at_the_end_becomes_softmax(tmp_path: Path) -> None:
    source = theirs(tmp_path, end="LogSoftmax")
    model, _ = adopted(source, contract(), tmp_path)
    picture = pixels(H, W)
    wanted = np.exp(run(load_model(source), normalized(picture)))
    np.testing.assert_allclose(run(model, picture[None]), wanted, atol=1e-6)


def test_scores_of_four_axes(tmp_path: Path) -> None:
    nodes = [_NODE("Conv", ["x", "w"], ["c"]), _NODE("GlobalAveragePool", ["c"], ["y"])]
    source = save(make_model(nodes, [1, 3, H, W], {"w": normal(CLASSES, 3, 1, 1)}), tmp_path)
    model, _ = adopted(_with_shapes(source), contract(), tmp_path)
    picture = pixels(H, W)
    wanted = softmax(run(load_model(source), normalized(picture))[:, :, 0, 0])
    np.testing.assert_allclose(run(model, picture[None]), wanted, atol=1e-5)


def _with_shapes(path: Path) -> Path:
    path.write_bytes(onnx.shape_inference.infer_shapes(onnx.load(path)).SerializeToString())
    return path


def test_float16_throughout(tmp_path: Path) -> None:
    model = make_model(body(), [1, 3, H, W], weights(np.float16), ["n", CLASSES],
                       input_type=TensorProto.FLOAT16, output_type=TensorProto.FLOAT16)  # fmt: skip
    source = save(model, tmp_path)
    found, path = adopted(source, contract(), tmp_path)
    picture, graph = pixels(H, W), read_graph(path)
    wanted = softmax(run(load_model(source), normalized(picture).astype(np.float16)))
    np.testing.assert_allclose(run(found, picture[None]), wanted, atol=1e-3)
    ours = Evaluator(graph, threads=1).run(picture)[graph.output]
    np.testing.assert_allclose(ours, wanted, atol=2e-2)


def test_tensors_that_have_our_names_already(tmp_path: Path) -> None:
    """Theirs calls its input 'probabilities' and an inner tensor 'image'."""
    model = make_model(
        [
            _NODE("Relu", ["probabilities"], ["image"]),
            _NODE("Add", ["image", "probabilities"], ["x"]),
            *body(),
        ],
        [1, 3, H, W], weights(), ["n", CLASSES], input_name="probabilities",
    )  # fmt: skip
    check(save(model, tmp_path), tmp_path)


def test_old_opset_with_weights_among_the_inputs(tmp_path: Path) -> None:
    model = make_model(body(end="Softmax"), ["n", 3, H, W], weights(), ["n", CLASSES], opset=9)
    model.ir_version = 3
    for name, value in weights().items():
        model.graph.input.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        )
    source = save(model, tmp_path)
    found, _ = adopted(source, contract(), tmp_path)
    picture = pixels(H, W)
    wanted = run(load_model(source), normalized(picture))
    np.testing.assert_allclose(run(found, picture[None]), wanted, atol=1e-6)


def test_uint8_models_normalize_inside(tmp_path: Path) -> None:
    def model(mean: tuple[float, ...]) -> Path:
        front = [
            _NODE("Cast", ["x"], ["float"], to=TensorProto.FLOAT),
            _NODE("Sub", ["float", "mean"], ["s"]),
            _NODE("Div", ["s", "std"], ["n"]),
            _NODE("Transpose", ["n"], ["nchw_"], perm=[0, 3, 1, 2]),
        ]
        values = {
            **weights(),
            "mean": np.array(mean, np.float32),
            "std": np.array(NORMALIZATION.std, np.float32),
        }
        made = make_model([*front, *body("nchw_")], ["n", H, W, 3], values, ["n", CLASSES],
                          input_type=TensorProto.UINT8)  # fmt: skip
        return save(made, tmp_path)

    source = model(NORMALIZATION.mean)
    found, _ = adopted(source, contract(), tmp_path)
    picture = pixels(H, W)
    wanted = softmax(run(load_model(source), picture[None]))
    np.testing.assert_allclose(run(found, picture[None]), wanted, atol=1e-6)
    with pytest.raises(AdoptError, match="otherwise than the contract"):
        adopt_onnx(model((0.0, 0.0, 0.0)), contract(), tmp_path / "model.onnx")


def test_normalizing_twice_is_refused(tmp_path: Path) -> None:
    """The pain of tensorflow#62123: the model does it, and so would the contract."""
    for unit in (1.0, 255.0):
        front = [_NODE("Sub", ["x", "mean"], ["s"]), _NODE("Div", ["s", "std"], ["n"])]
        values = {
            **weights(),
            "mean": np.array(NORMALIZATION.mean, np.float32).reshape(3, 1, 1) / unit,
            "std": np.array(NORMALIZATION.std, np.float32).reshape(3, 1, 1) / unit,
        }
        made = make_model([*front, *body("n")], [1, 3, H, W], values, ["n", CLASSES])
        source = save(made, tmp_path)
        with pytest.raises(AdoptError, match="twice"):
            adopt_onnx(source, contract(), tmp_path / "model.onnx")
        neutral = Normalization((0.0, 0.0, 0.0), (unit, unit, unit))
        rule = dataclasses.replace(contract().preprocessing, normalization=neutral)
        model, _ = adopted(source, contract(preprocessing=rule), tmp_path)
        picture = pixels(H, W)
        raw = (picture / unit).astype(np.float32).transpose(2, 0, 1)[None]
        wanted = softmax(run(load_model(source), np.ascontiguousarray(raw)))
        np.testing.assert_allclose(run(model, picture[None]), wanted, atol=1e-5)


def test_ours_passes_through_unchanged(small_onnx_path: Path, tmp_path: Path) -> None:
    given = nets.small_contract()
    adopted(small_onnx_path, given, tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == small_onnx_path.read_bytes()
    renamed = dataclasses.replace(given, name="other", not_sure_threshold=0.8)
    model, path = adopted(small_onnx_path, renamed, tmp_path)
    theirs = load_model(small_onnx_path)
    assert [n.op_type for n in model.graph.node] == [n.op_type for n in theirs.graph.node]
    picture = nets.image(3)
    np.testing.assert_array_equal(run(model, picture[None]), run(theirs, picture[None]))
    adopt_onnx(path, renamed, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_ours_with_a_contract_that_contradicts_it(small_onnx_path: Path, tmp_path: Path) -> None:
    given = nets.small_contract()
    rule = dataclasses.replace(given.preprocessing, normalization=nets.IMAGENET)
    for changes, what in (
        ({"preprocessing": rule}, "normalization"),
        ({"activation": "sigmoid"}, "activation"),
        ({"labels": given.labels[:-1]}, "number of classes"),
    ):
        with pytest.raises(AdoptError, match=what):
            adopt_onnx(small_onnx_path, dataclasses.replace(given, **changes), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = theirs(tmp_path)
    found = set()
    for _ in range(2):
        adopt_onnx(source, contract(), tmp_path / "model.onnx")
        found.add((tmp_path / "model.onnx").read_bytes())
    assert len(found) == 1 and str(tmp_path).encode() not in found.pop()


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "dynamic height": ({"shape": (1, 3, "height", W)}, {}, "axis 2 is dynamic"),
    "all dynamic": ({"shape": ("n", 3, "h", "w")}, {}, "axis 2, 3"),
    "other size": ({"shape": (1, 3, H + 1, W)}, {}, "13 x 9"),
    "class count": ({}, {"labels": tuple(Label(f"l{i}") for i in range(5))}, "4 scores"),
    "softmax for sigmoid": ({"end": "Softmax"}, {"activation": "sigmoid"}, "ends in Softmax"),
    "sigmoid for softmax": ({"end": "Sigmoid"}, {}, "ends in Sigmoid"),
    "whole numbers": ({"input_type": TensorProto.INT32}, {}, "INT32"),
    "double": ({"input_type": TensorProto.DOUBLE}, {}, "DOUBLE"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    options, changes, reason = REFUSED[name]
    with pytest.raises(AdoptError, match=reason):
        adopt_onnx(theirs(tmp_path, **options), contract(**changes), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_batch_that_the_model_insists_on(tmp_path: Path) -> None:
    nodes = [
        *body()[:-1],
        _NODE("Reshape", ["f", "s"], ["q"]),
        _NODE("Gemm", ["q", "d"], ["y"], transB=1),
    ]
    values = {**weights(), "s": np.array([8, 6], np.int64)}
    del values["b"]
    source = save(make_model(nodes, [8, 3, H, W], values, [8, CLASSES]), tmp_path)
    with pytest.raises(AdoptError, match=r"one picture at a time|gives one row"):
        adopt_onnx(source, contract(), tmp_path / "model.onnx")


def test_two_inputs_or_outputs(tmp_path: Path) -> None:
    model = make_model(body(), [1, 3, H, W], weights(), [1, CLASSES])
    model.graph.output.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, [1, 6, 1, 1]))
    with pytest.raises(AdoptError, match=r"2 output\(s\)"):
        adopt_onnx(save(model, tmp_path), contract(), tmp_path / "model.onnx")
    model = make_model(body(), [1, 3, H, W], weights(), [1, CLASSES])
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    with pytest.raises(AdoptError, match=r"2 input\(s\)"):
        adopt_onnx(save(model, tmp_path), contract(), tmp_path / "model.onnx")


def test_all_unsupported_operators_at_once(tmp_path: Path) -> None:
    nodes = body()
    nodes[1] = _NODE("LeakyRelu", ["c"], ["r0"], name="leaky")
    nodes.insert(2, _NODE("Erf", ["r0"], ["r"], name="erf"))
    source = save(make_model(nodes, [1, 3, H, W], weights(), [1, CLASSES]), tmp_path)
    with pytest.raises(UnsupportedOperatorsError) as caught:
        adopt_onnx(source, contract(), tmp_path / "model.onnx")
    assert {offender.node for offender in caught.value.offenders} == {"leaky", "erf"}
    nodes.insert(2, _NODE("Fancy", ["r0"], ["unused"], name="fancy", domain="com.example"))
    nodes[3] = _NODE("Fancy", ["r0"], ["r"], name="other", domain="com.example")
    model = make_model(nodes, [1, 3, H, W], weights(), [1, CLASSES])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedOperatorsError) as caught:
        adopt_onnx(save(model, tmp_path), contract(), tmp_path / "model.onnx")
    assert {offender.node for offender in caught.value.offenders} == {"leaky", "other"}


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with pytest.raises(OnnxFileError, match="does not exist"):
        adopt_onnx(tmp_path / "absent.onnx", contract(), target)
    source = theirs(tmp_path)
    data = source.read_bytes()
    for content in (b"", b"\x89PNG\r\n\x1a\n" + b"\x00" * 64, data[: len(data) // 2]):
        source.write_bytes(content)
        with pytest.raises(OnnxFileError):
            adopt_onnx(source, contract(), target)
    assert not target.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    values = weights()
    values["d"][1, 2] = value
    source = save(make_model(body(), [1, 3, H, W], values, [1, CLASSES]), tmp_path)
    with pytest.raises(OnnxFileError, match=r"not finite: d\."):
        adopt_onnx(source, contract(), tmp_path / "model.onnx")


def test_weights_in_a_file_beside_it(tmp_path: Path) -> None:
    model = make_model(body(), [1, 3, H, W], weights(), [1, CLASSES])
    source = tmp_path / "theirs.onnx"
    onnx.save_model(model, str(source), save_as_external_data=True, location="weights.bin",
                    size_threshold=0)  # fmt: skip
    check(source, tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(OnnxFileError, match="file beside it"):
        adopt_onnx(source, contract(), tmp_path / "model.onnx")


def test_a_model_that_breaks_the_rules_of_onnx(tmp_path: Path) -> None:
    nodes = body()
    nodes[0].attribute.append(helper.make_attribute("no_such_setting", 3))
    source = save(make_model(nodes, [1, 3, H, W], weights(), [1, CLASSES]), tmp_path)
    with pytest.raises(OnnxFileError, match="ONNX's own checks"):
        adopt_onnx(source, contract(), tmp_path / "model.onnx")


def test_onnxsim_is_asked_only_where_the_readers_are_at_a_loss(tmp_path: Path) -> None:
    """Importing it takes seconds where torch is installed."""
    source = theirs(tmp_path)
    given = tmp_path / "contract.json"
    given.write_text(contract().dumps(), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path\n"
        "from exporter.convert import passes\n"
        "from exporter.convert.from_onnx import read_graph\n"
        "from exporter.convert.adopt import adopt_onnx\n"
        "from models.contract import Contract\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"adopt_onnx(folder / {source.name!r}, Contract.load(folder / 'contract.json'),"
        " folder / 'model.onnx')\n"
        "passes.standard(read_graph(folder / 'model.onnx'))\n"
        "print(sorted({'torch', 'onnxsim', 'tensorflow'} & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def _by_torch_script(net: Any, path: Path) -> None:
    import torch

    example = torch.zeros(1, 3, nets.SIZE, nets.SIZE)
    torch.onnx.export(net, (example,), str(path), dynamo=False, input_names=["x"],
                      dynamic_axes={"x": {0: "batch"}})  # fmt: skip


def _by_dynamo(net: Any, path: Path) -> None:
    import torch

    example = torch.zeros(2, 3, nets.SIZE, nets.SIZE)
    torch.onnx.export(net, (example,), str(path), dynamo=True, verbose=False,
                      dynamic_shapes=({0: torch.export.Dim("batch")},))  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "export", [_by_torch_script, pytest.param(_by_dynamo, marks=pytest.mark.slow)]
)
def test_a_torchvision_model_with_a_dynamic_batch(export: Any, tmp_path: Path) -> None:
    """As people export them: normalized float NCHW in, logits out."""
    torch = pytest.importorskip("torch", reason="exports a PyTorch model")
    net, given = nets.small_net(nets.IMAGENET), nets.small_contract(nets.IMAGENET)
    source = tmp_path / "theirs.onnx"
    export(net, source)
    found, path = adopted(source, given, tmp_path)
    rule, graph = given.preprocessing.normalization, read_graph(path)
    for picture in nets.images(4, seed=6):
        values = (picture - np.array(rule.mean)) / np.array(rule.std)
        with torch.no_grad():
            logits = net(torch.from_numpy(values.astype(np.float32).transpose(2, 0, 1)[None]))
        wanted = torch.softmax(logits, 1).numpy()
        np.testing.assert_allclose(run(found, picture[None]), wanted, atol=5e-5)
        ours = Evaluator(graph, threads=1).run(picture)[graph.output]
        np.testing.assert_allclose(ours, wanted, atol=5e-5)
