"""ONNX to TFLite, proven and reported, in an environment that has only the core."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def core_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with this project and no extra."""
    folder = tmp_path_factory.mktemp("core") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in ("exporter", "models"):
        (source / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt",
         source],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("not run: no package index within reach")
    assert done.returncode == 0, done.stderr
    return python


def run(python: Path, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """`exporter ...` in that environment, away from this checkout."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [str(python.parent / "exporter"), *map(str, arguments)],
        capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=120,
    )  # fmt: skip


def test_onnx_to_tflite_with_the_core_alone(
    core_python: Path, small_onnx_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    heavy = "torch", "tensorflow", "coremltools", "lightning"
    check = f"import importlib.util as u; print([m for m in {heavy} if u.find_spec(m)])"
    present = subprocess.run([core_python, "-c", check], capture_output=True, text=True, check=True)
    assert present.stdout.strip() == "[]"
    done = run(
        core_python, "export", small_onnx_file, "--calibration", image_folder, folder=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / "dist" / "manifest.json").read_text())
    assert sorted(manifest["artifacts"]) == [
        "onnx", "tflite-float16", "tflite-float32", "tflite-int8"
    ]  # fmt: skip
    assert "exporter[coreml]" in manifest["left_out"]["coreml"]
    assert manifest["parity"]["passed"] is True
    assert (tmp_path / "dist" / "report.html").stat().st_size > 5000
    verified = run(core_python, "verify", "dist", folder=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("export", "ONNX", "--formats", "coreml"), "coreml"),
        (("export", "ONNX", "--formats", "saved-model"), "tensorflow"),
        (("export", "model.pth", "--arch", "mobilenet_v2", "--labels", "imagenet"), "torch"),
        (("train", "--synthetic", "--out", "runs/x"), "train"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(
    core_python: Path, small_onnx_file: Path, tmp_path: Path, arguments: tuple[str, ...], extra: str
) -> None:
    (tmp_path / "model.pth").write_bytes(b"PK")
    words = [str(small_onnx_file) if word == "ONNX" else word for word in arguments]
    done = run(core_python, *words, folder=tmp_path)
    assert done.returncode == 2
    assert f"exporter[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr
