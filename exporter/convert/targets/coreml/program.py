"""From the graph to a MIL program, coremltools' intermediate language."""

from __future__ import annotations

from typing import Any

from exporter.convert.graph import Graph, Node
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.targets.coreml import nodes as _nodes  # noqa: F401 - fills the registry
from exporter.convert.targets.coreml.emitter import EMITTERS, CoreMLError, Emitter, Style
from models.contract import INPUT_NAME


def supported_kinds() -> frozenset[type[Node]]:
    """The node kinds that both Core ML formats can say."""
    return frozenset(EMITTERS)


def build_program(ct: Any, graph: Graph, style: Style, plan: QuantizationPlan | None = None) -> Any:
    """Write the graph as a MIL program.

    Args:
        ct: the coremltools module.
        graph: what to write.
        style: how.
        plan: how the graph's tensors are rounded, for W8A8.

    Returns:
        A `coremltools.converters.mil.Program` with the input `image` (float32
        `[1, 3, H, W]`, pixels 0..255) and the output `style.output`
        (float32 `[1, classes]`).

    Raises:
        CoreMLError: node kinds that Core ML has no operator for, all at once; a
            weight too large for float16.
    """
    unknown = [n for n in graph.nodes if type(n) not in EMITTERS]
    if unknown:
        raise CoreMLError(
            "The model cannot be written for Core ML.",
            "no operator for: " + ", ".join(f"{type(n).__name__} ({n.name})" for n in unknown),
            "leave the Core ML formats out with --formats, or replace those layers",
        )
    from coremltools.converters.mil.mil import Builder, Function, Program

    Builder.name_count.clear()  # else names go on from a program that was not finished
    opset = ct.target[style.target]
    pixels = {INPUT_NAME: Builder.placeholder(shape=graph.input.shape, name=INPUT_NAME)}
    with Function(pixels, opset_version=opset) as function:
        image = function.inputs[INPUT_NAME]
        if plan is None:
            emitter = Emitter(Builder, graph, style, image)
        else:
            from exporter.convert.targets.coreml.w8a8 import QuantizingEmitter

            emitter = QuantizingEmitter(Builder, graph, style, image, plan)
        result = emitter.run()
        function.set_outputs([result])
    program = Program()
    program.add_function("main", function)
    return program
