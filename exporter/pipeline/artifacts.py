"""One function a group of formats: from model.onnx to files in a folder; and the int8 plan.

Each is a plain function of paths, so that those with heavy libraries can run in
another process while this one writes the rest.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import bundle
from exporter.pipeline.request import Quantizer
from models.contract import Contract

if TYPE_CHECKING:
    from exporter.convert.graph import Graph
    from exporter.convert.quantize.quantize import Quantized

RECORD = "record.json"
SCALES = "scales.json"
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
    """

    pixels: Path
    plan: Path


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
    from exporter.convert.quantize.stability import observed, stability
    from exporter.pipeline.pixels import stream

    started = time.perf_counter()
    graph = _int8_graph(onnx, pixels)
    found = _quantizer(quantizer)(graph, lambda: stream(pixels), on_step)
    checked = stability(graph, observed(graph, stream(pixels)), lambda: stream(pixels))
    stored.save(found, folder)
    scales = {name: scale.tolist() for name, scale in found.scales.items()}
    _write_json(folder / SCALES, {"schema": 1, "equalization": scales})
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
    key: str, onnx: Path, contract_text: str, folder: Path, calibrated: Calibrated | None = None
) -> None:
    """Write one artifact, and beside it a small record of how it was made.

    Args:
        key: the format's key.
        onnx: model.onnx.
        contract_text: the contract's JSON.
        folder: an empty folder to write into.
        calibrated: for the formats whose row says so.
    """
    started = time.perf_counter()
    row = bundle.BY_KEY[key]
    contract = Contract.loads(contract_text)
    if row.calibrated:
        assert calibrated is not None, f"{key} is not chosen without calibration images"
        record = _CALIBRATED[key](row, onnx, contract, folder, calibrated)
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


def _make_int8(
    row: bundle.Format, onnx: Path, contract: Contract, folder: Path, calibrated: Calibrated
) -> dict[str, object]:
    from exporter.convert.targets import tflite

    found = _quantized(onnx, calibrated)
    path = folder / row.path
    tflite.write(found.graph, contract, path, "int8", found.plan)
    return {"minimum_runtime": tflite.minimum_runtime(path)}


def _make_w8a8(
    row: bundle.Format, onnx: Path, contract: Contract, folder: Path, calibrated: Calibrated
) -> dict[str, object]:
    from exporter.convert.targets import coreml

    found = _quantized(onnx, calibrated)
    coreml.write_w8a8(found.graph, contract, folder / row.path, found.plan)
    return {}


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
FromPlan = Callable[[bundle.Format, Path, Contract, Path, Calibrated], dict[str, object]]
_CALIBRATED: dict[str, FromPlan] = {"tflite-int8": _make_int8, "coreml-w8a8": _make_w8a8}
