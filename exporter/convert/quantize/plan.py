"""What quantization decided, as data: the writer of the int8 file reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
        bias: int32 `[out]`, with scale `input scale * scales`, zero point 0.
    """

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class QuantizationPlan:
    """Everything the int8 file needs besides the graph.

    Attributes:
        activations: for every tensor up to and including the logits; tensors that
            concat, pooling, pad and reshape tie together share one entry's values.
        weights: by node name, for every Conv and Dense.
        constants: int8 values and scale of constant operands, by name.
        record: how it was done (rule per tensor, image count ...), for the manifest.
    """

    activations: Mapping[str, Affine]
    weights: Mapping[str, QuantizedWeights]
    constants: Mapping[str, tuple[npt.NDArray[np.int8], Affine]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
