"""Our TFLite writer against the official one: tf.lite.TFLiteConverter on the same graph.

The converter starts from our SavedModel. What differs by intention is written down
in `IN_FRONT` and `AT_THE_END`; every operator between must be the same, in the same
order, with the same version.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.convert.graph import (
    Add,
    AveragePool,
    BatchNorm,
    Concat,
    Fused,
    GlobalAveragePool,
    Graph,
    HardSigmoid,
    HardSwish,
    MaxPool,
    Mul,
    Pad,
    Relu,
    Relu6,
    Silu,
    Softmax,
    Sub,
)
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Contract, Label, Preprocessing
from support.tflite_files import (
    Net,
    kinds_of,
    model_of,
    operators_of,
    pixels_for,
    plan_for,
    run,
)

CONTRACT = Contract(tuple(Label(f"kind {i}") for i in range(5)), Preprocessing(17, 16, 17))
# Ours reads pixels with the operator that delegates take; theirs casts them first.
IN_FRONT = {"CAST", "DEQUANTIZE", "QUANTIZE"}
# Ours ends in float, so that small probabilities survive; theirs quantizes them.
AT_THE_END = {"DEQUANTIZE", "SOFTMAX"}
Row = tuple[str, int]
# What theirs writes in int8 and XNNPACK does not take, and what ours has instead.
INSTEAD: dict[Row, tuple[Row, ...]] = {
    ("HARD_SWISH", 1): (("DEQUANTIZE", 2), ("HARD_SWISH", 1)),
    ("RELU", 2): (("ADD", 2),),
    ("RELU6", 2): (("ADD", 2),),
}


def graph_of_many_kinds(with_batch_norm: bool) -> Graph:
    net = Net(3, 17, 16)
    net.input = replace(net.input, scale=1.0, zero_point=0)
    one = {"padding": (1, 1, 1, 1)}
    made = net.conv("pixels", 8, (3, 3), strides=(2, 2), fused=Fused.RELU6, **one)
    body = net.conv(made, 8, (3, 3), groups=8, fused=Fused.RELU6, **one)
    made = net.add(Add, made, net.conv(body, 8))
    body = net.conv(made, 16, (3, 3), padding=(2, 2, 2, 2), dilations=(2, 2), groups=8)
    made = net.conv(net.add(Concat, made, body), 8, (3, 3), groups=2, **one)
    made = net.add(HardSwish, net.add(Silu, made))
    made = net.add(MaxPool, made, kernel=(3, 3), strides=(1, 1), **one)
    made = net.add(AveragePool, made, kernel=(2, 2), strides=(2, 2))
    if with_batch_norm:
        made = net.add(BatchNorm, made, scale=net.values(8), shift=net.values(8))
    gate = net.add(HardSigmoid, net.add(GlobalAveragePool, made))
    made = net.add(Mul, made, gate, fused=Fused.RELU)
    made = net.add(Sub, made, net.constant("given", net.values(8, 1, 1)))
    made = net.add(Relu6, net.add(Pad, made, padding=(0, 1, 1, 0)))
    made = net.add(Sub, made, net.constant("again", net.values(1)))
    made = net.add(Relu, net.add(GlobalAveragePool, made, keep_dims=False))
    net.add(Softmax, net.dense(made, 5))
    return net.graph()


def official(graph: Graph, folder: Path, images: list[np.ndarray], int8: bool) -> bytes:
    """The converter's file for the same graph; int8 calibrated on the same images."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = pytest.importorskip("tensorflow", reason="the official converter is in it")
    from exporter.convert.targets import saved_model

    saved_model.write(graph, CONTRACT, folder)
    converter = tensorflow.lite.TFLiteConverter.from_saved_model(str(folder))
    if int8:

        def feed() -> Iterator[list[Any]]:
            for image in images:
                yield [image[None]]

        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.representative_dataset = feed
        converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return bytes(converter.convert())


def body_of(model: bytes) -> list[Row]:
    """(operator, version) between what is in front and what is at the end."""
    rows = [(one.name, one.version) for one in operators_of(model)]
    while rows[0][0] in IN_FRONT:
        rows.pop(0)
    while rows[-1][0] in AT_THE_END:
        rows.pop()
    return rows


