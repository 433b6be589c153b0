"""The ONNX classifier that came in, exactly as it came: the reference of its bundle.

Everything that the exporter wraps around such a file (layout, normalization, the
output's activation) is done here once more, outside the file and in numpy, so that
the wrapping is proven together with the rest.

* A float input gets `(pixel - mean) / std` by the contract, a uint8 input the raw
  pixels. The layout is that whose shape has the 3 channels: `[N, 3, H, W]` or
  `[N, H, W, 3]`.
* The output is taken as probabilities where the graph ends in the contract's own
  activation (Softmax or Sigmoid, looked for behind Identity, Cast and reshaping),
  as log-probabilities where it ends in LogSoftmax, and as logits otherwise, unless
  they already are non-negative and sum to 1: then the graph spells softmax out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from exporter.prove.runtimes.errors import ArtifactError, damaged, require_file
from exporter.prove.runtimes.ort import OnnxRuntime, failures, open_session
from models.contract import Contract, OutputActivation
from models.errors import MissingExtraError

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_PASSED_OVER = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout")
_SUM_ERROR = 1e-4
_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")


def final_activation(path: Path) -> str | None:
    """The kind of the last computing node if it is an activation of a classifier, else None."""
    import onnx
    import onnx.inliner

    model = onnx.load(str(path), load_external_data=False)
    if model.functions:  # the activation may be inside one
        model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    node = producers.get(graph.output[0].name)
    while node is not None and node.op_type in _PASSED_OVER:
        node = producers.get(node.input[0])
    return node.op_type if node is not None and node.op_type in _ACTIVATIONS else None


def activate(
    values: npt.NDArray[np.float64], found: str | None, activation: OutputActivation, path: Path
) -> Probabilities:
    """Probabilities from what the file gives.

    Args:
        values: its output, `[classes]`.
        found: the activation that the graph ends in, see `final_activation`.
        activation: the contract's.

    Raises:
        ArtifactError: the graph ends in the other kind of activation.
    """
    ending = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}.get(found or "")
    if ending is not None and ending != activation:
        raise ArtifactError(
            f"{path} ends in {found}, the contract says {activation}.",
            "one of the two is wrong",
            f"set output.activation to {ending} in the contract",
        )
    if found == "LogSoftmax":
        values = np.exp(values)
    elif found is None and activation == "softmax" and not _is_distribution(values):
        exponent = np.exp(values - values.max())
        values = exponent / exponent.sum()
    elif found is None and activation == "sigmoid":
        values = 0.5 * (1.0 + np.tanh(0.5 * values))  # the sigmoid, without overflow
    return values.astype(np.float32)


def _is_distribution(values: npt.NDArray[np.float64]) -> bool:
    """Whether values sum to 1 and none is negative, as logits of a network never do."""
    return bool(values.min() >= 0 and abs(values.sum() - 1) < _SUM_ERROR)


class ReferenceOnnxSession(Session):
    """Any ONNX classifier with one image input and one output of `classes` values."""

    def __init__(self, path: Path, contract: Contract, threads: int) -> None:
        self._path, self._contract = path, contract
        self._session = open_session(path, threads)
        given, made = self._session.get_inputs(), self._session.get_outputs()
        if len(given) != 1:
            raise ArtifactError(
                f"{path} has {len(given)} inputs.",
                "a classifier takes one image",
                "export the network alone, without further inputs",
            )
        self._input, self._output = given[0], made[0].name
        self._channels_first = self._layout(given[0].shape)
        self._dtype: Any = _FLOATS.get(given[0].type)
        if self._dtype is None and given[0].type != "tensor(uint8)":
            raise ArtifactError(
                f"The input of {path} is {given[0].type}.",
                "pixels are given as float or as uint8",
                "export the network with a float input",
            )
        self._found = final_activation(path)

    def _layout(self, shape: list[Any]) -> bool:
        rule = self._contract.preprocessing
        for channels_first, wanted in (
            (True, [3, rule.height, rule.width]),
            (False, [rule.height, rule.width, 3]),
        ):
            if len(shape) == 4 and all(
                not isinstance(size, int) or size == right
                for size, right in zip(shape, [1, *wanted], strict=True)
            ):
                return channels_first
        raise ArtifactError(
            f"The input of {self._path} has the shape {shape}.",
            f"the contract's images are 3 x {rule.height} x {rule.width}, one at a time",
            "correct input.height and input.width in the contract, or export with batch 1",
        )

    def probabilities(self, pixels: Pixels) -> Probabilities:
        values: npt.NDArray[Any] = pixels
        if self._dtype is not None:
            how = self._contract.preprocessing.normalization
            mean, std = np.array(how.mean, np.float64), np.array(how.std, np.float64)
            values = ((pixels - mean) / std).astype(self._dtype)
        if self._channels_first:
            values = values.transpose(2, 0, 1)
        feed = {self._input.name: np.ascontiguousarray(values[None])}
        try:
            output = np.asarray(self._session.run([self._output], feed)[0], np.float64).reshape(-1)
        except failures() as error:
            raise damaged(self._path, "onnxruntime", error) from error
        if output.size != len(self._contract.labels):
            raise ArtifactError(
                f"{self._path} gives {output.size} values.",
                f"the contract has {len(self._contract.labels)} labels",
                "list every class of the model in the contract, in the order of its outputs",
            )
        return activate(output, self._found, self._contract.activation, self._path)


class ReferenceOnnxRuntime(Runtime):
    """onnxruntime on the file that came in."""

    name = "reference-onnx"

    def unavailable(self) -> str | None:
        return OnnxRuntime().unavailable()

    def version(self) -> str:
        return f"{OnnxRuntime().version()} (the ONNX that came in)"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        if self.unavailable():
            raise MissingExtraError("onnxruntime", "all", "Running the ONNX reference")
        require_file(path)
        return ReferenceOnnxSession(path, contract, threads)
