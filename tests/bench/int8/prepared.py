"""One task on disk: decoded photographs, the float network in each peer's form, its logits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.int8.environments import NotRunError
from bench.int8.protocol import Task
from exporter.bundle import Bundle, open_bundle
from models.errors import UserError

INSIDE = Path(__file__).parent / "inside"
Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Taken:
    """Seconds of a process with its children, by the clock and by processor."""

    wall: float
    cpu: float

    def beyond(self, other: Taken) -> Taken:
        """What it took more than another."""
        return Taken(round(self.wall - other.wall, 2), round(self.cpu - other.cpu, 2))


@dataclass(frozen=True, eq=False)
class Prepared:
    """What every quantizer of a task starts from.

    Attributes:
        work: a folder to write into.
        bundle: an export with model.onnx only.
        calibration: a flat folder of the calibration images.
        pixels: uint8 `[N, H, W, 3]` of the evaluated images.
        mean, std: what normalizes pixels, `[3]`, in pixel values.
        truth: class index of each evaluated image, int64 `[N]`.
        reference: the float network's logits, float32 `[N, classes]`.
        data_hash: of model and pixels; what a cached result depends on.
    """

    work: Path
    bundle: Bundle
    calibration: Path
    pixels: Pixels
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]
    reference: Logits
    data_hash: str

    @property
    def logits_onnx(self) -> Path:
        return self.work / "logits.onnx"

    @property
    def probabilities_onnx(self) -> Path:
        return self.work / "probabilities.onnx"

    @property
    def saved_model(self) -> Path:
        return self.work / "saved_model"

    @property
    def float_tflite(self) -> Path:
        return self.work / "float.tflite"

    def array(self, part: str) -> Path:
        """The file of 'calibration' or 'evaluation' pixels."""
        return self.work / f"{part}.npy"

    def normalized(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """float32 of the same shape."""
        return (pixels.astype(np.float32) - self.mean) / self.std

    def require_tensorflow_files(self) -> None:
        """Make the float SavedModel and .tflite where they are not there yet.

        Raises:
            NotRunError: TensorFlow failed; with what it said last.
        """
        if self.float_tflite.is_file():
            return
        given = self.work / "tensorflow.json"
        given.write_text(json.dumps({
            "onnx": str(self.probabilities_onnx),
            "saved_model": str(self.saved_model),
            "float_tflite": str(self.float_tflite),
        }), encoding="utf-8")  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(INSIDE / "tensorflow_float.py"), str(given)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["nothing was said"]
            raise NotRunError(f"TensorFlow's float model: {said[-1]}")


def prepare(task: Task, bundle: Bundle, work: Path) -> Prepared:
    """Decode the photographs and run the float network on them.

    Args:
        bundle: of `export_float`.
        work: a new folder.

    Raises:
        UserError: the network's end is no softmax, or an image cannot be read.
    """
    from models.images import load_pixels

    contract = bundle.contract
    calibration = work / "calibration"
    calibration.mkdir(parents=True)
    for index, file in enumerate(task.calibration):
        shutil.copy(file, calibration / f"{index:04d}_{file.name}")
    for part, files in (("calibration", task.calibration), ("evaluation", task.evaluation)):
        made = [load_pixels(file, contract.preprocessing) for file in files]
        np.save(work / f"{part}.npy", np.stack(made))
    pixels = np.load(work / "evaluation.npy")
    mean, std = write_plain(bundle.path("onnx"), work / "logits.onnx", work / "probabilities.onnx")
    names = {name: index for index, name in enumerate(contract.names)}
    truth = np.array([one if isinstance(one, int) else names[one] for one in task.truth])
    reference = run_onnx(work / "logits.onnx", (pixels - mean) / std)
    digest = hashlib.sha256()
    for path in (work / "logits.onnx", work / "calibration.npy", work / "evaluation.npy"):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return Prepared(
        work, bundle, calibration, pixels, mean, std, truth, reference, digest.hexdigest()
    )


def export_float(task: Task, out: Path) -> Bundle:
    """A bundle with nothing but model.onnx.

    Raises:
        UserError: the exporter refused the model.
    """
    run_exporter(
        [
            "export",
            *task.words,
            "--formats",
            "onnx",
            "--out",
            str(out),
            "--no-cache",
            "--runs",
            "0",
        ],
        out.with_suffix(".log"),
    )  # fmt: skip
    return open_bundle(out)


def run_exporter(words: Sequence[str], log: Path) -> Taken:
    """One `exporter ...` in a process of its own; a gate that fails is not an error here.

    Raises:
        UserError: it ended otherwise; with what it said.
    """
    command = [str(Path(sys.executable).parent / "exporter"), *words]
    started, used = time.perf_counter(), os.times()
    with log.open("wb") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
    seconds, after = time.perf_counter() - started, os.times()
    if done.returncode not in (0, 1):
        said = log.read_text(encoding="utf-8", errors="replace").strip()
        raise UserError(f"'exporter {words[0]}' ended with {done.returncode}.", said[-600:])
    children = sum(after[2:4]) - sum(used[2:4])
    return Taken(seconds, children)


def write_plain(
    onnx_file: Path, logits: Path, probabilities: Path
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The network as other tools expect it: float NCHW, normalized outside.

    model.onnx begins with Transpose, Cast, Sub(mean), Div(std) and ends in Softmax; the
    first four go, and the softmax in one of the two files.

    Returns:
        mean and deviation, float32 `[3]`, in pixel values.

    Raises:
        UserError: model.onnx is of another form.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(onnx_file)
    nodes = list(model.graph.node)
    kinds = [node.op_type for node in nodes]
    if kinds[:4] != ["Transpose", "Cast", "Sub", "Div"] or kinds[-1] != "Softmax":
        raise UserError(
            f"not run: {onnx_file.name} is not pixels, normalization, network, softmax.",
            f"it begins with {', '.join(kinds[:4])} and ends in {kinds[-1]}",
        )
    held = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    mean, std = (held[node.input[1]].reshape(3) for node in nodes[2:4])
    height, width = (entry.dim_value for entry in
                     model.graph.input[0].type.tensor_type.shape.dim[1:3])  # fmt: skip
    front = nodes[3].output[0]
    for node in nodes:
        node.input[:] = ["image" if name == front else name for name in node.input]
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    for path, end in ((probabilities, nodes[-1].output[0]), (logits, nodes[-1].input[0])):
        body = nodes[4:] if path == probabilities else nodes[4:-1]
        used = {name for node in body for name in node.input}
        graph = helper.make_graph(
            body, "plain",
            [helper.make_tensor_value_info("image", 1, [1, 3, height, width])],
            [helper.make_tensor_value_info(end, 1, [1, classes])],
            [entry for entry in model.graph.initializer if entry.name in used],
        )  # fmt: skip
        plain = helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=min(model.ir_version, 10)
        )
        onnx.checker.check_model(plain)
        onnx.save(plain, path)
    return mean.astype(np.float32), std.astype(np.float32)


def run_onnx(path: Path, images: npt.NDArray[np.float32], threads: int = 0) -> Logits:
    """A network's output for normalized images `[N, H, W, 3]`, float32 `[N, classes]`.

    Rounding steps stay what they are: none is merged into an integer kernel.
    """
    import onnx

    from exporter.convert.quantize.simulate import open_session

    session: Any = open_session(onnx.load(path), threads)
    name = session.get_inputs()[0].name
    planes = (np.ascontiguousarray(image.transpose(2, 0, 1))[None] for image in images)
    found = [session.run(None, {name: plane})[0] for plane in planes]
    return np.concatenate(found).astype(np.float32)
