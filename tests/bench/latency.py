"""Our .tflite files against those that tf.lite.TFLiteConverter makes of the same graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from exporter.bundle import open_bundle
from exporter.convert import passes
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import Graph
from exporter.convert.targets.input_scale import fold_input_scale
from exporter.prove.latency import LatencySettings, Timed
from exporter.prove.latency import measure as measure_latency
from exporter.prove.runtimes import registry
from models.images import list_images, load_pixels

RUNS = 300


def measure(work: Path) -> list[tuple[str, str, str]]:
    """Ratios of medians, interleaved, one thread, float32 and int8."""
    bundle = open_bundle(work / "dist") if (work / "dist").is_dir() else open_bundle(
        work / "dist.failed")  # fmt: skip
    graph = passes.for_channels_last(passes.standard(read_graph(bundle.path("onnx"))))
    rule = bundle.contract.preprocessing
    files = list_images(bundle.root / "golden")
    pixels = [load_pixels(file.path, rule) for file in files]
    runtime = registry.get("litert")
    rows = []
    for key, precision in (("tflite-float32", "float32"), ("tflite-int8", "int8")):
        theirs = work / f"theirs_{precision}.tflite"
        theirs.write_bytes(convert(graph, pixels if precision == "int8" else None))
        with (
            runtime.open(theirs, bundle.contract, 1) as reference,
            runtime.open(bundle.path(key), bundle.contract, 1) as ours,
        ):
            found = measure_latency(
                [Timed("TFLiteConverter", "litert", reference), Timed("ours", "litert", ours)],
                pixels, 1, LatencySettings(runs=RUNS, warmup=30),
            )  # fmt: skip
        other, mine = found.results
        rows.append((
            f"latency of {precision} .tflite over TFLiteConverter's, one thread",
            f"{mine.ratio:.3f} ({mine.median_ms:.2f} / {other.median_ms:.2f} ms)", "<= 1.05",
        ))  # fmt: skip
    return rows


def convert(graph: Graph, representative: list[Any] | None) -> bytes:
    """The official converter's file: uint8 pixels in when quantized, probabilities out."""
    import tensorflow as tf

    from exporter.convert.targets.saved_model.nodes import build

    call = build(tf, fold_input_scale(graph))
    _, channels, height, width = graph.input.shape
    kind = tf.float32 if representative is not None else tf.uint8
    function = tf.function(
        call, autograph=False, input_signature=[tf.TensorSpec([1, height, width, channels], kind)]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], function
    )
    if representative is not None:

        def feed() -> Iterator[list[Any]]:
            for image in representative:
                yield [image[None].astype(np.float32)]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = feed
        converter.inference_input_type = tf.uint8
    return bytes(converter.convert())
