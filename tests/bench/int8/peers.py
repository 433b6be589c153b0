"""The other quantizers: what each needs, how it is started, what it left behind."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench import sizes
from bench.int8 import tflite_files
from bench.int8.environments import CACHE, Environment, NotRunError, environment, last_words
from bench.int8.prepared import INSIDE, Logits, Prepared, run_onnx
from exporter import fetched

LIMIT_SECONDS = 3600
TFLITE, QDQ, LOGITS, RESULT = "model.tflite", "model_qdq.onnx", "logits.npy", "result.json"
HOST_LOGITS = "measured_logits.npy"
OWN = "the project's own environment"
CALIBRATING_ORT = ("onnxruntime==1.31.1", "onnx==1.23.2", "sympy==1.14.0")
AIMET = ("aimet-onnx==2.42.0", "torch==2.13.0", "torchvision==0.28.0")


@dataclass(frozen=True)
class Peer:
    """One quantizer with its settings.

    Attributes:
        key: its name on the command line.
        label: its name in the table.
        script: the file in `inside/` that runs it.
        package: the distribution whose version is shown.
        requirements: what its environment holds; empty for the project's own.
        variant: its settings, for the script.
        writes: whether it writes a .tflite; else it is simulated.
    """

    key: str
    label: str
    script: str
    package: str
    requirements: tuple[str, ...] = ()
    variant: Mapping[str, Any] = field(default_factory=dict)
    writes: bool = False


_NNCF = ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.31.1")
_AI_EDGE = ("ai-edge-quantizer==0.10.0",)
PEERS: tuple[Peer, ...] = (
    Peer("tflite-converter", "tf.lite.TFLiteConverter", "tflite_converter.py", "tensorflow-cpu",
         writes=True),
    Peer("onnx2tf", "onnx2tf", "onnx2tf_command.py", "onnx2tf", ("onnx2tf==1.29.24",),
         writes=True),
    Peer("ai-edge", "ai-edge-quantizer, as shipped", "ai_edge.py", "ai-edge-quantizer", _AI_EDGE,
         {"ranges": "shipped"}, writes=True),
    Peer("ai-edge-mean", "ai-edge-quantizer, mean ranges, logits not clipped", "ai_edge.py",
         "ai-edge-quantizer", _AI_EDGE, {"ranges": "mean"}, writes=True),
    Peer("onnxruntime", "onnxruntime, min-max", "ort_static.py", "onnxruntime", CALIBRATING_ORT),
    Peer("onnxruntime-percentile", "onnxruntime, percentile 99.99", "ort_static.py",
         "onnxruntime", CALIBRATING_ORT, {"percentile": 99.99}),
    Peer("nncf", "nncf, full bias correction", "nncf_ptq.py", "nncf", _NNCF,
         {"fast": False, "preset": "performance"}),
    Peer("nncf-mixed", "nncf, full bias correction, preset 'mixed'", "nncf_ptq.py", "nncf",
         _NNCF, {"fast": False, "preset": "mixed"}),
    Peer("nncf-fast", "nncf, fast bias correction", "nncf_ptq.py", "nncf", _NNCF,
         {"fast": True, "preset": "performance"}),
    Peer("aimet", "aimet-onnx, min-max", "aimet_sim.py", "aimet-onnx", AIMET,
         {"scheme": "min_max", "equalize": False}),
    Peer("aimet-sqnr", "aimet-onnx, SQNR ranges", "aimet_sim.py", "aimet-onnx", AIMET,
         {"scheme": "tf_enhanced", "equalize": False}),
    Peer("aimet-cle", "aimet-onnx, SQNR ranges + CLE", "aimet_sim.py", "aimet-onnx", AIMET,
         {"scheme": "tf_enhanced", "equalize": True}),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Ran:
    """What a peer made.

    Attributes:
        logits: float32 `[N, classes]`. seconds, cpu_seconds: of quantizing, by the clock
            and by processor. version: of its package. megabytes: of its environment.
        tflite: its file, where it writes one.
    """

    logits: Logits
    seconds: float
    cpu_seconds: float
    version: str
    megabytes: float
    tflite: Path | None


def run(peer: Peer, prepared: Prepared) -> Ran:
    """A peer's result, from the cache where code, versions and data are the same.

    Raises:
        NotRunError: it could not be installed, or failed.
    """
    home = _environment(peer)
    folder = fetched.folder(CACHE) / "results" / f"{peer.key}-{_key(peer, home, prepared)}"
    if not (folder / HOST_LOGITS).is_file():
        _make(peer, home, prepared, folder)
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return Ran(
        np.load(folder / HOST_LOGITS),
        result["seconds"],
        result["cpu_seconds"],
        home.versions[peer.package],
        home.megabytes,
        folder / TFLITE if peer.writes else None,
    )


def _environment(peer: Peer) -> Environment:
    if peer.requirements:
        name = peer.requirements[0].partition("==")[0]
        return environment(name, peer.requirements)
    try:
        version = importlib.metadata.version(peer.package)
    except importlib.metadata.PackageNotFoundError as error:
        raise NotRunError(f"{peer.package} is not in {OWN}") from error
    found: dict[str, int] = {}
    sizes._collect(peer.package, frozenset(), found)
    return Environment(
        Path(sys.executable), round(sum(found.values()) / 1e6, 1), {peer.package: version}
    )


def _key(peer: Peer, home: Environment, prepared: Prepared) -> str:
    """Of everything that a result depends on."""
    parts = [
        prepared.data_hash,
        *((INSIDE / name).read_text(encoding="utf-8") for name in (peer.script, "job.py")),
        json.dumps([dict(peer.variant), sorted(home.versions.items())]),
        importlib.metadata.version("ai-edge-litert"),
        importlib.metadata.version("onnxruntime"),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _make(peer: Peer, home: Environment, prepared: Prepared, folder: Path) -> None:
    """Run a peer in a folder of its own, renamed when all is there; a failed one is kept."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        prepared.require_tensorflow_files()
        _start(peer, home, prepared, partial)
        np.save(partial / HOST_LOGITS, _answers(prepared, partial))
    except NotRunError:
        _rename(partial, folder.with_name(folder.name + ".failed"))
        raise
    _rename(partial, folder)


