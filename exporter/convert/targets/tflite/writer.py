"""From a graph to a finished .tflite file."""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from exporter.convert.graph import Graph, GraphError
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.targets.tflite import operators, versions
from exporter.convert.targets.tflite.lowering import Lowering, Precision
from exporter.convert.targets.tflite.metadata import (
    METADATA_KEY,
    About,
    metadata_buffer,
    with_associated_files,
)
from models.contract import INPUT_NAME, OUTPUT_NAME, Contract
from models.errors import UserError

_REGISTERED = operators  # importing it registers every operator's function


def write(
    graph: Graph,
    contract: Contract,
    path: Path,
    precision: Precision,
    plan: QuantizationPlan | None = None,
    about: About | None = None,
) -> None:
    """Write `graph` as a TFLite file with metadata; the same arguments give the same bytes.

    The file takes `image`, uint8 `[1, H, W, 3]`, and gives `probabilities`, float32
    `[1, classes]`, at every precision. float16 keeps constants in half and computes in
    float32 where the runtime has no better; int8 follows the TFLite 8-bit quantization
    specification up to the logits, after which DEQUANTIZE and the last activation are float.

    Args:
        graph: what to write.
        contract: labels and preprocessing, for the metadata.
        path: the file; its folder exists.
        precision: 'float32', 'float16' or 'int8'.
        plan: the quantization; wanted for int8 and for nothing else.
        about: author, version and licence, for the metadata.

    Raises:
        UnloweredNodesError: nodes that TFLite cannot express, all of them.
        GraphError: the plan does not fit the graph or the precision.
        OSError: the file cannot be written.
    """
    Path(path).write_bytes(to_bytes(graph, contract, precision, plan, about))


def to_bytes(
    graph: Graph,
    contract: Contract,
    precision: Precision,
    plan: QuantizationPlan | None = None,
    about: About | None = None,
) -> bytes:
    """What `write` writes."""
    if (plan is None) == (precision == "int8"):
        raise GraphError(f"a {precision} file was asked for with plan={plan}")
    if plan is not None:
        _check_covered(graph, plan)
    lowering = Lowering(graph, precision, plan)
    pixels, probabilities = lowering.run()
    metadata = metadata_buffer(contract, graph.input, about or About())
    model = lowering.flat.serialize(
        {INPUT_NAME: pixels},
        {OUTPUT_NAME: probabilities},
        f"{contract.name} ({precision})",
        {METADATA_KEY: metadata},
    )
    return with_associated_files(model, contract)


def _check_covered(graph: Graph, plan: QuantizationPlan) -> None:
    """Every tensor up to the logits is quantized: no part of the body stays float unsaid."""
    tail = {graph.output} - {graph.logits}
    left = [name for name in graph.tensors() if name not in plan.activations and name not in tail]
    if left:
        raise GraphError(f"the plan leaves these tensors in float: {', '.join(left)}")
    if tail & set(plan.activations):
        raise GraphError(f"the plan quantizes {graph.output!r}, which comes after the logits")


def minimum_runtime(path: Path) -> str:
    """The first TensorFlow Lite release that has every operator version of a file, as '2.9.0'.

    Raises:
        UserError: the file is no TFLite model or does not say.
    """
    data = Path(path).read_bytes()
    if schema.Model.ModelBufferHasIdentifier(data, 0):
        model = schema.Model.GetRootAs(data, 0)
        for position in range(model.MetadataLength()):
            entry = model.Metadata(position)
            if entry.Name() == versions.METADATA_KEY.encode("ascii"):
                blob = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
                return str(blob.rstrip(b"\0").decode("ascii"))
    raise UserError(
        f"{path} does not say which runtime it needs.",
        f"it is no TFLite model, or has no metadata {versions.METADATA_KEY}",
        "export it again",
    )
