"""onnxruntime.quantization: QDQ, int8 weights a channel, int8 activations a tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from job import QDQ, Job
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)


class Photographs(CalibrationDataReader):
    """The calibration images, one at a time."""

    def __init__(self, images: Iterator[np.ndarray]) -> None:
        self._images = images

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def main() -> None:
    job = Job()
    percentile = job.variant.get("percentile")
    with job.timed():
        quantize_static(
            job.logits_onnx,
            str(job.out / QDQ),
            Photographs(job.planes("calibration")),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=(
                CalibrationMethod.Percentile if percentile else CalibrationMethod.MinMax
            ),
            extra_options={"CalibPercentile": percentile} if percentile else {},
        )
    job.finish()


main()
