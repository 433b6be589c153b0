"""A bundle made from an ONNX file that came in is proven against that very file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from PIL import Image

from exporter.bundle import BY_KEY, open_bundle, write_manifest
from exporter.convert import passes
from exporter.convert.adopt import adopt_onnx
from exporter.convert.evaluate import to_onnx_model
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import GraphInput
from exporter.convert.targets import tflite
from exporter.prove.parity import ParitySettings, run_parity
from exporter.prove.results import ParityReport
from models.contract import Contract, Normalization
from models.images import list_images
from support import tinyfiles


def bare_network(path: Path, end: str) -> None:
    """The tiny network without its normalization: float NCHW in, logits or softmax out."""
    whole = tinyfiles.graph()
    bare = replace(whole, nodes=whole.nodes[1:], input=GraphInput("x", whole.input.shape))
    onnx.save(to_onnx_model(bare, [end]), str(path))


def prove(folder: Path, end: str, believed: Contract) -> ParityReport:
    """Adopt the network under one contract, prove it under the right one."""
    root = folder / "dist"
    (root / "reference").mkdir(parents=True)
    own = root / "reference" / "own.onnx"
    bare_network(own, end)
    adopt_onnx(own, believed, root / "model.onnx")
    graph = passes.standard(read_graph(root / "model.onnx"))
    tflite.write(graph, tinyfiles.CONTRACT, root / "model_float32.tflite", "float32")
    (root / "contract.json").write_text(tinyfiles.CONTRACT.dumps())
    artifacts = {key: {"path": BY_KEY[key].path} for key in ("onnx", "tflite-float32")}
    write_manifest(root, {"artifacts": artifacts, "reference": "reference/own.onnx"})
    images = folder / "images"
    images.mkdir()
    for number, picture in enumerate(tinyfiles.pictures()):
        Image.fromarray(picture).save(images / f"{number:02d}.png")
    settings = ParitySettings(latency=None)
    return run_parity(open_bundle(root), list_images(images), images, settings=settings)


@pytest.mark.parametrize("end", ["logits", "probabilities"])
def test_the_wrapping_is_proven_too(tmp_path: Path, end: str) -> None:
    report = prove(tmp_path, end, tinyfiles.CONTRACT)
    assert report.reference.endswith("(the ONNX that came in)")
    compared = {found.key: found.status for found in report.artifacts if found.images}
    assert compared == {"onnx": "passed", "tflite-float32": "passed"}


def test_a_wrapping_with_another_normalization_fails(tmp_path: Path) -> None:
    rule = replace(
        tinyfiles.CONTRACT.preprocessing,
        normalization=Normalization((127.5, 127.5, 127.5), (120.0, 127.5, 127.5)),
    )
    report = prove(tmp_path, "logits", replace(tinyfiles.CONTRACT, preprocessing=rule))
    assert {found.status for found in report.artifacts if found.images} == {"failed"}
