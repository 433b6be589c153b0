"""Each operation alone, as an ML program and as a neuralnetwork, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.coremltools_shim import import_coremltools
from exporter.prove.runtimes.coreml import CoreMLFileError
from support.coreml_files import (
    convert,
    draw_images,
    edit,
    evaluate,
    needs_coremltools,
    operations,
)

pytestmark = needs_coremltools
SIZE = (13, 10)  # odd and even, so that strides and paddings leave a remainder
WEIGHTS = np.random.default_rng(11)


def w(*shape: int) -> np.ndarray:
    return WEIGHTS.normal(0, 0.4, shape).astype(np.float32)


def torch_functions() -> Any:
    import torch.nn.functional as functional

    return functional


W3, B4, DW = w(4, 3, 3, 3), w(4), w(3, 1, 3, 3)
DW2, G6, P1, L5, LB = w(6, 1, 3, 3), w(6, 1, 5, 3), w(8, 3, 1, 1), w(5, 3), w(5)
CHANNELS = w(1, 3, 1, 1) + 2


def t(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(x)


Case = tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]
CASES: dict[str, Case] = {
    "conv_custom_uneven": (
        lambda x, mb: mb.conv(x=x, weight=W3, bias=B4, strides=[2, 1], pad_type="custom",
                              pad=[1, 0, 2, 1]),
        lambda x, f: f.conv2d(f.pad(x, (2, 1, 1, 0)), t(W3), t(B4), (2, 1)),
    ),
    "conv_valid_no_bias": (
        lambda x, mb: mb.conv(x=x, weight=W3, pad_type="valid"),
        lambda x, f: f.conv2d(x, t(W3)),
    ),
    "conv_same_stride_2": (
        lambda x, mb: mb.conv(x=x, weight=W3, strides=[2, 2], pad_type="same"),
        lambda x, f: f.conv2d(f.pad(x, (0, 1, 1, 1)), t(W3), None, 2),
    ),
    "conv_same_lower_stride_2": (
        lambda x, mb: mb.conv(x=x, weight=W3, strides=[2, 2], pad_type="same_lower"),
        lambda x, f: f.conv2d(f.pad(x, (1, 0, 1, 1)), t(W3), None, 2),
    ),
    "conv_dilated": (
        lambda x, mb: mb.conv(x=x, weight=W3, bias=B4, dilations=[2, 3], pad_type="custom",
                              pad=[2, 2, 3, 3]),
        lambda x, f: f.conv2d(x, t(W3), t(B4), 1, (2, 3), (2, 3)),
    ),
    "conv_depthwise": (
        lambda x, mb: mb.conv(x=x, weight=DW, groups=3, strides=[2, 2], pad_type="custom",
                              pad=[1, 1, 1, 1]),
        lambda x, f: f.conv2d(x, t(DW), None, 2, 1, 1, 3),
    ),
    "conv_depthwise_multiplied_dilated": (
        lambda x, mb: mb.conv(x=x, weight=DW2, groups=3, dilations=[2, 2], pad_type="custom",
                              pad=[2, 2, 2, 2]),
        lambda x, f: f.conv2d(x, t(DW2), None, 1, 2, 2, 3),
    ),
    "conv_grouped": (
        lambda x, mb: mb.conv(
            x=mb.conv(x=x, weight=P1, pad_type="valid"), weight=np.tile(G6[:4], (1, 4, 1, 1)),
            groups=2, pad_type="custom", pad=[2, 2, 1, 1]),
        lambda x, f: f.conv2d(f.conv2d(x, t(P1)), t(np.tile(G6[:4], (1, 4, 1, 1))), None, 1,
                              (2, 1), 1, 2),
    ),
    "conv_1x1_stride_2": (
        lambda x, mb: mb.conv(x=x, weight=P1, strides=[2, 2], pad_type="valid"),
        lambda x, f: f.conv2d(x, t(P1), None, 2),
    ),
    "max_pool": (
        lambda x, mb: mb.max_pool(x=x, kernel_sizes=[3, 2], strides=[2, 2], pad_type="custom",
                                  pad=[1, 1, 0, 0]),
        lambda x, f: f.max_pool2d(f.pad(x, (0, 0, 1, 1), value=-9e9), (3, 2), 2),
    ),
    "max_pool_ceil": (
        lambda x, mb: mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[3, 3], pad_type="custom",
                                  pad=[1, 1, 1, 1], ceil_mode=True),
        lambda x, f: f.max_pool2d(x, 3, 3, 1, ceil_mode=True),
    ),
    "avg_pool_with_padding": (
        lambda x, mb: mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom",
                                  pad=[1, 1, 1, 1]),
        lambda x, f: f.avg_pool2d(x, 3, 2, 1),
    ),
    "avg_pool_without_padding": (
        lambda x, mb: mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom",
                                  pad=[1, 1, 1, 1], exclude_padding_from_average=True),
        lambda x, f: f.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    ),
    "avg_pool_same_without_padding": (
        lambda x, mb: mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[1, 1], pad_type="same",
                                  exclude_padding_from_average=True),
        lambda x, f: f.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    "relu": (lambda x, mb: mb.relu(x=x), lambda x, f: f.relu(x)),
    "relu6": (lambda x, mb: mb.relu6(x=mb.mul(x=x, y=9.0)), lambda x, f: f.relu6(9 * x)),
    "clip": (
        lambda x, mb: mb.clip(x=x, alpha=-0.5, beta=0.75),
        lambda x, f: x.clip(-0.5, 0.75),
    ),
    "sigmoid": (lambda x, mb: mb.sigmoid(x=x), lambda x, f: x.sigmoid()),
    "sigmoid_hard": (
        lambda x, mb: mb.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5),
        lambda x, f: f.hardsigmoid(x),
    ),
    "silu": (lambda x, mb: mb.silu(x=x), lambda x, f: f.silu(x)),
    "tanh": (lambda x, mb: mb.tanh(x=x), lambda x, f: x.tanh()),
    "local_response_norm": (
        lambda x, mb: mb.local_response_norm(
            x=mb.conv(x=x, weight=P1, pad_type="valid"), size=5, alpha=0.7, beta=0.6, k=1.5),
        lambda x, f: f.local_response_norm(f.conv2d(x, t(P1)), 5, 0.7, 0.6, 1.5),
    ),
    "local_response_norm_wider_than_the_channels": (
        lambda x, mb: mb.local_response_norm(x=x, size=7, alpha=2.0),
        lambda x, f: f.local_response_norm(x, 7, 2.0),
    ),
    "slice_channels": (
        lambda x, mb: mb.slice_by_index(x=x, begin=[0, 1, 0, 0], end=[0, 3, 0, 0],
                                        begin_mask=[True, False, True, True],
                                        end_mask=[True, False, True, True]),
        lambda x, f: x[:, 1:3],
    ),
    "slice_rows_by_steps": (
        lambda x, mb: mb.slice_by_index(x=x, begin=[0, 0, 2, 0], end=[1, 3, 11, 10],
                                        stride=[1, 1, 3, 1]),
        lambda x, f: x[:, :, 2:11:3],
    ),
    "slice_columns": (
        lambda x, mb: mb.slice_by_index(x=x, begin=[0, 0, 0, 4], end=[1, 3, 13, 9]),
        lambda x, f: x[..., 4:9],
    ),
    "shuffle": (
        lambda x, mb: mb.reshape(x=mb.transpose(x=mb.reshape(
            x=mb.conv(x=x, weight=P1, pad_type="valid"), shape=[1, 2, 4, 130]),
            perm=[0, 2, 1, 3]), shape=[1, 8, 13, 10]),
        lambda x, f: f.channel_shuffle(f.conv2d(x, t(P1)), 2),
    ),
    "arithmetic": (
        lambda x, mb: mb.sub(x=mb.real_div(x=mb.add(x=x, y=mb.relu(x=x)), y=CHANNELS), y=1.5),
        lambda x, f: (x + x.relu()) / t(CHANNELS) - 1.5,
    ),
    "subtract_from_constant": (
        lambda x, mb: mb.sub(x=CHANNELS, y=x), lambda x, f: t(CHANNELS) - x,
    ),
    "softmax_over_channels": (
        lambda x, mb: mb.softmax(x=x, axis=1), lambda x, f: x.softmax(1),
    ),
    "reduce_mean_keep": (
        lambda x, mb: mb.reduce_mean(x=x, axes=[-1, 2], keep_dims=True),
        lambda x, f: x.mean((2, 3), keepdim=True),
    ),
    "reduce_mean_of_everything": (
        lambda x, mb: mb.reduce_mean(x=x, keep_dims=True),
        lambda x, f: x.mean((0, 1, 2, 3), keepdim=True),
    ),
    "global_pooling_then_conv": (
        lambda x, mb: mb.conv(x=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True), weight=P1),
        lambda x, f: f.conv2d(x.mean((2, 3), keepdim=True), t(P1)),
    ),
    "avg_pool_ceil": (
        lambda x, mb: mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[3, 3], pad_type="custom",
                                  pad=[1, 1, 1, 1], ceil_mode=True),
        lambda x, f: f.avg_pool2d(x, 3, 3, 1, ceil_mode=True),
    ),
    "minimum_and_maximum": (
        lambda x, mb: mb.maximum(x=mb.minimum(x=x, y=0.5), y=-0.25),
        lambda x, f: x.clip(-0.25, 0.5),
    ),
    "linear": (
        lambda x, mb: mb.linear(x=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False), weight=L5,
                                bias=LB),
        lambda x, f: f.linear(x.mean((2, 3)), t(L5), t(LB)),
    ),
    "flatten_and_matmul": (
        lambda x, mb: mb.matmul(x=mb.reshape(x=x, shape=[1, -1]), y=np.tile(L5.T, (130, 1)) / 50),
        lambda x, f: x.reshape(1, -1) @ t(np.tile(L5.T, (130, 1)) / 50),
    ),
    "matmul_of_two": (
        lambda x, mb: mb.matmul(x=x, y=mb.relu(x=x), transpose_y=True),
        lambda x, f: x @ x.relu().transpose(-1, -2),
    ),
    "concat_channels": (
        lambda x, mb: mb.concat(values=[x, mb.relu(x=x)], axis=1),
        lambda x, f: _cat([x, x.relu()], 1),
    ),
    "pad_constant": (
        lambda x, mb: mb.pad(x=x, pad=[0, 0, 0, 0, 1, 2, 3, 0], mode="constant",
                             constant_val=0.25),
        lambda x, f: f.pad(x, (3, 0, 1, 2), value=0.25),
    ),
    "pad_reflect": (
        lambda x, mb: mb.pad(x=x, pad=[1, 2, 3, 0], mode="reflect"),
        lambda x, f: f.pad(x, (3, 0, 1, 2), mode="reflect"),
    ),
    "transpose_squeeze_expand": (
        lambda x, mb: mb.expand_dims(
            x=mb.squeeze(x=mb.transpose(x=x, perm=[0, 2, 3, 1]), axes=[0]), axes=[2]),
        lambda x, f: x.permute(0, 2, 3, 1).squeeze(0).unsqueeze(2),
    ),
}  # fmt: skip
PROGRAM_ONLY = {"conv_same_lower_stride_2"}  # iOS 14 has no such padding


def _cat(tensors: list[Any], axis: int) -> Any:
    import torch

    return torch.cat(tensors, axis)


def scaled(body: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The operation on pixel / 64 - 2, so that it sees negative numbers too."""
    return lambda x, mb: body(mb.sub(x=mb.mul(x=x, y=1 / 64), y=2.0), mb)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in CASES
        for kind in ("mlprogram", "neuralnetwork")
        if kind == "mlprogram" or name not in PROGRAM_ONLY
    ],
)
def test_an_operation_gives_what_torch_gives(name: str, kind: str, tmp_path: Path) -> None:
    body, reference = CASES[name]
    program = kind == "mlprogram"
    path = tmp_path / ("one.mlpackage" if program else "one.mlmodel")
    convert(scaled(body), path, kind=kind, target="iOS16" if program else "iOS14", size=SIZE)
    pixels = draw_images(1, 5, 16)[0][: SIZE[0], : SIZE[1]]
    x = t(pixels.transpose(2, 0, 1)[None].astype(np.float32)) / 64 - 2
    expected = reference(x, torch_functions()).numpy().reshape(-1)
    found = evaluate(path, pixels)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


