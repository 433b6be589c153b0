"""The ways to write an int8 hard-swish, hard-sigmoid or SiLU: how far from exact, how fast.

    PYTHONPATH=tests python -m bench.activation_forms

Error: one operator over all 256 levels and some scales in LiteRT, against the function of
the dequantized level rounded once. Latency: whole networks of random weights that differ in
these operators alone, run in turns on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.table import Table

from exporter.convert import passes
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import Graph, GraphInput, HardSigmoid, HardSwish, Node, Silu
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.quantize.quantize import quantize_fast
from exporter.convert.quantize.rounding.weights import per_channel_weights
from exporter.convert.targets.tflite import lowering, versions
from exporter.convert.targets.tflite.flat import Quantization
from exporter.convert.targets.tflite.lowering import Lowering, Op, Value
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Contract, Label, Preprocessing
from support import zoo_nets

Doubles = npt.NDArray[np.float64]
SIDE = 16
CONTRACT = Contract((Label("a"), Label("b")), Preprocessing(SIDE, SIDE, SIDE))
GATE, WIDE_GATE, LOGISTIC = Affine(1 / 255, -128), Affine(6 / 255, -128), Affine(1 / 256, -128)
BOUNDS = ((-3.0, 2.0), (-3.0, 6.0), (-6.0, 3.0), (-8.0, 8.0), (-3.0, 14.0), (-20.0, 20.0))


def _hard_sigmoid(x: Doubles) -> Doubles:
    return np.clip(x / 6 + 0.5, 0.0, 1.0)


FUNCTIONS: dict[type[Node], Callable[[Doubles], Doubles]] = {
    HardSwish: lambda x: x * _hard_sigmoid(x),
    HardSigmoid: _hard_sigmoid,
    Silu: lambda x: x / (1 + np.exp(-x)),
}


# The forms: each writes a node that reads `source` and makes `made`.


def _scalar(node: Node, name: str, value: float, to: Lowering) -> Value:
    return to.int8_constant(f"{node.name}/{name}", np.int8([127]), Affine(value / 127, 0))


def _relu6_of_sum(node: Node, source: Value, to: Lowering) -> Value:
    options = schema.AddOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    shifted = to.temporary(f"{node.output}/shifted", source.shape, WIDE_GATE)
    return to.op(Op.ADD, [source, _scalar(node, "three", 3.0, to)], shifted, options)


def _sixth(node: Node, wide: Value, made: Value, to: Lowering) -> Value:
    return to.op(Op.MUL, [wide, _scalar(node, "sixth", 1 / 6, to)], made, schema.MulOptionsT())


def _gate_of_sum(node: Node, source: Value, to: Lowering) -> Value:
    gate = to.temporary(f"{node.output}/gate", source.shape, GATE)
    return _sixth(node, _relu6_of_sum(node, source, to), gate, to)


def _saturated(node: Node, source: Value, gate: Value, to: Lowering) -> Value:
    """x / 6 + 1/2 as a 1x1 depthwise convolution; its result saturates at 0 and 1."""
    assert source.affine is not None
    if len(source.shape) != 4:
        return _sixth(node, _relu6_of_sum(node, source, to), gate, to)
    channels = source.shape[3]
    quantized = per_channel_weights(np.full(channels, 1 / 6), np.full(channels, 0.5), source.affine)
    values = quantized.values.reshape(1, 1, 1, -1)
    weight, offset = to.int8_weights(node.name, quantized, values, 3, source)
    options = schema.DepthwiseConv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH = options.strideW = options.depthMultiplier = 1
    return to.op(Op.DEPTHWISE_CONV_2D, [source, weight, offset], gate, options)


def _times(node: Node, source: Value, gate: Value, to: Lowering) -> None:
    to.op(Op.MUL, [source, gate], to.make(node), schema.MulOptionsT())


def one_operator(node: Node, to: Lowering) -> None:
    to.op(Op.HARD_SWISH, [to.read(node)], to.make(node))


def sum_and_products(node: Node, to: Lowering) -> None:
    source = to.read(node)
    _times(node, source, _gate_of_sum(node, source, to), to)


def sum_and_product(node: Node, to: Lowering) -> None:
    """For its time only: what it makes is six times too large, for the next layer to undo."""
    source = to.read(node)
    _times(node, source, _relu6_of_sum(node, source, to), to)


def depthwise_and_product(node: Node, to: Lowering) -> None:
    source = to.read(node)
    gate = to.temporary(f"{node.output}/gate", source.shape, GATE)
    _times(node, source, _saturated(node, source, gate, to), to)


def gate_by_sum(node: Node, to: Lowering) -> None:
    wide = _relu6_of_sum(node, to.read(node), to)
    _sixth(node, wide, to.make(node), to)


def gate_by_depthwise(node: Node, to: Lowering) -> None:
    _saturated(node, to.read(node), to.make(node), to)


def logistic_and_product(node: Node, to: Lowering) -> None:
    source = to.read(node)
    gate = to.temporary(f"{node.output}/gate", source.shape, LOGISTIC)
    _times(node, source, to.op(Op.LOGISTIC, [source], gate), to)


def in_float(node: Node, to: Lowering) -> None:
    """DEQUANTIZE, the float operators, QUANTIZE."""
    source, made = to.read(node), to.make(node)
    real = to.temporary(f"{node.output}/real", source.shape, None)
    to.op(Op.DEQUANTIZE, [source], real)
    result = to.temporary(f"{node.output}/result", source.shape, None)
    if isinstance(node, HardSwish):
        to.op(Op.HARD_SWISH, [real], result)
    else:
        gate = to.temporary(f"{node.output}/gate", source.shape, None)
        to.op(Op.LOGISTIC, [real], gate)
        to.op(Op.MUL, [real, gate], result, schema.MulOptionsT())
    to.op(Op.QUANTIZE, [result], made)


def table(node: Node, to: Lowering) -> None:
    """QUANTIZE to uint8, CAST to int32, GATHER out of 256 levels."""
    source, made = to.read(node), to.make(node)
    assert source.affine is not None and made.affine is not None
    zero = source.affine.zero_point + 128
    levels = to.flat.tensor(
        f"{node.output}/levels", source.shape, np.uint8,
        Quantization.per_tensor(source.affine.scale, zero),
    )  # fmt: skip
    to.op(Op.QUANTIZE, [source], Value(levels, source.shape))
    index = to.flat.tensor(f"{node.output}/index", source.shape, np.int32)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.UINT8, schema.TensorType.INT32
    to.op(Op.CAST, [levels], Value(index, source.shape), cast)
    entries = rounded_once(type(node), source.affine, made.affine)
    given = to.int8_constant(f"{node.name}/table", entries, made.affine)
    to.op(Op.GATHER, [given, index], made, schema.GatherOptionsT())


@dataclass(frozen=True)
class Form:
    """One way to write one kind of node; `exact` False where only its time means anything."""

    kind: type[Node]
    name: str
    write: Callable[[Any, Lowering], None]
    exact: bool = True


FORMS = (
    Form(HardSwish, "HARD_SWISH", one_operator),
    Form(HardSwish, "ADD with RELU6, MUL 1/6, MUL", sum_and_products),
    Form(HardSwish, "ADD with RELU6, MUL, 1/6 in what reads it", sum_and_product, exact=False),
    Form(HardSwish, "DEPTHWISE_CONV_2D 1x1 that saturates, MUL", depthwise_and_product),
    Form(HardSwish, "DEQUANTIZE, HARD_SWISH, QUANTIZE", in_float),
    Form(HardSwish, "QUANTIZE, CAST, GATHER", table),
    Form(HardSigmoid, "ADD with RELU6, MUL 1/6", gate_by_sum),
    Form(HardSigmoid, "DEPTHWISE_CONV_2D 1x1 that saturates", gate_by_depthwise),
    Form(Silu, "LOGISTIC, MUL", logistic_and_product),
    Form(Silu, "DEQUANTIZE, LOGISTIC, MUL, QUANTIZE", in_float),
    Form(Silu, "QUANTIZE, CAST, GATHER", table),
)


@contextlib.contextmanager
def written_as(form: Form) -> Iterator[None]:
    """Let the writer use a form, and operators that the exporter has no version rules for."""
    known = lowering._LOWERINGS[form.kind]
    version, release = versions.operator_version, versions.first_runtime
    extra = {Op.CAST: 1, Op.GATHER: 2}
    lowering._LOWERINGS[form.kind] = form.write
    versions.operator_version = lambda one: extra.get(one.kind) or version(one)
    versions.first_runtime = lambda one: "2.17.0" if one.kind in extra else release(one)
    try:
        yield
    finally:
        lowering._LOWERINGS[form.kind] = known
        versions.operator_version, versions.first_runtime = version, release


def rounded_once(kind: type[Node], source: Affine, made: Affine) -> npt.NDArray[np.int8]:
    """What each level should become, int8 `[256]`."""
    values = exact_values(kind, source)
    steps = np.rint(values / np.float64(np.float32(made.scale))) + made.zero_point
    return np.clip(steps, -128, 127).astype(np.int8)


def exact_values(kind: type[Node], source: Affine) -> Doubles:
    """The function of every level, float64 `[256]`."""
    levels = np.arange(-128, 128) - source.zero_point
    return FUNCTIONS[kind](levels * np.float64(np.float32(source.scale)))


def affine(low: float, high: float) -> Affine:
    scale = float(np.float32((high - low) / 255))
    return Affine(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def made_by(form: Form, source: Affine, made: Affine) -> npt.NDArray[np.int64]:
    """The level that LiteRT makes of each of the 256, int64."""
    given = GraphInput("p", (1, 3, SIDE, SIDE), source.scale, source.zero_point + 128)
    shapes = {"p": given.shape, "o": given.shape}
    graph = Graph(given, "o", (form.kind(name="n", inputs=("p",), output="o"),), shapes)
    with written_as(form):
        data = to_bytes(graph, CONTRACT, "int8", QuantizationPlan({"p": source, "o": made}, {}))
    pixels = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, SIDE, SIDE, 1), 3, axis=3)
    runner = _opened(data)
    real = _answer(runner, pixels)[0, ..., 0].reshape(-1).astype(np.float64)
    return np.rint(real / np.float64(np.float32(made.scale))).astype(np.int64) + made.zero_point


def errors(form: Form) -> tuple[float, int, float]:
    """Share of levels that differ from rounding once, by how much at most, RMS error in steps."""
    differences, squares = [], []
    for low, high in BOUNDS:
        source = affine(low, high)
        values = exact_values(form.kind, source)
        made = GATE if form.kind is HardSigmoid else affine(values.min(), values.max())
        found = made_by(form, source, made)
        differences.append(found - rounded_once(form.kind, source, made))
        squares.append((found - made.zero_point - values / np.float64(made.scale)) ** 2)
    difference = np.abs(np.concatenate(differences))
    return float((difference > 0).mean()), int(difference.max()), float(np.mean(squares) ** 0.5)


def _opened(data: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _answer(interpreter: Interpreter, pixels: npt.NDArray[np.uint8]) -> Any:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def partitions(data: bytes) -> int:
    """How many parts of a file XNNPACK takes."""
    operators = _opened(data)._get_ops_details()
    return sum(one["op_name"] == "DELEGATE" for one in operators)


def latencies(files: Sequence[bytes], size: int, runs: int) -> list[tuple[float, float]]:
    """Median and least milliseconds of each file, run in turns."""
    opened = [_opened(data) for data in files]
    pixels = zoo_nets.drawing(0, 0, size)[None]
    times = np.zeros((runs, len(files)))
    for run in range(-3, runs):
        for index, interpreter in enumerate(opened):
            started = time.perf_counter()
            _answer(interpreter, pixels)
            if run >= 0:
                times[run, index] = time.perf_counter() - started
    return [(float(np.median(each)) * 1e3, float(each.min()) * 1e3) for each in times.T]


def network(name: str, size: int, folder: Path) -> tuple[Graph, Contract, QuantizationPlan]:
    """The int8 graph of a network, its contract and a plan."""
    from exporter.convert.to_onnx import export_checkpoint

    checkpoint = zoo_nets.decided_checkpoint(name, input_size=size)
    path = folder / f"{name}.onnx"
    export_checkpoint(checkpoint, path)
    graph = passes.for_channels_last(passes.standard(read_graph(path)))
    pictures, _ = zoo_nets.drawings(8, size, 3)
    found = quantize_fast(graph, lambda: iter(pictures))
    return found.graph, checkpoint.contract, found.plan


def main() -> None:
    """Print a table of errors and one of latencies a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=["mobilenet_v3_small", "efficientnet_b0"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    console = Console()
    rows = Table("node", "form", "levels off", "at most", "RMS error, steps", title="against exact")
    for form in FORMS:
        if form.exact:
            share, most, root = errors(form)
            rows.add_row(
                form.kind.__name__, form.name, f"{share:.1%}", f"{most} steps", f"{root:.3f}"
            )
    console.print(rows)
    for name in options.networks:
        console.print(_timed(name, options.size, options.runs))


def _timed(name: str, size: int, runs: int) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        graph, contract, plan = network(name, size, Path(folder))
    kinds = {type(node) for node in graph.nodes}
    forms = [form for form in FORMS if form.kind in kinds]
    files = []
    for form in forms:
        with written_as(form):
            files.append(to_bytes(graph, contract, "int8", plan))
    rows = Table("node", "form", "median ms", "least ms", "delegated parts", title=f"{name} {size}")
    for form, data, (middle, least) in zip(forms, files, latencies(files, size, runs), strict=True):
        parts = str(partitions(data))
        rows.add_row(form.kind.__name__, form.name, f"{middle:.2f}", f"{least:.2f}", parts)
    return rows


if __name__ == "__main__":
    main()
