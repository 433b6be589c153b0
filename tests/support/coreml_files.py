"""Core ML files to test the evaluator with, made by coremltools itself.

The network is a small MobileNetV2 whose batch-norm statistics were calibrated on
images and whose logits spread, so that its probabilities depend on every weight. It is
lowered here, by hand and with the MIL builder, so that nothing of the exporter has a
part in it; PyTorch gives the expected probabilities.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.coremltools_shim import import_coremltools, quiet
from exporter.prove.runtimes.coreml.protos import model_messages
from models.contract import Contract, Label, Normalization, Preprocessing
from models.torchvision_shim import import_torchvision

needs_coremltools = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="coremltools is not installed"
)
SIZE = 64
MEAN, STD = (120.0, 115.0, 105.0), (60.0, 58.0, 62.0)
CONTRACT = Contract(
    tuple(Label(f"species {i}") for i in range(10)),
    Preprocessing(SIZE, SIZE, SIZE, normalization=Normalization(MEAN, STD)),
)
SPEC_IN_PACKAGE = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS_IN_PACKAGE = Path("Data/com.apple.CoreML/weights/weight.bin")


@dataclass(frozen=True)
class Samples:
    """The files by name, and what PyTorch says of some images.

    Attributes:
        pixels: uint8 `[n, 64, 64, 3]`.
        expected: float32 `[n, 10]`.
    """

    folder: Path
    pixels: np.ndarray
    expected: np.ndarray

    def path(self, name: str) -> Path:
        return self.folder / name


def edit(source: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a package or model whose specification `change` has altered."""
    copy = folder / source.name
    if source.is_dir():
        shutil.copytree(source, copy, dirs_exist_ok=True)
    else:
        shutil.copy(source, copy)
    path = copy / SPEC_IN_PACKAGE if copy.is_dir() else copy
    spec = model_messages().Model.FromString(path.read_bytes())
    change(spec)
    path.write_bytes(spec.SerializeToString())
    return copy


def operations(spec: Any, kind: str) -> list[Any]:
    """A program's operations of one kind, in order."""
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    return [op for op in block.operations if op.type == kind]


def setting(spec: Any, operation: Any, name: str) -> Any:
    """The values (a repeated field) of a constant that an operation of a program is given."""
    bound = operation.inputs[name].arguments[0]
    value = bound.value
    if bound.WhichOneof("binding") == "name":
        constants = {c.outputs[0].name: c for c in operations(spec, "const")}
        value = constants[bound.name].attributes["val"]
    tensor = value.immediateValue.tensor
    return getattr(tensor, tensor.WhichOneof("value")).values


def evaluate(path: Path, pixels: np.ndarray) -> np.ndarray:
    """What the strict evaluator makes of a file without labels, float32 `[n]`."""
    from exporter.prove.runtimes.coreml.description import read_description
    from exporter.prove.runtimes.coreml.network import Network
    from exporter.prove.runtimes.coreml.package import read_model_file
    from exporter.prove.runtimes.coreml.program import Program
    from exporter.prove.runtimes.coreml.runtime import _planes

    model = read_model_file(path)
    description = read_description(model.spec)
    program = model.kind == "mlProgram"
    read: Any = Program(model, description) if program else Network(model.spec, description)
    return read.run(_planes(pixels, description.image))


def draw_images(count: int, seed: int, size: int = SIZE) -> np.ndarray:
    """Smooth coloured blobs with some grain, uint8 `[count, size, size, 3]`."""
    from PIL import Image

    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        grain = random.normal(0, 12, (size, size, 3))
        images.append(np.clip(smooth + grain, 0, 255).astype(np.uint8))
    return np.stack(images)


def normalized(pixels: np.ndarray) -> Any:
    import torch

    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    return torch.from_numpy(((pixels - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy())


@functools.cache
def network() -> Any:
    """The small MobileNetV2, calibrated."""
    import torch

    torchvision = import_torchvision()
    torch.manual_seed(3)
    net = torchvision.models.mobilenet_v2(
        num_classes=len(CONTRACT.labels),
        width_mult=0.5,
        inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]],
    )
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches
            torch.nn.init.uniform_(module.weight, 0.6, 1.6)
            torch.nn.init.uniform_(module.bias, -0.3, 0.9)
    net.classifier[0].p = 0.0
    net.train()
    with torch.no_grad():
        for seed in range(4):
            net(normalized(draw_images(16, 100 + seed)))
        net.eval()
        logits = net(normalized(draw_images(32, 200)))
        spread = 2.5 / logits.std(0).mean()
        last = net.classifier[1]
        last.weight *= spread
        last.bias.copy_(spread * (last.bias - logits.mean(0)))
    return net


