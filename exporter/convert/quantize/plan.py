"""What quantization decided, as data: the writer of the int8 file reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Affine:
    """Asymmetric per-tensor int8: real = scale * (q - zero_point), q in [-128, 127]."""

    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """The weights of one Conv or Dense, symmetric per output channel.

    Attributes:
        values: int8 in [-127, 127], in the graph's layout (`[out, in / groups, kh, kw]`
            or `[out, in]`).
        scales: float32 `[out]`.
        bias: int32 `[out]`, with scale `input scale * scales`, zero point 0; int64
            where activations are int16.
    """

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32] | npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class QuantizationPlan:
    """Everything the int8 file needs besides the graph.

    Attributes:
        activations: for every tensor up to and including the logits; tensors that
            concat, pooling, pad and reshape tie together share one entry's values.
        weights: by node name, for every Conv and Dense.
        constants: int8 values and scale of constant operands, by name.
        record: how it was done (rule per tensor, image count ...), for the manifest.
        float_nodes: names of nodes that compute in float. What they make is float32;
            where an int8 node reads it, it is rounded to its entry in `activations`.
            Weights and biases are the graph's.
        dynamic_nodes: those of the float nodes (Conv but for depthwise, Dense) whose
            weights stay int8: the runtime quantizes what they read, image by image.
            Weights and biases are those of `weights`, the bias as float32.
        dequantized_nodes: those of the float nodes (Conv, Dense) whose int8 weights are
            turned into float before they are used; the same holds for their biases.
        activation_type: what `activations` are for; int16 ones are symmetric, in
            [-32767, 32767], and biases then have 64 bits.
    """

    activations: Mapping[str, Affine]
    weights: Mapping[str, QuantizedWeights]
    constants: Mapping[str, tuple[npt.NDArray[np.int8], Affine]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    float_nodes: frozenset[str] = frozenset()
    dynamic_nodes: frozenset[str] = frozenset()
    dequantized_nodes: frozenset[str] = frozenset()
    activation_type: Literal["int8", "int16"] = "int8"

    def keeps_int8_weights(self, node: str) -> bool:
        """Whether a node's weights are stored as integers, whatever it computes in."""
        return (
            node not in self.float_nodes
            or node in self.dynamic_nodes
            or node in self.dequantized_nodes
        )
