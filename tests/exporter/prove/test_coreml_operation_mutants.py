"""What other networks than MobileNetV2 bring, damaged: refused, or the numbers give it away."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.prove.runtimes.coreml import CoreMLFileError
from support.coreml_files import (
    convert,
    draw_images,
    edit,
    evaluate,
    needs_coremltools,
    operations,
    setting,
)

pytestmark = needs_coremltools
SIZE = (13, 10)
PIXELS = draw_images(1, 5, 16)[0][: SIZE[0], : SIZE[1]]
BOOL = 1  # the number of the data type in MIL
KINDS = {"mlprogram": "net.mlpackage", "neuralnetwork": "net.mlmodel"}


@functools.cache
def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(21)
    shapes = {
        "stem": (8, 3, 1, 1), "grouped": (4, 2, 3, 3), "gate": (8, 8, 1, 1), "head": (5, 96),
    }  # fmt: skip
    return {n: random.normal(0, 0.5, shape).astype(np.float32) for n, shape in shapes.items()}


def net(x: Any, mb: Any) -> Any:
    """Local response normalization, halves of the channels, groups, a shuffle, a gate, pools."""
    w = weights()
    x = mb.sub(x=mb.mul(x=x, y=1 / 64), y=2.0)
    x = mb.conv(x=x, weight=w["stem"], pad_type="valid")
    x = mb.local_response_norm(x=x, size=5, alpha=0.7, beta=0.6, k=1.5)
    left, right = (
        mb.slice_by_index(x=x, begin=[0, first, 0, 0], end=[1, first + 4, *SIZE])
        for first in (0, 4)
    )
    left = mb.tanh(x=mb.conv(x=left, weight=w["grouped"], groups=2, pad_type="custom",
                             pad=[1, 1, 1, 1]))  # fmt: skip
    x = mb.concat(values=[left, right], axis=1)
    x = mb.transpose(x=mb.reshape(x=x, shape=[1, 2, 4, 130]), perm=[0, 2, 1, 3])
    x = mb.reshape(x=x, shape=[1, 8, *SIZE])
    x = mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom",
                    pad=[1, 1, 1, 1], exclude_padding_from_average=True)  # fmt: skip
    gate = mb.conv(x=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True), weight=w["gate"])
    x = mb.mul(x=x, y=mb.sigmoid(x=gate))
    x = mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", ceil_mode=True)
    x = mb.linear(x=mb.reshape(x=x, shape=[1, 96]), weight=w["head"])
    return mb.softmax(x=x, axis=-1)


@functools.cache
def expected() -> np.ndarray:
    import torch
    from torch.nn import functional as f

    w = {name: torch.from_numpy(value) for name, value in weights().items()}
    x = torch.from_numpy(PIXELS.transpose(2, 0, 1)[None].astype(np.float32)) / 64 - 2
    x = f.local_response_norm(f.conv2d(x, w["stem"]), 5, 0.7, 0.6, 1.5)
    left = f.conv2d(x[:, :4], w["grouped"], None, 1, 1, 1, 2).tanh()
    x = f.channel_shuffle(torch.cat([left, x[:, 4:]], 1), 2)
    x = f.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    x = x * f.conv2d(x.mean((2, 3), keepdim=True), w["gate"]).sigmoid()
    x = f.max_pool2d(x, 2, 2, ceil_mode=True)
    return (x.flatten(1) @ w["head"].T).softmax(1)[0].numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    for kind, name in KINDS.items():
        target = "iOS16" if kind == "mlprogram" else "iOS14"
        convert(net, folder / name, kind=kind, target=target, size=SIZE)
    return folder


@pytest.mark.parametrize("name", KINDS.values())
def test_the_untouched_file_gives_what_torch_gives(made: Path, name: str) -> None:
    assert np.ptp(expected()) > 0.1
    np.testing.assert_allclose(evaluate(made / name, PIXELS), expected(), atol=2e-6)


def test_half_precision_is_close(tmp_path: Path) -> None:
    path = tmp_path / "half.mlpackage"
    convert(net, path, precision="float16", size=SIZE)
    found = evaluate(path, PIXELS)
    assert 1e-6 < np.abs(found - expected()).max() < 3e-3


Change = Callable[[Any], None]


def put(kind: str, name: str, value: float, place: int = 0, which: int = 0) -> Change:
    """Another value for one setting of one operation of the program."""

    def change(spec: Any) -> None:
        values = setting(spec, operations(spec, kind)[which], name)
        assert values[place] != value
        values[place] = value

    return change


def layers(spec: Any, kind: str) -> list[Any]:
    return [getattr(x, kind) for x in spec.neuralNetwork.layers if x.WhichOneof("layer") == kind]


def set_layer(kind: str, which: int = 0, **fields: Any) -> Change:
    """Other values for fields of one layer of the neuralnetwork."""

    def change(spec: Any) -> None:
        for name, value in fields.items():
            assert getattr(layers(spec, kind)[which], name) != value
            setattr(layers(spec, kind)[which], name, value)

    return change


def both(*changes: Change) -> Change:
    return lambda spec: [change(spec) for change in changes] and None


def exchange_groups(spec: Any) -> None:
    """Four groups of two instead of two of four, in the values and in the declared shapes."""
    reshape, transpose = operations(spec, "reshape")[0], operations(spec, "transpose")[0]
    setting(spec, reshape, "shape")[1:3] = [4, 2]
    for operation, sizes in ((reshape, (4, 2)), (transpose, (2, 4))):
        for place, size in enumerate(sizes, 1):
            dimension = operation.outputs[0].type.tensorType.dimensions[place]
            dimension.constant.size = size


def exchange_groups_of_layer(spec: Any) -> None:
    layers(spec, "reshapeStatic")[0].targetShape[1:3] = [4, 2]
    for layer in spec.neuralNetwork.layers:
        for tensor in (*layer.inputTensor, *layer.outputTensor):
            if len(tensor.dimValue) == 4 and tensor.dimValue[3] == 130:
                tensor.dimValue[1], tensor.dimValue[2] = tensor.dimValue[2], tensor.dimValue[1]


def exchange_halves(spec: Any) -> None:
    first, second = operations(spec, "concat")[0].inputs["values"].arguments
    first.name, second.name = second.name, first.name


def exchange_halves_of_layer(spec: Any) -> None:
    concat = next(x for x in spec.neuralNetwork.layers if x.WhichOneof("layer") == "concat")
    concat.input[:] = list(reversed(concat.input))


def rename(kind: str, other: str) -> Change:
    def change(spec: Any) -> None:
        operations(spec, kind)[0].type = other

    return change


def other_activation(spec: Any) -> None:
    found = next(x for x in layers(spec, "activation") if x.HasField("tanh"))
    found.sigmoid.SetInParent()


PROGRAM, NETWORK = KINDS.values()
WRONG: dict[str, tuple[str, Change]] = {
    "alpha": (PROGRAM, put("local_response_norm", "alpha", 1.4)),
    "beta": (PROGRAM, put("local_response_norm", "beta", 0.75)),
    "k": (PROGRAM, put("local_response_norm", "k", 1.0)),
    "window": (PROGRAM, put("local_response_norm", "size", 3)),
    "slice moved": (PROGRAM, both(put("slice_by_index", "begin", 3, 1, which=1),
                                  put("slice_by_index", "end", 7, 1, which=1))),
    "groups exchanged": (PROGRAM, exchange_groups),
    "halves exchanged": (PROGRAM, exchange_halves),
    "padding counted": (PROGRAM, put("avg_pool", "exclude_padding_from_average", False)),
    "sigmoid for tanh": (PROGRAM, rename("tanh", "sigmoid")),
    "sum for product": (PROGRAM, rename("sigmoid", "tanh")),
    "alpha of the layer": (NETWORK, set_layer("lrn", alpha=1.4)),
    "beta of the layer": (NETWORK, set_layer("lrn", beta=0.75)),
    "k of the layer": (NETWORK, set_layer("lrn", k=1.0)),
    "window of the layer": (NETWORK, set_layer("lrn", localSize=3)),
    "layer's slice moved": (NETWORK, set_layer("slice", 1, startIndex=3, endIndex=7)),
    "layer's groups exchanged": (NETWORK, exchange_groups_of_layer),
    "layer's halves exchanged": (NETWORK, exchange_halves_of_layer),
    "layer counts padding": (NETWORK, set_layer("pooling", avgPoolExcludePadding=False)),
    "layer's sigmoid for tanh": (NETWORK, other_activation),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_sound_but_wrong_gives_other_probabilities(
    made: Path, tmp_path: Path, name: str
) -> None:
    file, change = WRONG[name]
    found = evaluate(edit(made / file, tmp_path, change), PIXELS)
    assert np.abs(found - expected()).max() > 2e-3  # a thousand times what rounding does


def add_squeeze_mask(spec: Any) -> None:
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    cut = operations(spec, "slice_by_index")[0]
    mask = next(c for c in operations(spec, "const")
                if c.outputs[0].name == cut.inputs["begin"].arguments[0].name)  # fmt: skip
    flags = type(mask).FromString(mask.SerializeToString())
    flags.outputs[0].name = "squeezed"
    flags.outputs[0].type.tensorType.dataType = BOOL
    value = flags.attributes["val"]
    value.type.CopyFrom(flags.outputs[0].type)
    value.immediateValue.tensor.bools.values[:] = [True, False, False, False]
    block.operations.insert(0, flags)
    cut.inputs["squeeze_mask"].CopyFrom(cut.inputs["begin"])
    cut.inputs["squeeze_mask"].arguments[0].name = "squeezed"


REFUSED: dict[str, tuple[str, Change, str]] = {
    "even window": (PROGRAM, put("local_response_norm", "size", 4), "a window of 4"),
    "slice begins earlier": (PROGRAM, put("slice_by_index", "begin", 3, 1, 1), "declared to give"),
    "slice ends later": (PROGRAM, put("slice_by_index", "end", 5, 1, 0), "declared to give"),
    "slice beyond": (PROGRAM, put("slice_by_index", "end", 9, 1, 1), "takes 4 to 9"),
    "slice of nothing": (PROGRAM, put("slice_by_index", "end", 4, 1, 1), "takes 4 to 4"),
    "slice that drops an axis": (PROGRAM, add_squeeze_mask, "drops axes"),
    "no groups": (PROGRAM, put("conv", "groups", 4, which=1), "channels"),
    "pool without its last row": (PROGRAM, put("max_pool", "ceil_mode", False), "declared"),
    "even window of the layer": (NETWORK, set_layer("lrn", localSize=4), "a window of 4"),
    "no window": (NETWORK, set_layer("lrn", localSize=0), "a window of 0"),
    "layer's slice beyond": (NETWORK, set_layer("slice", 1, endIndex=9), "up to 9"),
    "layer's slice of nothing": (NETWORK, set_layer("slice", 0, endIndex=-1), "0 to -1"),
    "layer's slice in steps of 0": (NETWORK, set_layer("slice", 0, stride=0), "steps of 0"),
    "layer's groups": (NETWORK, set_layer("convolution", 1, nGroups=4), "channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_contradiction_is_refused(made: Path, tmp_path: Path, name: str) -> None:
    file, change, words = REFUSED[name]
    with pytest.raises(CoreMLFileError, match=words):
        evaluate(edit(made / file, tmp_path, change), PIXELS)