def release_of(model: bytes) -> str:
    found = model_of(model)
    entry = next(one for one in found.metadata if one.name == b"min_runtime_version")
    return bytes(found.buffers[entry.buffer].data).rstrip(b"\0").decode()


def test_float_files_have_the_same_operators_versions_and_numbers(tmp_path: Path) -> None:
    graph = graph_of_many_kinds(with_batch_norm=True)
    images = pixels_for(graph)
    theirs = official(graph, tmp_path / "saved", images, int8=False)
    ours = to_bytes(graph, CONTRACT, "float32")
    assert body_of(ours) == body_of(theirs)
    assert len(body_of(ours)) > 20
    assert release_of(ours) == release_of(theirs)
    for mine, other in zip(run(ours, images), run(theirs, images), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)


def test_int8_files_have_the_same_operators_and_versions(tmp_path: Path) -> None:
    """Without batch normalization, which ours writes as one exact depthwise convolution."""
    graph = graph_of_many_kinds(with_batch_norm=False)
    images = pixels_for(graph, 6)
    theirs = official(graph, tmp_path / "saved", images, int8=True)
    ours = to_bytes(graph, CONTRACT, "int8", plan_for(graph, images))
    # the converter widens the ranges of a concat's parts instead of requantizing them
    mine = [row for row in body_of(ours) if row[0] != "QUANTIZE"]
    other = [row for row in body_of(theirs) if row[0] != "QUANTIZE"]
    assert {row[0] for row in INSTEAD} <= {row[0] for row in other}
    assert mine == [made for row in other for made in INSTEAD.get(row, (row,))]
    replaced = {row[0] for row in INSTEAD}
    for mine_types, other_types in zip(dtypes(ours), dtypes(theirs), strict=True):
        assert mine_types == other_types or other_types[0] in replaced
    assert kinds_of(ours)[-2:] == ["DEQUANTIZE", "SOFTMAX"]


def dtypes(model: bytes) -> list[tuple[str, ...]]:
    """Types in and out of every operator of the body, per-channel weights included."""
    found = []
    for one in operators_of(model):
        if one.name in IN_FRONT | AT_THE_END:
            continue
        scales = [scales_of(tensor) for tensor in one.input_tensors]
        found.append((one.name, *one.inputs, *one.outputs, *map(str, scales)))
    return found


def scales_of(tensor: Any) -> int:
    given = tensor.quantization.scale if tensor.quantization is not None else None
    return 0 if given is None else len(given)


def shape_of(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(side) for side in tensor.shape)


def test_float16_weights_and_biases_are_stored_as_the_converter_does(tmp_path: Path) -> None:
    graph = graph_of_many_kinds(with_batch_norm=False)
    ours = to_bytes(graph, CONTRACT, "float16")
    tensorflow = pytest.importorskip("tensorflow", reason="the official converter is in it")
    from exporter.convert.targets import saved_model

    saved_model.write(graph, CONTRACT, tmp_path / "saved")
    converter = tensorflow.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tensorflow.float16]
    theirs = bytes(converter.convert())

    def halves(model: bytes) -> list[int]:
        """How many values each half-precision constant holds; single numbers left out."""
        unpacked = [one for one in operators_of(model) if one.inputs == ("FLOAT16",)]
        assert {(one.name, one.version) for one in unpacked} == {("DEQUANTIZE", 3)}
        sizes = [int(np.prod(shape_of(one.input_tensors[0]))) for one in unpacked]
        return sorted(size for size in sizes if size > 1)

    assert halves(ours) == halves(theirs)
    images = pixels_for(graph)
    exact = run(to_bytes(graph, CONTRACT, "float32"), images)
    # Ours are rounded so that errors cancel, theirs each to the nearest.
    for mine, other, wanted in zip(run(ours, images), run(theirs, images), exact, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=2e-3)
        np.testing.assert_allclose(other, wanted, rtol=0, atol=2e-3)