def test_float16_programs_round_after_each_operation(tmp_path: Path) -> None:
    def body(x: Any, mb: Any) -> Any:
        return mb.add(x=mb.mul(x=x, y=np.float32(1 / 3)), y=np.float32(1000.3))

    path = tmp_path / "half.mlpackage"
    convert(body, path, precision="float16", size=SIZE)
    pixels = draw_images(1, 5, 16)[0][: SIZE[0], : SIZE[1]]
    planes = pixels.transpose(2, 0, 1).astype(np.float16)
    third = (planes.astype(np.float32) * np.float32(np.float16(1 / 3))).astype(np.float16)
    expected = (third.astype(np.float32) + np.float32(np.float16(1000.3))).astype(np.float16)
    found = evaluate(path, pixels)
    np.testing.assert_array_equal(found, expected.astype(np.float32).reshape(-1))
    assert np.abs(found - (pixels.transpose(2, 0, 1).reshape(-1) / 3 + 1000.3)).max() > 0.1


def test_float16_overflows_to_infinity_as_the_number_format_does(tmp_path: Path) -> None:
    path = tmp_path / "half.mlpackage"
    convert(lambda x, mb: mb.mul(x=x, y=1000.0), path, precision="float16", size=SIZE)
    assert np.isinf(evaluate(path, np.full((*SIZE, 3), 255, np.uint8))).all()


