"""A .tflite file in LiteRT with XNNPACK on one thread: its logits, and its time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.int8.prepared import Logits, Pixels, Prepared
from exporter.prove.latency import LatencySettings, Timed
from exporter.prove.latency import measure as measure_latency

_BEHIND = ("DEQUANTIZE", "QUANTIZE", "RESHAPE")


def with_logits(model: bytes) -> bytes:
    """A copy whose output is what the softmax at the end reads.

    One number is changed in place, the index in the subgraph's list of outputs, so the
    same kernels run. A file that does not end in a softmax is given back as it is: its
    output is the logits.
    """
    from ai_edge_litert import schema_py_generated as schema

    copy = bytearray(model)
    parsed = schema.Model.GetRootAs(copy, 0)
    graph = parsed.Subgraphs(0)
    outputs = graph.OutputsAsNumpy()  # a view into the copy
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    producers = {int(made): one for one in operators for made in one.OutputsAsNumpy()}
    behind = {getattr(schema.BuiltinOperator, name) for name in _BEHIND}
    tensor = int(outputs[0])
    while (node := producers.get(tensor)) is not None:
        code = parsed.OperatorCodes(node.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        tensor = int(node.Inputs(0))
        if kind == schema.BuiltinOperator.SOFTMAX:
            outputs[0] = tensor
            return bytes(copy)
        if kind not in behind:
            break
    return model


class File:
    """An opened file.

    Args:
        model: the file's bytes.
        prepared: whose normalization to apply.
        pixels_in: whether it takes raw pixels; else normalized images, quantized by the
            input's own scale where it is an integer.
    """

    def __init__(self, model: bytes, prepared: Prepared, pixels_in: bool) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=model, num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._output = self._interpreter.get_output_details()[0]
        self._prepared, self._pixels_in = prepared, pixels_in

    def given(self, pixels: Pixels) -> npt.NDArray[Any]:
        """One image as the file takes it."""
        if self._pixels_in:
            return pixels[None]
        image = self._prepared.normalized(pixels)[None]
        kind = np.dtype(self._input["dtype"])
        if kind == np.float32:
            return image
        scale, zero_point = self._input["quantization"]
        bounds = np.iinfo(kind)
        steps = np.rint(image / np.float32(scale)) + zero_point
        return np.clip(steps, bounds.min, bounds.max).astype(kind)

    def run(self, given: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The output of one prepared image, dequantized, `[classes]`."""
        self._interpreter.set_tensor(self._input["index"], given)
        self._interpreter.invoke()
        made = self._interpreter.get_tensor(self._output["index"]).reshape(-1)
        if made.dtype == np.float32:
            return made.copy()
        scale, zero_point = self._output["quantization"]
        return (made.astype(np.float32) - zero_point) * np.float32(scale)


def logits(path: Path, prepared: Prepared, pixels_in: bool) -> Logits:
    """float32 `[N, classes]` for the evaluated images, as the file computes them."""
    file = File(with_logits(path.read_bytes()), prepared, pixels_in)
    return np.stack([file.run(file.given(image)) for image in prepared.pixels])


class _Same:
    """What is timed: the same image in, an answer out; quantizing the image is not part."""

    def __init__(self, file: File, pixels: Pixels) -> None:
        self._file, self._given = file, file.given(pixels)

    def probabilities(self, pixels: Pixels) -> Any:
        return self._file.run(self._given)


def latencies(
    files: Sequence[tuple[str, Path, bool]], prepared: Prepared, runs: int
) -> dict[str, float]:
    """Median milliseconds an image by name, interleaved, one thread.

    Args:
        files: name, path, whether it takes raw pixels.
    """
    image = prepared.pixels[0]
    entries = [
        Timed(name, "litert", _Same(File(path.read_bytes(), prepared, raw), image))  # type: ignore[arg-type]
        for name, path, raw in files
    ]
    found = measure_latency(entries, [image], 1, LatencySettings(runs=runs, warmup=10))
    return {result.key: result.median_ms for result in found.results}
