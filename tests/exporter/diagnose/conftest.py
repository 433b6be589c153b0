"""Tiny bundles whose int8 file is made by hand, so that faults can be planted in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from exporter.bundle import BY_KEY, Bundle, open_bundle, write_manifest
from exporter.convert.graph import Graph
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Contract, Label, Preprocessing
from support import nets, tflite_files

SIZE, CLASSES = 32, 10
PICTURES = [*nets.images(8, SIZE), *nets.images(8, SIZE, seed=5)]  # the last lie in golden/
CONTRACT = Contract(
    tuple(Label(f"species {index}") for index in range(CLASSES)),
    Preprocessing(SIZE, SIZE, SIZE),
    name="tiny",
)


@pytest.fixture(scope="session")
def graph() -> Graph:
    return tflite_files.classifier(SIZE, CLASSES)


@pytest.fixture(scope="session")
def plan(graph: Graph) -> QuantizationPlan:
    return tflite_files.plan_for(graph, PICTURES)


MakeBundle = Callable[..., Bundle]


@pytest.fixture
def make_bundle(tmp_path: Path, graph: Graph) -> MakeBundle:
    def make(
        plan: QuantizationPlan | None,
        int8_graph: Graph | None = None,
        scales: Mapping[str, Any] | None = None,
        equalized: bool = False,
        key: str = "tflite-int8",
        name: str = "dist",
        float_graph: Graph | None = None,
    ) -> Bundle:
        root = tmp_path / name
        (root / "golden").mkdir(parents=True)
        for index, pixels in enumerate(nets.images(8, SIZE, seed=5)):
            Image.fromarray(pixels).save(root / "golden" / f"{index:02}.png")
        (root / "contract.json").write_text(CONTRACT.dumps(), encoding="utf-8")
        if plan is not None:  # None leaves the file to the test
            int8 = to_bytes(int8_graph or float_graph or graph, CONTRACT, "int8", plan)
            (root / BY_KEY[key].path).write_bytes(int8)
        (root / "model_float32.tflite").write_bytes(
            to_bytes(float_graph or graph, CONTRACT, "float32")
        )
        if scales is not None:
            listed = {tensor: [float(s) for s in scale] for tensor, scale in scales.items()}
            content = {"schema": 1, "equalization": listed}
            (root / "quantization.json").write_text(json.dumps(content))
        calibration = {"count": 100, "quantizer": "default", "equalization": {"used": equalized}}
        artifacts: dict[str, Any] = {"tflite-float32": {}, key: {}}
        manifest = {"artifacts": artifacts, "left_out": {}, "reference": "model_float32.tflite",
                    "calibration": calibration}  # fmt: skip
        write_manifest(root, manifest)
        return open_bundle(root)

    return make