def test_an_interleaved_concatenation_is_not_a_plain_one(tmp_path: Path) -> None:
    def body(x: Any, mb: Any) -> Any:
        return mb.concat(values=[x, mb.mul(x=x, y=2.0)], axis=1, interleave=True)

    path = tmp_path / "one.mlpackage"
    convert(body, path, size=SIZE)
    pixels = draw_images(1, 5, 16)[0][: SIZE[0], : SIZE[1]]
    x = pixels.transpose(2, 0, 1).astype(np.float32)
    expected = np.stack([x, 2 * x], axis=1).reshape(-1)  # r, 2r, g, 2g, b, 2b
    np.testing.assert_array_equal(evaluate(path, pixels), expected)


@pytest.mark.parametrize("layout", ["RGB", "BGR"])
def test_neuralnetwork_preprocessing_is_read_from_the_file(tmp_path: Path, layout: str) -> None:
    colours = import_coremltools("Making a sample file").colorlayout
    path = tmp_path / "one.mlmodel"
    image = {"scale": 1 / 50, "bias": [-1.0, -2.0, -3.5], "color_layout": colours[layout]}
    convert(lambda x, mb: mb.relu(x=x), path, kind="neuralnetwork", target="iOS14", size=SIZE,
            image=image)  # fmt: skip
    pixels = draw_images(1, 5, 16)[0][: SIZE[0], : SIZE[1]]
    planes = pixels.transpose(2, 0, 1).astype(np.float32)
    if layout == "BGR":
        planes = planes[::-1]
    bias = np.array([-1.0, -2.0, -3.5], np.float32).reshape(3, 1, 1)
    expected = np.maximum(planes / 50 + bias, 0).reshape(-1)
    np.testing.assert_allclose(evaluate(path, pixels), expected, atol=1e-5)


def test_padding_that_the_pad_type_overrules_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "one.mlpackage"
    convert(CASES["conv_custom_uneven"][0], source, size=SIZE)

    def change(spec: Any) -> None:
        for constant in operations(spec, "const"):
            value = constant.attributes["val"].immediateValue.tensor
            if list(value.strings.values) == ["custom"]:
                value.strings.values[0] = "valid"

    (tmp_path / "edited").mkdir()
    with pytest.raises(CoreMLFileError, match="has both pad_type 'valid' and pad"):
        evaluate(edit(source, tmp_path / "edited", change), np.zeros((*SIZE, 3), np.uint8))
