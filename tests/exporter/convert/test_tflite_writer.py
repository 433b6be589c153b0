"""The TFLite file itself: structure, padding, versions, metadata, errors."""

from __future__ import annotations

import importlib.util
import io
import itertools
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.convert.graph import (
    AveragePool,
    Concat,
    Conv,
    Fused,
    GlobalAveragePool,
    Graph,
    GraphError,
    GraphInput,
    MaxPool,
    Node,
    Normalize,
    Relu,
    Reshape,
    Softmax,
)
from exporter.convert.quantize.plan import Affine
from exporter.convert.targets import tflite
from exporter.convert.targets.tflite import versions
from exporter.convert.targets.tflite.padding import Window
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Contract, Label
from models.errors import UserError
from support.tflite_files import (
    CONTRACT,
    TYPE_NAMES,
    Net,
    float_model,
    kinds_of,
    model_of,
    operators_of,
    pixels_for,
    plan_for,
)


def small_net() -> Net:
    """Convolution, residual sum, pooling, dense, softmax: a classifier in small."""
    net = Net(3, 8, 8)
    first = net.conv("pixels", 6, (3, 3), padding=(1, 1, 1, 1), strides=(2, 2), fused=Fused.RELU6)
    body = net.conv(first, 6, (3, 3), padding=(1, 1, 1, 1), groups=6, fused=Fused.RELU6)
    net.add(Softmax, net.dense(net.add(GlobalAveragePool, body, keep_dims=False), 2))
    return net


def int8_model(graph: Graph) -> bytes:
    return to_bytes(graph, CONTRACT, "int8", plan_for(graph, pixels_for(graph)))


