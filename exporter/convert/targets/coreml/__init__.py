"""Write the graph as a Core ML file: .mlpackage (ML program) or .mlmodel (neural network).

The program is built by `program.py` with coremltools' MIL builder; coremltools
serializes it; `package.py` describes it and writes it so that the same graph
gives the same bytes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from exporter.bundle import Precision
from exporter.convert.graph import Graph
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.targets.coreml import floats
from exporter.convert.targets.coreml.emitter import CoreMLError, Style
from exporter.convert.targets.coreml.package import (
    CLASS_LABEL,
    DEFAULT_CARD,
    ModelCard,
    describe,
    write_mlmodel,
    write_mlpackage,
)
from exporter.convert.targets.coreml.program import build_program, supported_kinds
from exporter.convert.targets.input_scale import fold_input_scale
from exporter.coremltools_shim import import_coremltools, quiet
from models.contract import INPUT_NAME, OUTPUT_NAME, Contract

__all__ = ["DEFAULT_CARD", "CoreMLError", "ModelCard", "supported_kinds", "write", "write_w8a8"]

# coremltools names the dictionary of an ML program after the class label
_LIBRARY_NAME = f"{CLASS_LABEL}_probs"
_TENSOR = "probability_values"  # of an ML program; the dictionary is 'probabilities'
Arithmetic = Literal["float16", "float32"]


def write(
    graph: Graph,
    contract: Contract,
    path: Path,
    precision: Precision,
    card: ModelCard = DEFAULT_CARD,
) -> None:
    """Write one Core ML file.

    It takes an RGB image named 'image' of the contract's size and gives the
    dictionary 'probabilities' (label to probability) and the string 'classLabel'.

    Args:
        graph: what to write.
        contract: labels, activation and preprocessing, stored inside the file.
        path: ends in .mlpackage (ML program, iOS 16) or .mlmodel (neural network,
            iOS 13, float32 only); whatever is there is replaced.
        precision: float32, float16, or int8 weights with float16 activations.
        card: author, version and licence for Xcode.

    Raises:
        CoreMLError: a suffix or precision that does not exist, operators that Core
            ML cannot say, labels that do not match the head, weights beyond float16.
        MissingExtraError: coremltools is not installed.
    """
    path = Path(path)
    _write(fold_input_scale(graph), contract, path, _style(path, precision), card)


def write_w8a8(
    graph: Graph,
    contract: Contract,
    path: Path,
    plan: QuantizationPlan,
    card: ModelCard = DEFAULT_CARD,
    arithmetic: Arithmetic = "float16",
) -> None:
    """Write an ML program with int8 weights and int8 activations, for iOS 17 and later.

    Inputs and outputs are those of `write`. Every tensor that the plan rounds is followed
    by a `quantize` and a `dequantize`; see `w8a8.py`.

    Args:
        graph: the one that the plan is for, equalized where the quantizer did so.
        contract: labels, activation and preprocessing, stored inside the file.
        path: ends in .mlpackage; whatever is there is replaced.
        plan: what the quantizer decided.
        card: author, version and licence for Xcode.
        arithmetic: the type of numbers between the integers. The Neural Engine has no
            float32; with it the file holds the plan's scales and biases to the last bit.

    Raises:
        CoreMLError: a suffix other than .mlpackage, operators that Core ML cannot say,
            labels that do not match the head, a scale, weight or bias beyond float16.
        MissingExtraError: coremltools is not installed.
    """
    path = Path(path)
    if path.suffix != ".mlpackage":
        raise CoreMLError(
            f"{path.name} cannot hold int8 activations.",
            "only an ML program has the operators for it",
            "name it .mlpackage",
        )
    style = Style(arithmetic, output=_TENSOR, w8a8=True)
    _write(graph, contract, path, style, card, plan)


def _write(
    graph: Graph,
    contract: Contract,
    path: Path,
    style: Style,
    card: ModelCard,
    plan: QuantizationPlan | None = None,
) -> None:
    _check(graph, contract)
    ct = import_coremltools("Writing a Core ML file")
    floats.forget()
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        program = build_program(ct, graph, style, plan)
        spec, weights = _serialize(ct, program, contract, style, Path(scratch))
        describe(spec, contract, card, style)
        if style.neural_network:
            floats.put_back(spec)
            write_mlmodel(spec, path)
        else:
            write_mlpackage(spec, weights, path)


def _style(path: Path, precision: Precision) -> Style:
    if path.suffix not in (".mlpackage", ".mlmodel"):
        raise CoreMLError(
            f"{path.name} has no suffix of Core ML.",
            "the suffix decides the kind of file",
            "name it .mlpackage (iOS 16) or .mlmodel (older iOS)",
        )
    if path.suffix == ".mlpackage":
        return Style(precision, output=_TENSOR)
    if precision != "float32":
        raise CoreMLError(
            f"{path.name} cannot be written in {precision}.",
            "the older format, .mlmodel, leaves the precision to the device",
            "write float32, or a .mlpackage",
        )
    return Style(precision, neural_network=True, output=OUTPUT_NAME)


def _check(graph: Graph, contract: Contract) -> None:
    classes, labels = graph.shapes[graph.output][-1], len(contract.labels)
    if classes != labels:
        raise CoreMLError(
            f"The model has {classes} outputs, the contract {labels} labels.",
            "each probability is stored under its label",
            "give one label for each output, in order",
        )
    rule = contract.preprocessing
    if graph.input.shape != (1, 3, rule.height, rule.width):
        raise CoreMLError(
            f"The model takes {list(graph.input.shape)}, "
            f"the contract says {rule.height} x {rule.width} pixels.",
            "the image input of the file has one size",
            "correct input.height and input.width in the contract",
        )


def _serialize(
    ct: Any, program: Any, contract: Contract, style: Style, scratch: Path
) -> tuple[Any, Path]:
    """The program as a protobuf message and the file with its weights.

    No pass of coremltools' main pipeline runs: the graph has been through ours,
    and theirs would change what was written with care (and take seconds).
    """
    kind = "neuralnetwork" if style.neural_network else "mlprogram"
    package = scratch / "model.mlpackage"
    model = ct.convert(
        program,
        source="milinternal",
        convert_to=kind,
        inputs=[
            ct.ImageType(
                name=INPUT_NAME,
                shape=tuple(program.functions["main"].inputs[INPUT_NAME].shape),
                color_layout=ct.colorlayout.RGB,
            )
        ],
        classifier_config=ct.ClassifierConfig(
            list(contract.names),
            predicted_feature_name=CLASS_LABEL,
            predicted_probabilities_output=style.output,
        ),
        minimum_deployment_target=ct.target[style.target],
        compute_precision=None if style.neural_network else ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
        package_dir=None if style.neural_network else str(package),
    )
    spec = model.get_spec()
    if not style.neural_network:
        ct.utils.rename_feature(spec, _LIBRARY_NAME, OUTPUT_NAME, rename_inputs=False)
    return spec, package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
