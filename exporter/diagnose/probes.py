"""Files run with every tensor in view.

LiteRT's copies run under XNNPACK, as on a phone's CPU. Their answers are compared with the
untouched file's on every image (`diagnose`), so that a report can say whether watching
changed anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.diagnose.tflite_file import TfliteFile, Values
from exporter.hushed import hushed
from exporter.prove.runtimes.base import Pixels
from exporter.prove.runtimes.errors import damaged

Floats = npt.NDArray[np.float32]


class Probe:
    """A model in LiteRT, given tensors by index."""

    def __init__(self, model: bytes, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path = path
        try:
            with hushed():
                self._interpreter = Interpreter(model_content=model, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise damaged(path, "LiteRT", error) from error

    def run(self, given: Mapping[int, Values]) -> None:
        """Compute everything; `get` then reads it. Inputs that are not given stay as they were."""
        try:
            for index, values in given.items():
                self.set(index, values)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise damaged(self._path, "LiteRT", error) from error

    def set(self, index: int, values: Values) -> None:
        """Give one input for the runs to come."""
        self._interpreter.set_tensor(index, values)

    def get(self, index: int) -> Values:
        """One output of the last run."""
        found: Values = self._interpreter.get_tensor(index)
        return found


class TfliteFloats:
    """The tensors of a float .tflite file by name, channels last."""

    channels_first = False

    def __init__(self, path: Path) -> None:
        self._file = TfliteFile(path)
        self._probe = Probe(self._file.with_all_outputs(), path)
        self.names: Collection[str] = {
            self._file.tensors[o.output].name for o in self._file.operators
        }

    def run(self, pixels: Pixels) -> None:
        self._probe.run({self._file.input: pixels[None]})

    def get(self, name: str) -> Floats:
        return self._probe.get(self._file.by_name[name].index).astype(np.float32, copy=False)


class OnnxFloats:
    """The tensors of model.onnx by name; four-dimensional ones are turned channels last."""

    channels_first = True

    def __init__(self, path: Path, wanted: Collection[str]) -> None:
        import onnx
        import onnxruntime

        model = onnx.load(str(path))
        made = {name for node in model.graph.node for name in node.output}
        already = {each.name for each in model.graph.output}
        self.names: Collection[str] = sorted(made & set(wanted))
        model.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in self.names if name not in already
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._values: dict[str, Floats] = {}

    def run(self, pixels: Pixels) -> None:
        found = self._session.run(list(self.names), {self._input: pixels[None]})
        self._values = {
            name: values.transpose(0, 2, 3, 1) if values.ndim == 4 else values
            for name, values in zip(self.names, found, strict=True)
        }

    def get(self, name: str) -> Floats:
        return np.ascontiguousarray(self._values[name], np.float32)


FloatTensors = TfliteFloats | OnnxFloats
