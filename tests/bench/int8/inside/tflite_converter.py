"""tf.lite.TFLiteConverter, full int8: uint8 pixels in, operators in int8 only."""

from __future__ import annotations

import tensorflow as tf
from job import MODEL, Job


def main() -> None:
    job = Job()
    with job.timed():
        converter = tf.lite.TFLiteConverter.from_saved_model(job.saved_model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in job.images("calibration"))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        made = converter.convert()
    (job.out / MODEL).write_bytes(made)
    job.finish()


main()
