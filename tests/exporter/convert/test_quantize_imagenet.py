"""The default int8 file of a trained MobileNetV2 in LiteRT, on photographs it was not made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.convert.evaluate import Evaluator
from exporter.convert.from_onnx import read_graph
from exporter.convert.passes import INT8_TOLERANCE, for_channels_last, standard
from exporter.convert.quantize.quantize import quantize
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Preprocessing
from models.images import list_images, load_pixels
from support import tflite_files

DATA = Path(__file__).parents[4] / "shared" / "data"
WEIGHTS = DATA / "weights" / "mobilenet_v2_imagenet.pth"
PHOTOGRAPHS = DATA / "images" / "imagenet_dev"


@pytest.mark.slow
@pytest.mark.skipif(
    not (WEIGHTS.is_file() and PHOTOGRAPHS.is_dir()), reason="the shared data is not here"
)
def test_the_default_int8_file_is_near_the_float_network(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from exporter.convert.to_onnx import export_checkpoint
    from models.checkpoint import imagenet_labels, load_state_dict_file

    checkpoint = load_state_dict_file(
        WEIGHTS, "mobilenet_v2", imagenet_labels(), resize_shorter_side=224
    )
    export_checkpoint(checkpoint, tmp_path / "model.onnx")
    files = list_images(PHOTOGRAPHS)
    rule = Preprocessing(resize_shorter_side=224)
    images = [load_pixels(file.path, rule) for file in files]
    others = [image for index, image in enumerate(images) if index % 5]

    exact = standard(read_graph(tmp_path / "model.onnx"))
    reference = Evaluator(exact, [exact.logits])
    expected = np.concatenate([reference.run(image)[exact.logits] for image in others])

    graph = for_channels_last(
        standard(read_graph(tmp_path / "model.onnx"), tolerance=INT8_TOLERANCE)
    )
    found = quantize(graph, lambda: images[::5])
    assert found.plan.record["rule"] == "mean_min_max"
    assert found.plan.record["equalization"]["used"]
    measured = replace(found.graph, nodes=found.graph.nodes[:-1], output=found.graph.logits)
    model = to_bytes(measured, checkpoint.contract, "int8", found.plan)
    error = np.concatenate(tflite_files.run(model, others)) - expected

    # 23.7 dB and 0.151 were measured; what is left out is noise between machines
    assert 10 * np.log10((expected**2).sum() / (error**2).sum()) > 23.0
    assert np.abs(error).mean() < 0.165
    agreement = ((expected + error).argmax(1) == expected.argmax(1)).mean()
    assert agreement >= 0.95
