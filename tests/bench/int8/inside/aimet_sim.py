"""aimet-onnx: its own simulator, min-max or SQNR ranges, with or without equalization.

Weights have a scale a channel, activations one a tensor (its per-channel default
configuration). It is evaluated by its own session, as it has no phone file to write.
"""

from __future__ import annotations

import numpy as np
import onnx
from aimet_onnx import QuantizationSimModel
from aimet_onnx.common.quantsim_config.utils import get_path_for_per_channel_config
from aimet_onnx.cross_layer_equalization import equalize_model
from job import LOGITS, Job


def main() -> None:
    job = Job()
    model = onnx.load(job.logits_onnx)
    images = [{"image": image} for image in job.planes("calibration")]
    with job.timed():
        if job.variant["equalize"]:
            equalize_model(model)
        sim = QuantizationSimModel(
            model,
            param_type="int8",
            activation_type="int8",
            quant_scheme=job.variant["scheme"],
            config_file=get_path_for_per_channel_config(),
            dummy_input=images[0],
            providers=["CPUExecutionProvider"],
        )
        sim.compute_encodings(images)
    found = [sim.session.run(None, {"image": image})[0] for image in job.planes("evaluation")]
    np.save(job.out / LOGITS, np.concatenate(found).astype(np.float32))
    job.finish()


main()
