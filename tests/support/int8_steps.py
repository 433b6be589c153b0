"""Rounding to int8 in numpy: what the simulators and the training are held against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter.convert.quantize.plan import Affine


def fake_quantize(values: npt.NDArray[np.float32], by: Affine) -> npt.NDArray[np.float32]:
    """Round to what int8 can represent: `scale * (clip(rint(x / scale) + zp) - zp)`."""
    steps = np.rint(values / np.float32(by.scale)) + by.zero_point
    return ((np.clip(steps, -128, 127) - by.zero_point) * np.float32(by.scale)).astype(np.float32)
