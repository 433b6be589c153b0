"""The float model for TensorFlow's tools: our graph as a SavedModel and a float .tflite.

Runs in the project's own environment, in a process of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import tensorflow as tf

    from exporter.convert import passes
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.targets.saved_model.nodes import build

    graph = passes.for_channels_last(passes.standard(read_graph(Path(given["onnx"]))))
    call = build(tf, graph)
    _, channels, height, width = graph.input.shape
    spec = tf.TensorSpec([1, height, width, channels], tf.float32, name="image")

    class Classifier(tf.Module):
        @tf.function(autograph=False, input_signature=[spec])
        def serving_default(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": call(image)}

    tf.saved_model.save(Classifier(), given["saved_model"])
    converter = tf.lite.TFLiteConverter.from_saved_model(given["saved_model"])
    Path(given["float_tflite"]).write_bytes(converter.convert())


main()
