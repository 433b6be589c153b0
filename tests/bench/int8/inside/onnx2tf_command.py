"""onnx2tf, full int8, by its command line.

It fetches 20 sample photographs whatever it is given, and takes them from its working
folder where a file of that name lies there: so the first 20 calibration images go there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from job import MODEL, Job

SAMPLES = "calibration_image_sample_data_20x128x128x3_float32.npy"


def main() -> None:
    job = Job()
    work = job.out / "work"
    work.mkdir()
    pixels = job.pixels("calibration")
    rows = np.linspace(0, pixels.shape[1] - 1, 128).astype(int)
    columns = np.linspace(0, pixels.shape[2] - 1, 128).astype(int)
    small = pixels[:20][:, rows][:, :, columns].astype(np.float32) / 255
    np.save(work / SAMPLES, np.resize(small, (20, 128, 128, 3)))
    np.save(work / "calibration.npy", pixels.astype(np.float32))
    mean, std = (str([[[values.tolist()]]]) for values in (job.mean, job.std))
    command = [
        str(Path(sys.executable).parent / "onnx2tf"), "-i", job.probabilities_onnx, "-o", "made",
        "-oiqt", "-qt", "per-channel", "-iqd", "uint8", "-oqd", "uint8",
        "-cind", "image", "calibration.npy", mean, std, "-n",
    ]  # fmt: skip
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with job.timed():
        done = subprocess.run(command, cwd=work, env={**os.environ, "PATH": search}, check=False)
    if done.returncode:
        raise SystemExit(f"error: onnx2tf ended with {done.returncode}")
    (found,) = work.glob("made/*_full_integer_quant.tflite")
    shutil.copy(found, job.out / MODEL)
    shutil.rmtree(work)
    job.finish()


main()
