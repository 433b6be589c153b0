"""One function a group of formats: from model.onnx to files in a folder; and the int8 plan.

Each is a plain function of paths, so that those with heavy libraries can run in
another process while this one writes the rest.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import ThreadpoolController

from exporter import bundle
from exporter.pipeline.request import Quantizer
from models.contract import Contract

if TYPE_CHECKING:
    from exporter.convert.graph import Graph
    from exporter.convert.quantize.quantize import Quantized
    from models.images import Pixels

RECORD = "record.json"
BUDGET = 1.25  # of tflite-mixed, where none is given
DYNAMIC = ":dynamic"  # behind the name of a float layer: it rounds what it reads as it comes
_SCHEMES = {
    "tflite-dynamic": "dynamic_range",
    "tflite-int8-weights": "int8_weights",
    "tflite-int16": "int16",
}
PROBES = 8  # photographs on which folding the normalization into int8 is measured

# The libraries whose versions decide what a format's bytes are.
PACKAGES: dict[str, tuple[str, ...]] = {
    "litert": ("onnx", "onnxruntime", "ai-edge-litert", "flatbuffers", "numpy"),
    "tensorflow": ("onnx", "tensorflow-cpu", "tensorflow", "numpy"),
    "coreml": ("onnx", "coremltools", "numpy"),
    "onnxruntime": ("onnx",),
}


def warm_up(module: str) -> None:
    """Import a heavy library while another process still makes model.onnx."""
    importlib.import_module(module)


@dataclass(frozen=True)
class Calibrated:
    """What the int8 formats are made from.

    Attributes:
        pixels: the decoded calibration images (.npy).
        plan: the folder that `quantize` wrote.
        budget: of tflite-mixed, the most latency by that of the int8 file.
        float_layers: its layers in float, by name, instead of a search; see `DYNAMIC`.
    """

    pixels: Path
    plan: Path
    budget: float = BUDGET
    float_layers: tuple[str, ...] = ()


def quantizer_packages(quantizer: Quantizer) -> tuple[str, ...]:
    """The libraries that a plan depends on."""
    return (*PACKAGES["litert"], "torch") if quantizer == "distill" else PACKAGES["litert"]


def check_quantizer(quantizer: Quantizer, images: int) -> None:
    """Find out before the long work that a quantizer cannot run here.

    Raises:
        MissingExtraError: distillation without PyTorch.
        UserError: fewer images than it needs.
    """
    if quantizer != "distill":
        return
    from exporter.convert.quantize.distill import check

    check(images)


def quantizer_steps(quantizer: Quantizer, images: int) -> int | None:
    """How often `quantize` will call `on_step`; None where that cannot be told before."""
    if quantizer == "distill":
        from exporter.convert.quantize.distill import steps_ahead

        return steps_ahead(images)
    return images if quantizer == "fast" else None


def quantize(
    onnx: Path, pixels: Path, folder: Path, quantizer: Quantizer, on_step: Callable[[], None]
) -> None:
    """Decide about int8, and write the plan, the channels' scales and a record of it.

    Args:
        onnx: model.onnx.
        pixels: the decoded calibration images (.npy).
        folder: an empty folder to write into.
        quantizer: 'fast' measures ranges only; 'default' equalizes, makes rounding errors
            cancel and corrects biases besides; 'distill' learns from there on.
    """
    from exporter.convert.quantize import stored
    from exporter.convert.quantize.ranges.stability import ImageExtremes, stability
    from exporter.pipeline.pixels import stream

    started = time.perf_counter()
    graph = _int8_graph(onnx, pixels)
    halves = ImageExtremes(graph)
    # More threads factor a layer's matrix no faster, and at times ten times slower.
    with ThreadpoolController().select(internal_api="openblas").limit(limits=1):
        found = _quantizer(quantizer)(graph, lambda: stream(pixels), on_step, [halves])
    rule = str(found.plan.record["rule"])
    checked = stability(graph, halves, lambda: stream(pixels), rule)
    stored.save(found, folder)
    scales = {name: scale.tolist() for name, scale in found.scales.items()}
    _write_json(folder / bundle.QUANTIZATION, {"schema": 1, "equalization": scales})
    record = {
        "seconds": round(time.perf_counter() - started, 3),
        "calibration": {
            "quantizer": quantizer,
            **found.plan.record,
            "stability": checked.record(),
            "warnings": [*found.plan.record["warnings"], *filter(None, [checked.warning])],
        },
    }
    _write_json(folder / RECORD, record)


def _quantizer(name: Quantizer) -> Callable[..., Quantized]:
    if name == "distill":
        from exporter.convert.quantize.distill import distill

        return distill
    from exporter.convert.quantize import quantize as quantizers

    return quantizers.quantize_fast if name == "fast" else quantizers.quantize


def make(
    key: str,
    onnx: Path,
    contract_text: str,
    folder: Path,
    calibrated: Calibrated | None = None,
    on_step: Callable[[], None] | None = None,
) -> None:
    """Write one artifact, and beside it a small record of how it was made.

    Args:
        key: the format's key.
        onnx: model.onnx.
        contract_text: the contract's JSON.
        folder: an empty folder to write into.
        calibrated: for the formats whose row says so.
        on_step: called while tflite-mixed is searched for, which takes minutes.
    """
    started = time.perf_counter()
    row = bundle.BY_KEY[key]
    contract = Contract.loads(contract_text)
    if row.calibrated:
        assert calibrated is not None, f"{key} is not chosen without calibration images"
        record = _calibrated(row, onnx, contract, folder, calibrated, on_step)
    else:
        record = _MAKERS[row.runtime](row, onnx, contract, folder)
    record["seconds"] = round(time.perf_counter() - started, 3)
    _write_json(folder / RECORD, record)


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _int8_graph(onnx: Path, pixels: Path) -> Graph:
    """The graph that the quantizers are given; the same whenever it is asked for."""
    from exporter.convert import passes
    from exporter.convert.from_onnx import read_graph
    from exporter.pipeline.pixels import stream

    probes = list(islice(stream(pixels), PROBES))
    graph = passes.standard(read_graph(onnx), tolerance=passes.INT8_TOLERANCE, probes=probes)
    return passes.for_channels_last(graph)


def _quantized(onnx: Path, calibrated: Calibrated) -> Quantized:
    from exporter.convert.quantize import stored

    return stored.load(_int8_graph(onnx, calibrated.pixels), calibrated.plan)


def _make_tflite(
    row: bundle.Format, onnx: Path, contract: Contract, folder: Path
) -> dict[str, object]:
    from exporter.convert import passes
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.targets import tflite

    graph = passes.for_channels_last(passes.standard(read_graph(onnx)))
    path = folder / row.path
    tflite.write(graph, contract, path, row.precision)
    return {"minimum_runtime": tflite.minimum_runtime(path)}


def _calibrated(
    row: bundle.Format,
    onnx: Path,
    contract: Contract,
    folder: Path,
    given: Calibrated,
    on_step: Callable[[], None] | None,
) -> dict[str, object]:
    """One format made from the int8 plan."""
    from exporter.pipeline.pixels import stream

    found = _quantized(onnx, given)
    record: dict[str, object] = {}
    path = folder / row.path
    if row.runtime == "coreml":
        from exporter.convert.targets import coreml

        coreml.write_w8a8(found.graph, contract, path, found.plan)
        return {}
    if row.key == "tflite-mixed":
        found, record = _mixed(found, contract, folder, given, on_step)
    elif row.key in _SCHEMES:
        from exporter.convert.quantize.mixed import modes, schemes

        kept = modes.kept_images(found.graph, lambda: stream(given.pixels))
        found = getattr(schemes, _SCHEMES[row.key])(found, kept)
    from exporter.convert.targets import tflite

    tflite.write(found.graph, contract, path, "int8", found.plan)
    return {"minimum_runtime": tflite.minimum_runtime(path), **record}


def _mixed(
    quantized: Quantized,
    contract: Contract,
    folder: Path,
    given: Calibrated,
    on_step: Callable[[], None] | None,
) -> tuple[Quantized, dict[str, object]]:
    """The best layers in float, found or as told; and what each layer costs, as a file."""
    from exporter.pipeline import budget
    from exporter.pipeline.pixels import stream

    def images() -> Iterator[Pixels]:
        return stream(given.pixels)

    if given.float_layers:
        in_float = [name for name in given.float_layers if not name.endswith(DYNAMIC)]
        dynamic = [n.removesuffix(DYNAMIC) for n in given.float_layers if n.endswith(DYNAMIC)]
        found = budget.given(quantized, images, in_float, dynamic)
    else:
        found = budget.search(quantized, contract, images, given.budget, on_step)
        assert found.table is not None
        _write_json(folder / bundle.SENSITIVITY, {"schema": 1, **found.table.as_json()})
    return found.quantized, {"mixed": found.record}


def _make_saved_model(
    row: bundle.Format, onnx: Path, contract: Contract, folder: Path
) -> dict[str, object]:
    from exporter.convert import passes
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.targets import saved_model

    graph = passes.for_channels_last(passes.standard(read_graph(onnx)))
    saved_model.write(graph, contract, folder / row.path)
    return {}


def _make_coreml(
    row: bundle.Format, onnx: Path, contract: Contract, folder: Path
) -> dict[str, object]:
    from exporter.convert import passes
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.targets import coreml

    coreml.write(passes.standard(read_graph(onnx)), contract, folder / row.path, row.precision)
    return {}


Maker = Callable[[bundle.Format, Path, Contract, Path], dict[str, object]]
_MAKERS: dict[str, Maker] = {
    "litert": _make_tflite,
    "tensorflow": _make_saved_model,
    "coreml": _make_coreml,
}