def _rename(partial: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _answers(prepared: Prepared, made: Path) -> Logits:
    """The evaluated images' logits, whatever form a peer left its network in."""
    if (made / LOGITS).is_file():
        found: Logits = np.load(made / LOGITS)
    elif (made / QDQ).is_file():
        found = run_onnx(made / QDQ, prepared.normalized(prepared.pixels))
    else:
        found = tflite_files.logits(made / TFLITE, prepared, pixels_in=False)
    if found.shape != prepared.reference.shape:
        raise NotRunError(f"its logits are {found.shape}, not {prepared.reference.shape}")
    return found


def _start(peer: Peer, home: Environment, prepared: Prepared, out: Path) -> None:
    job = out / "job.json"
    job.write_text(json.dumps({
        "logits_onnx": str(prepared.logits_onnx),
        "probabilities_onnx": str(prepared.probabilities_onnx),
        "float_tflite": str(prepared.float_tflite),
        "saved_model": str(prepared.saved_model),
        "calibration": str(prepared.array("calibration")),
        "evaluation": str(prepared.array("evaluation")),
        "mean": prepared.mean.tolist(),
        "std": prepared.std.tolist(),
        "variant": dict(peer.variant),
        "out": str(out),
    }), encoding="utf-8")  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    log = out / "run.log"
    with log.open("wb") as stream:
        try:
            done = subprocess.run(
                [str(home.python), str(INSIDE / peer.script), str(job)],
                stdout=stream, stderr=subprocess.STDOUT, check=False,
                timeout=LIMIT_SECONDS, env=clean,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise NotRunError(f"not finished within {LIMIT_SECONDS} s") from error
    if done.returncode or not (out / RESULT).is_file():
        raise NotRunError(f"it ended with {done.returncode}: {last_words(log)}")
