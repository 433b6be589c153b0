"""Tiny ONNX files made by hand, and runs of them in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[Any]


def make_model(
    nodes: Sequence[onnx.NodeProto],
    input_shape: Sequence[int | str],
    weights: Mapping[str, npt.NDArray[Any]] | None = None,
    output_shape: Sequence[int | str] | None = None,
    *,
    opset: int = 18,
    input_type: int = TensorProto.FLOAT,
    output_type: int = TensorProto.FLOAT,
    input_name: str = "x",
    output_name: str = "y",
) -> onnx.ModelProto:
    """A model from `x` to `y`."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(input_name, input_type, list(input_shape))],
        [helper.make_tensor_value_info(output_name, output_type, output_shape)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: onnx.ModelProto, value: npt.NDArray[Any]) -> Floats:
    """The first output in onnxruntime, without its graph optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: Floats = session.run(None, {session.get_inputs()[0].name: value})[0]
    return result


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Random pixels, uint8 `[H, W, C]`."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels)).astype(np.uint8)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> npt.NDArray[np.float32]:
    """Normally distributed float32 values."""
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)