def lower(x: Any, mb: Any, net: Any) -> Any:
    """The network as MIL operations, from pixels to probabilities."""
    import torch

    def conv(x: Any, convolution: Any, norm: Any, clip: bool) -> Any:
        weight, bias = torch.nn.utils.fuse_conv_bn_weights(
            convolution.weight, None, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias,
        )  # fmt: skip
        side = convolution.padding[0]
        x = mb.conv(
            x=x, weight=weight.detach().numpy(), bias=bias.detach().numpy(),
            strides=list(convolution.stride), pad_type="custom", pad=[side] * 4,
            groups=convolution.groups,
        )  # fmt: skip
        return mb.clip(x=x, alpha=0.0, beta=6.0) if clip else x

    def sequence(x: Any, modules: list[Any]) -> Any:
        while modules:
            if isinstance(modules[0], torch.nn.Sequential):
                x = conv(x, modules[0][0], modules[0][1], True)
                modules = modules[1:]
            else:
                x = conv(x, modules[0], modules[1], False)
                modules = modules[2:]
        return x

    shape = (1, 3, 1, 1)
    x = mb.sub(x=x, y=np.array(MEAN, np.float32).reshape(shape))
    x = mb.mul(x=x, y=(1 / np.array(STD, np.float32)).reshape(shape))
    for block in net.features:
        if hasattr(block, "use_res_connect"):
            y = sequence(x, list(block.conv))
            x = mb.add(x=x, y=y) if block.use_res_connect else y
        else:
            x = sequence(x, [block])
    x = mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False)
    last = net.classifier[1]
    x = mb.linear(x=x, weight=last.weight.detach().numpy(), bias=last.bias.detach().numpy())
    return mb.softmax(x=x, axis=-1, name="probabilities")


def convert(
    body: Callable[[Any, Any], Any], path: Path, *, kind: str = "mlprogram",
    precision: str = "float32", target: str = "iOS16", size: tuple[int, int] = (SIZE, SIZE),
    labels: list[str] | None = None, image: dict[str, Any] | None = None,
) -> Any:  # fmt: skip
    """Write the program `body(image, mb)` with coremltools.

    Args:
        image: more arguments for `ImageType` (scale, bias, color_layout).
    """
    import_torchvision()  # before coremltools, or that would take torch for missing
    ct = import_coremltools("Making sample files")
    from coremltools.converters.mil import Builder

    opset = ct.target[target]
    shape = (1, 3, *size)

    @Builder.program(input_specs=[Builder.TensorSpec(shape=shape)], opset_version=opset)
    def program(image: Any) -> Any:
        return body(image, Builder)

    options: dict[str, Any] = {"color_layout": ct.colorlayout.RGB} | (image or {})
    if labels is not None:
        options_for_labels = {"classifier_config": ct.ClassifierConfig(labels)}
    else:
        options_for_labels = {}
    if kind == "mlprogram":
        chosen = {"float32": ct.precision.FLOAT32, "float16": ct.precision.FLOAT16}[precision]
        options_for_labels["compute_precision"] = chosen
    model = ct.convert(
        program, source="milinternal", convert_to=kind, minimum_deployment_target=opset,
        inputs=[ct.ImageType(name="image", shape=shape, **options)], skip_model_load=True,
        **options_for_labels,
    )  # fmt: skip
    if labels is not None:
        model.user_defined_metadata["contract"] = CONTRACT.dumps()
    model.save(str(path))
    return model


@functools.cache
def samples() -> Samples:
    """All the sample files, made once a session in a folder that goes with it."""
    import torch

    folder = Path(tempfile.mkdtemp(prefix="coreml-samples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    net = network()
    pixels = draw_images(8, 7)
    with torch.no_grad():
        expected = torch.softmax(net(normalized(pixels)), dim=-1).numpy()

    def body(x: Any, mb: Any) -> Any:
        return lower(x, mb, net)

    with quiet():
        _write_all(folder, body, list(CONTRACT.names))
    return Samples(folder, pixels, expected)


def _write_all(folder: Path, body: Callable[[Any, Any], Any], labels: list[str]) -> None:
    model = convert(body, folder / "float32.mlpackage", labels=labels)
    convert(body, folder / "float16.mlpackage", precision="float16", labels=labels)
    _compress(model, folder, "")
    newer = convert(
        body, folder / "ios18.mlpackage", precision="float16", target="iOS18", labels=labels
    )
    _compress(newer, folder, "_ios18")
    network_model = convert(
        body, folder / "network.mlmodel", kind="neuralnetwork", target="iOS14", labels=labels
    )
    _quantize(network_model, folder)


def _compress(model: Any, folder: Path, suffix: str) -> None:
    """int8 and palettized weights, each beside what coremltools itself makes of them."""
    from coremltools.optimize import coreml as optimize

    linear = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    table = optimize.OpPalettizerConfig(mode="uniform", nbits=6, weight_threshold=0)
    int8 = optimize.linear_quantize_weights(model, optimize.OptimizationConfig(linear))
    lut6 = optimize.palettize_weights(model, optimize.OptimizationConfig(table))
    for name, made in (("int8", int8), ("lut6", lut6)):
        made.save(str(folder / f"{name}{suffix}.mlpackage"))
        optimize.decompress_weights(made).save(str(folder / f"{name}{suffix}_plain.mlpackage"))


def _quantize(model: Any, folder: Path) -> None:
    """The same for the neuralnetwork format."""
    from coremltools.models.neural_network import quantization_utils
    from coremltools.models.utils import save_spec

    for bits, mode in ((16, "linear"), (4, "linear"), (8, "linear_lut")):
        made = quantization_utils.quantize_weights(model, bits, mode)
        spec = made.get_spec() if hasattr(made, "get_spec") else made
        save_spec(spec, str(folder / f"network_{bits}_{mode}.mlmodel"))
        if bits < 16:
            quantization_utils._dequantize_nn_spec(spec.neuralNetworkClassifier)
            save_spec(spec, str(folder / f"network_{bits}_{mode}_plain.mlmodel"))
