"""nncf, post-training, on ONNX: activations a tensor, with a choice of bias correction."""

from __future__ import annotations

import os

os.environ["NNCF_CI"] = "1"  # it reports its use otherwise

import nncf
import onnx
from job import QDQ, Job
from nncf.quantization.advanced_parameters import (
    AdvancedQuantizationParameters,
    OverflowFix,
    QuantizationParameters,
)


def main() -> None:
    job = Job()
    model = onnx.load(job.logits_onnx)
    images = [{"image": image} for image in job.planes("calibration")]
    with job.timed():
        made = nncf.quantize(
            model,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset(job.variant["preset"]),
            subset_size=len(images),
            fast_bias_correction=job.variant["fast"],
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.DISABLE,
                activations_quantization_params=QuantizationParameters(per_channel=False),
            ),
        )
    onnx.save(made, job.out / QDQ)
    job.finish()


main()
