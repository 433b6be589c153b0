"""One function a group of formats: from model.onnx to files in a folder.

Each is a plain function of paths, so that those with heavy libraries can run in
another process while this one writes the rest.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from exporter import bundle
from exporter.pipeline.request import Quantizer
from models.contract import Contract

RECORD = "record.json"
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


def make(
    key: str,
    onnx: Path,
    contract_text: str,
    pixels: Path | None,
    folder: Path,
    quantizer: Quantizer = "default",
) -> None:
    """Write one artifact, and beside it a small record of how it was made.

    Args:
        key: the format's key.
        onnx: model.onnx.
        contract_text: the contract's JSON.
        pixels: the decoded calibration images (.npy) where the format needs them.
        folder: an empty folder to write into.
        quantizer: 'fast' measures ranges only; 'default' equalizes, makes rounding
            errors cancel and corrects biases besides.
    """
    started = time.perf_counter()
    row = bundle.BY_KEY[key]
    contract = Contract.loads(contract_text)
    if key == "tflite-int8":
        assert pixels is not None, "int8 is not chosen without calibration images"
        record = _make_int8(onnx, contract, pixels, folder / row.path, quantizer)
    else:
        record = _MAKERS[row.runtime](row, onnx, contract, folder)
    record["seconds"] = round(time.perf_counter() - started, 3)
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


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
    onnx: Path, contract: Contract, pixels: Path, path: Path, quantizer: Quantizer
) -> dict[str, object]:
    from exporter.convert import passes
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.quantize.quantize import quantize, quantize_fast
    from exporter.convert.targets import tflite
    from exporter.pipeline.pixels import stream

    probes = list(islice(stream(pixels), PROBES))
    graph = passes.standard(read_graph(onnx), tolerance=passes.INT8_TOLERANCE, probes=probes)
    graph = passes.for_channels_last(graph)
    make_plan = quantize_fast if quantizer == "fast" else quantize
    found = make_plan(graph, lambda: stream(pixels))
    tflite.write(found.graph, contract, path, "int8", found.plan)
    return {
        "minimum_runtime": tflite.minimum_runtime(path),
        "calibration": {"quantizer": quantizer, **found.plan.record},
    }


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