def test_same_and_valid_against_a_count_of_windows() -> None:
    """Every size, kernel, stride, dilation and padding up to small bounds, window by window."""
    tried = {"same": 0, "valid": 0, "neither": 0}
    for size, kernel, stride, dilation, before, after in itertools.product(
        range(1, 10), (1, 2, 3, 5), (1, 2, 3), (1, 2), (0, 1, 2), (0, 1, 2)
    ):
        reach = (kernel - 1) * dilation + 1
        if size + before + after < reach or reach > size:
            continue
        starts = list(range(-before, size + after - reach + 1, stride))
        window = Window(
            (size, 4), (len(starts), 4), (kernel, 1), (stride, 1), (dilation, 1),
            (before, 0, after, 0),
        )  # fmt: skip
        # TensorFlow's definition: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
        count = -(-size // stride)
        total = max((count - 1) * stride + reach - size, 0)
        same = [total // 2 * -1 + i * stride for i in range(count)]
        valid = list(range(0, size - reach + 1, stride))
        assert window.is_same() == (starts == same)
        assert window.is_valid() == (starts == valid)
        top, _, bottom, _ = window.explicit()
        assert [s - top for s in range(0, size + top + bottom - reach + 1, stride)] == starts
        tried["same" if starts == same else "valid" if starts == valid else "neither"] += 1
    assert min(tried.values()) > 100


def test_all_files_take_uint8_pixels_and_give_float_probabilities() -> None:
    graph = small_net().graph()
    for data in (float_model(graph), to_bytes(graph, CONTRACT, "float16"), int8_model(graph)):
        assert data[4:8] == b"TFL3"
        interpreter = Interpreter(model_content=data)
        (source,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert (source["name"], source["dtype"]) == ("image", np.uint8)
        assert source["shape"].tolist() == [1, 8, 8, 3]
        assert source["quantization"] == (pytest.approx(1 / 40), 120)
        assert (made["name"], made["dtype"]) == ("probabilities", np.float32)
        assert made["shape"].tolist() == [1, 2]
        signature = interpreter.get_signature_list()["serving_default"]
        assert signature == {"inputs": ["image"], "outputs": ["probabilities"]}


def test_operators_in_order_and_no_transpose() -> None:
    graph = small_net().graph()
    body = ["PAD", "CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert kinds_of(float_model(graph)) == ["DEQUANTIZE", *body, "SOFTMAX"]
    assert kinds_of(int8_model(graph)) == ["QUANTIZE", *body, "DEQUANTIZE", "SOFTMAX"]


def test_weights_per_channel_on_the_axes_of_the_specification() -> None:
    """https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec"""
    wanted = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
    found = [one for one in operators_of(int8_model(small_net().graph())) if one.name in wanted]
    assert len(found) == 3
    for one in found:
        source, weight, bias = one.input_tensors
        assert weight.quantization.quantizedDimension == wanted[one.name]
        assert len(weight.quantization.scale) == weight.shape[wanted[one.name]] > 1
        assert not np.any(weight.quantization.zeroPoint)
        assert TYPE_NAMES[bias.type] == "INT32"
        np.testing.assert_allclose(
            bias.quantization.scale,
            source.quantization.scale * weight.quantization.scale,
            rtol=1e-6,
        )


def test_pixels_enter_int8_exactly() -> None:
    """QUANTIZE keeps the scale and moves the zero point by 128: every pixel value survives."""
    first = operators_of(int8_model(small_net().graph()))[0]
    before, after = first.input_tensors[0].quantization, first.output_tensors[0].quantization
    assert before.scale == after.scale
    assert before.zeroPoint - 128 == after.zeroPoint


def test_the_same_graph_gives_the_same_bytes() -> None:
    for precision in ("float32", "float16", "int8"):
        made = []
        for _ in range(2):
            graph = small_net().graph()
            plan = plan_for(graph, pixels_for(graph)) if precision == "int8" else None
            made.append(to_bytes(graph, CONTRACT, precision, plan))
        assert made[0] == made[1]


def test_buffers_lie_on_16_bytes() -> None:
    """The schema's force_align: kernels read weights in place."""
    data = float_model(small_net().graph())
    for buffer in model_of(data).buffers:
        if buffer.data is not None:
            assert data.find(np.asarray(buffer.data, np.uint8).tobytes()) >= 0
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAs(data, 0)
    table = [model.Buffers(i) for i in range(model.BuffersLength())]
    offsets = [b._tab.Vector(b._tab.Offset(4)) for b in table if b.DataLength()]
    assert len(offsets) > 5
    assert not any(offset % 16 for offset in offsets)


def test_float16_is_half_as_large() -> None:
    net = Net(3, 4, 4)
    net.conv("pixels", 400, (3, 3))
    net.conv("conv0/out", 40)
    graph = net.graph()
    full, half = len(float_model(graph)), len(to_bytes(graph, CONTRACT, "float16"))
    assert half < 0.6 * full


def test_a_float16_overflow_is_refused() -> None:
    net = Net(3, 4, 4)
    net.add(Conv, weight=np.full((1, 3, 1, 1), 7e4, np.float32), bias=np.zeros(1, np.float32))
    with pytest.raises(tflite.UnloweredNodesError, match="65504"):
        to_bytes(net.graph(), CONTRACT, "float16")


def test_identity_normalization_is_left_out() -> None:
    def kinds(mean: float, scale: float) -> list[str]:
        net = Net(3, 4, 4)
        fields = {"mean": np.full(3, mean, np.float32), "scale": np.full(3, scale, np.float32)}
        net.add(Relu, net.add(Normalize, **fields))
        return kinds_of(float_model(net.graph()))

    assert kinds(0, 1) == ["DEQUANTIZE", "RELU"]
    assert kinds(2, 1) == ["DEQUANTIZE", "SUB", "RELU"]
    assert kinds(0, 3) == ["DEQUANTIZE", "MUL", "RELU"]
    assert kinds(2, 3) == ["DEQUANTIZE", "SUB", "MUL", "RELU"]


def test_concat_brings_its_parts_to_one_scale() -> None:
    net = Net(3, 4, 4)
    net.add(Concat, net.conv("pixels", 2), net.conv("pixels", 3))
    graph = net.graph()
    operators = operators_of(int8_model(graph))
    last = next(one for one in operators if one.name == "CONCATENATION")
    scales = {t.quantization.scale[0] for t in (*last.input_tensors, *last.output_tensors)}
    assert len(scales) == 1
    assert [one.name for one in operators].count("QUANTIZE") >= 2


def test_all_offenders_are_named_at_once() -> None:
    net = Net(3, 8, 8)
    pooled = net.add(
        AveragePool, kernel=(3, 3), strides=(2, 2), padding=(1, 1, 1, 1), include_padding=False
    )
    kept = net.conv(pooled, 4)
    net.dense(net.add(Reshape, kept), 2)
    with pytest.raises(tflite.UnloweredNodesError) as caught:
        float_model(net.graph())
    assert [name for name, _ in caught.value.nodes] == ["averagepool0", "reshape2"]
    assert "neither SAME nor VALID" in str(caught.value)
    assert "TRANSPOSE" in str(caught.value)
    assert isinstance(caught.value, UserError)


class Exotic(Node):
    """A kind that no target knows."""


def test_an_unknown_kind_is_named() -> None:
    graph = small_net().graph()
    odd = Exotic(name="odd", inputs=(graph.output,), output="odd/out")
    shapes = {**graph.shapes, "odd/out": (1, 2)}
    with pytest.raises(tflite.UnloweredNodesError, match="odd: there is no lowering for Exotic"):
        float_model(replace(graph, nodes=(*graph.nodes, odd), shapes=shapes, output="odd/out"))


def test_other_ranks_are_named() -> None:
    graph = small_net().graph()
    name = graph.nodes[1].output
    with pytest.raises(tflite.UnloweredNodesError, match="rank 3") as caught:
        float_model(replace(graph, shapes={**graph.shapes, name: (1, 6, 16)}))
    assert [found for found, _ in caught.value.nodes] == [graph.nodes[1].name]


def test_a_plan_with_a_gap_is_refused() -> None:
    """No tensor of the body stays in float without a word."""
    graph = small_net().graph()
    plan = plan_for(graph, pixels_for(graph))
    for name in (graph.nodes[1].output, graph.logits):
        rest = {key: value for key, value in plan.activations.items() if key != name}
        with pytest.raises(GraphError, match=name):
            to_bytes(graph, CONTRACT, "int8", replace(plan, activations=rest))
    with pytest.raises(GraphError, match="no weights"):
        to_bytes(graph, CONTRACT, "int8", replace(plan, weights={}))
    with pytest.raises(GraphError, match="pixels"):
        moved = {**plan.activations, "pixels": Affine(1 / 40, 0)}
        to_bytes(graph, CONTRACT, "int8", replace(plan, activations=moved))
    with pytest.raises(GraphError, match="after the logits"):
        more = {**plan.activations, graph.output: Affine(1 / 256, -128)}
        to_bytes(graph, CONTRACT, "int8", replace(plan, activations=more))


@pytest.mark.parametrize(("precision", "given"), [("int8", False), ("float32", True)])
def test_a_plan_goes_with_int8_and_nothing_else(precision: str, given: bool) -> None:
    graph = small_net().graph()
    plan = plan_for(graph, pixels_for(graph)) if given else None
    with pytest.raises(GraphError, match=precision):
        to_bytes(graph, CONTRACT, precision, plan)


def test_an_int8_sum_that_would_abort_the_process_is_refused() -> None:
    """ADD's kernel aborts where an input's scale is 2^19 times the output's or more."""
    from exporter.convert.graph import Add

    net = Net(3, 4, 4)
    made = net.add(Add, "pixels", net.conv("pixels", 3))
    graph = net.graph()
    plan = plan_for(graph, pixels_for(graph))
    tiny = {**plan.activations, made: Affine(1e-9, 0)}
    with pytest.raises(tflite.UnloweredNodesError, match="too small"):
        to_bytes(graph, CONTRACT, "int8", replace(plan, activations=tiny))


def test_maxpool_padding_can_be_zeros_only_where_values_are_not_negative() -> None:
    fields = {"kernel": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1)}
    signed, positive = Net(3, 8, 8), Net(3, 8, 8)
    signed.add(MaxPool, signed.conv("pixels", 3), **fields)
    positive.add(MaxPool, positive.conv("pixels", 3, fused=Fused.RELU6), **fields)
    assert "PADV2" in kinds_of(float_model(signed.graph()))
    assert "PADV2" not in kinds_of(float_model(positive.graph()))


# Versions


def test_versions_as_tensorflow_counts_them() -> None:
    """Hand-read from op_version.cc."""
    op, kind = versions.Op, versions.TensorType
    for wanted, signature in (
        (1, versions.Signature(op.CONV_2D, (kind.FLOAT32,))),
        (3, versions.Signature(op.CONV_2D, (kind.INT8,))),
        (6, versions.Signature(op.CONV_2D, (kind.INT8,), grouped=True)),
        (1, versions.Signature(op.DEPTHWISE_CONV_2D, (kind.FLOAT32,))),
        (2, versions.Signature(op.DEPTHWISE_CONV_2D, (kind.FLOAT32,), dilated=True)),
        (3, versions.Signature(op.DEPTHWISE_CONV_2D, (kind.INT8,), dilated=True)),
        (4, versions.Signature(op.FULLY_CONNECTED, (kind.INT8,))),
        (1, versions.Signature(op.MUL, (kind.FLOAT32,))),
        (2, versions.Signature(op.MUL, (kind.INT8,), rescale=0.5)),
        (3, versions.Signature(op.MUL, (kind.INT8,), rescale=1.0)),
        (1, versions.Signature(op.DEQUANTIZE, (kind.UINT8,))),
        (2, versions.Signature(op.DEQUANTIZE, (kind.INT8,))),
        (3, versions.Signature(op.DEQUANTIZE, (kind.FLOAT16,))),
        (1, versions.Signature(op.QUANTIZE, (kind.UINT8,))),
        (1, versions.Signature(op.SLICE, (kind.FLOAT32,))),
        (2, versions.Signature(op.SLICE, (kind.INT8,))),
        (1, versions.Signature(op.TRANSPOSE, (kind.FLOAT32,))),
        (2, versions.Signature(op.TRANSPOSE, (kind.INT8,))),
        (2, versions.Signature(op.TANH, (kind.INT8,))),
        (1, versions.Signature(op.LOCAL_RESPONSE_NORMALIZATION, (kind.FLOAT32,))),
    ):
        assert versions.operator_version(signature) == wanted
    with pytest.raises(KeyError):
        versions.operator_version(versions.Signature(op.GATHER, (kind.FLOAT32,)))


def test_releases_compare_as_numbers() -> None:
    assert versions.highest(["1.5.0", "1.14.0", "1.6.0"]) == "1.14.0"
    assert versions.highest([]) == "1.5.0"


def test_minimum_runtime(tmp_path: Path) -> None:
    net = Net(4, 6, 6)
    net.conv("pixels", 4, (3, 3), groups=2)
    path = tmp_path / "model.tflite"
    tflite.write(net.graph(), CONTRACT, path, "float32")
    assert tflite.minimum_runtime(path) == "2.9.0"  # grouped convolution
    tflite.write(small_net().graph(), CONTRACT, path, "float32")
    assert tflite.minimum_runtime(path) == "1.13.1"  # DEQUANTIZE
    path.write_bytes(int8_model(small_net().graph()))
    assert tflite.minimum_runtime(path) == "2.12.0"  # a scale per channel in FULLY_CONNECTED
    path.write_bytes(b"not a model at all, and long enough")
    with pytest.raises(UserError, match="runtime"):
        tflite.minimum_runtime(path)


# Metadata


def test_labels_and_contract_are_inside(tmp_path: Path) -> None:
    contract = Contract((Label("Äskulapnatter"), Label("two words", "Vipera berus", "yes")))
    path = tmp_path / "model.tflite"
    tflite.write(small_net().graph(), contract, path, "float32")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["labels.txt", "contract.json"]
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("labels.txt").decode() == "Äskulapnatter\ntwo words\n"
        assert Contract.loads(archive.read("contract.json").decode()) == contract


def generated_schema() -> ModuleType:
    """MediaPipe's generated reader, loaded alone: the whole package takes many seconds."""
    package = importlib.util.find_spec("mediapipe")
    if package is None or package.origin is None:
        pytest.skip("mediapipe is not installed")
    path = Path(package.origin).parent / "tasks/metadata/metadata_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("metadata_schema_py_generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_metadata_reads_with_the_generated_schema() -> None:
    reader = generated_schema()
    net = small_net()
    net.input = GraphInput("pixels", (1, 3, 8, 8), 1 / 127.5, 128)
    about = tflite.About(version="3", author="A. Uthor", license="CC-BY-4.0")
    model = model_of(to_bytes(net.graph(), CONTRACT, "float32", about=about))
    entry = next(one for one in model.metadata if one.name == b"TFLITE_METADATA")
    blob = model.buffers[entry.buffer].data.tobytes()
    assert reader.ModelMetadata.ModelMetadataBufferHasIdentifier(blob, 0)
    found = reader.ModelMetadataT.InitFromObj(reader.ModelMetadata.GetRootAs(blob, 0))
    assert (found.name, found.version) == (b"classifier", b"3")
    assert (found.author, found.license) == (b"A. Uthor", b"CC-BY-4.0")
    assert found.minParserVersion == b"1.0.0"
    (graph,) = found.subgraphMetadata
    (source,), (made,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert (source.name, made.name) == (b"image", b"probabilities")
    image = source.content.contentProperties
    assert image.colorSpace == reader.ColorSpaceType.RGB
    assert (image.defaultSize.width, image.defaultSize.height) == (8, 8)
    (unit,) = source.processUnits
    assert list(unit.options.mean) == [128]
    assert list(unit.options.std) == [127.5]
    (labels,) = made.associatedFiles
    assert (labels.name, labels.type) == (
        b"labels.txt",
        reader.AssociatedFileType.TENSOR_AXIS_LABELS,
    )
    assert [one.name for one in found.associatedFiles] == [b"contract.json"]


def test_appended_files_leave_the_flatbuffer_alone() -> None:
    data = float_model(small_net().graph())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = min(one.header_offset for one in archive.infolist())
        assert {one.date_time[0] for one in archive.infolist()} == {1980}
    assert model_of(data[:start]).version == 3
