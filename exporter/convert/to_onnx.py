"""From a PyTorch classifier to `model.onnx`, the file that every other is made from."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from exporter.convert.adopt import adopt_onnx
from exporter.convert.from_onnx import graph_of
from exporter.convert.held_weights import Weights
from exporter.convert.onnx_file import OPSET, check_model, infer_shapes, set_contract
from exporter.convert.onnx_file import strip as strip_traces
from exporter.convert.onnx_fold import fold_constants, quiet, simplify
from models import state_files
from models.contract import INPUT_NAME, OUTPUT_NAME, Contract
from models.errors import MissingExtraError, UserError

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

_LARGE = 2**21  # values of a weight that is kept out of what is traced and simplified

__all__ = ["ExportError", "adopt_onnx", "export_checkpoint", "export_classifier"]


class ExportError(UserError):
    """A PyTorch model that cannot become an ONNX file."""


def export_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint as `model.onnx`.

    The file takes `image` (uint8 `[1, H, W, 3]`) and gives `probabilities`
    (float32 `[1, classes]`); its metadata holds the contract and the label names.
    The same checkpoint gives the same bytes.

    Raises:
        MissingExtraError: torch or onnxscript is not installed.
        ExportError: torch cannot trace the network, or its weights are not finite.
        UnsupportedOperatorsError: the network has operators no target can write.
    """
    try:
        from models.checkpoint import build
        from models.classifier import Classifier
    except ImportError as error:
        raise MissingExtraError("torch", "torch", "Exporting a PyTorch model") from error
    _export(Classifier(build(checkpoint), checkpoint.contract), checkpoint.contract, path)


def export_classifier(classifier: Any, contract: Contract, path: Path) -> None:
    """Write a torch module from uint8 NHWC to probabilities as `model.onnx`.

    Args:
        classifier: a `torch.nn.Module` in any mode; a copy in eval mode is exported.
        contract: gives the input size, and goes into the file.
        path: the file to write.

    Raises:
        see `export_checkpoint`.
    """
    _export(copy.deepcopy(classifier), contract, path)


def _export(classifier: Any, contract: Contract, path: Path) -> None:
    """`export_classifier` of a module that may be changed."""
    try:
        import torch
        import torch.onnx

        from exporter.convert.fuse_torch import fuse_batch_norms
    except ImportError as error:
        raise MissingExtraError("torch", "torch", "Exporting a PyTorch model") from error
    # One level more, so that every weight's name has a dot and no computed tensor's has.
    module = torch.nn.Sequential(classifier).cpu().eval()
    _check_module(module)
    fuse_batch_norms(module)
    rule = contract.preprocessing
    pixels = torch.zeros((1, rule.height, rule.width, 3), dtype=torch.uint8)
    origin = "the exported model"
    traced, large = _traced(module, pixels)
    model = simplify(traced)
    assert model is not None, "onnxsim takes what torch writes"
    _put_back(model, large)
    _check_inference_only(model)
    model = fold_constants(infer_shapes(model, origin), origin)
    strip_traces(model)
    set_contract(model, contract)
    check_model(model, origin)
    content = model.SerializeToString(deterministic=True)
    graph_of(model, origin)  # an operator that no target writes is found here
    Path(path).write_bytes(content)


def _check_module(module: Any) -> None:

    training = [name or "(the whole)" for name, part in module.named_modules() if part.training]
    if training:
        raise RuntimeError(f"eval() left parts in training mode: {', '.join(training[:5])}")
    for name, values in (*module.named_parameters(), *module.named_buffers()):
        if values.is_floating_point() and not state_files.is_finite(values):
            raise ExportError(
                f"The weights hold values that are not finite: {name}.",
                "a NaN or an infinity there makes every answer NaN",
                "train again with a lower learning rate, or take an earlier checkpoint",
            )


def _traced(module: Any, pixels: Any) -> tuple[onnx.ModelProto, Weights]:
    """What torch makes of a module, and apart from it the large weights of dense layers.

    onnxsim and protobuf would copy them several times; meanwhile they are inputs. Those of
    convolutions stay, for onnxsim folds batch norms into them.
    """
    import torch

    from exporter.convert.restate_torch import restated

    try:
        with quiet(), torch.no_grad(), restated():
            program = torch.onnx.export(
                module,
                (pixels,),
                None,
                dynamo=True,
                optimize=True,  # resolves CastLike, which onnxsim leaves
                verify=False,  # a call of onnxruntime that parity makes anyway
                external_data=False,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                verbose=False,
            )
    except ImportError as error:
        raise MissingExtraError("onnxscript", "torch", "Exporting a PyTorch model") from error
    except torch.onnx.errors.OnnxExporterError as error:
        cause = error.__cause__ or error
        raise ExportError(
            "torch cannot export this network.",
            f"{type(cause).__name__}: {str(cause).strip().splitlines()[0][:300]}",
            "a network with control flow that depends on its input cannot be a fixed graph; "
            "export it to ONNX yourself and bring the .onnx file with --contract",
        ) from error
    graph = program.model.graph  # type: ignore[union-attr]
    large: Weights = {}
    for name, value in list(graph.initializers.items()):
        if len(value.shape) == 2 and value.const_value.size >= _LARGE:
            numbers = value.const_value.numpy()
            if numbers.dtype != np.float32:
                continue
            large[name] = numbers
            del graph.initializers[name]
            value.const_value = None
            graph.inputs.append(value)
    return program.model_proto, large  # type: ignore[union-attr]


def _put_back(model: onnx.ModelProto, large: Weights) -> None:
    """Store weights that were inputs meanwhile, where a node still reads them."""
    graph = model.graph
    for place in reversed(range(len(graph.input))):
        if graph.input[place].name in large:
            del graph.input[place]
    read = {name for node in graph.node for name in node.input}
    for name, value in large.items():
        if name in read:
            kind = onnx.TensorProto.FLOAT
            raw = value.astype("<f4", copy=False).tobytes()
            graph.initializer.add(name=name, data_type=kind, dims=value.shape, raw_data=raw)


def _check_inference_only(model: onnx.ModelProto) -> None:
    """Nothing in the file may behave as in training: no dropout, no batch statistics."""
    for node in model.graph.node:
        modes = [a.i for a in node.attribute if a.name == "training_mode"]
        dropping = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]
        if (
            any(modes)
            or dropping
            or (node.op_type == "BatchNormalization" and len(node.output) > 1)
        ):
            raise RuntimeError(f"{node.op_type} {node.name} was exported in training mode")
