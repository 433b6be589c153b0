"""Bad input: a clear error, exit code 2, no traceback, nothing written, nothing lost."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from support import bundles, nets
from support.cli import Ran, run_cli

SMALL = ("--arch", "mobilenet_v2", "--width", nets.WIDTH, "--input-size", nets.SIZE)


class _Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code in a pickle was run",))


def refused(ran: Ran, *words: str) -> None:
    """The command ended with 2 and said these words, in a message of what, why and mend."""
    assert ran.code == 2, ran.text
    assert "Traceback" not in ran.text
    assert "Error:" in ran.err
    flat = " ".join(ran.err.split())
    for word in words:
        assert word in flat, ran.err


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An older bundle's place, with something in it that must not be lost."""
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "contract.json").write_text("{}")
    (folder / "precious").write_text("kept")
    return folder


@pytest.fixture
def export(out: Path, image_folder: Path) -> Callable[..., Ran]:
    """Export a model to `out`, checking that the old folder is still there."""

    def run(model: Path, *words: object, calibration: Path = image_folder) -> Ran:
        ran = run_cli("export", model, "--out", out, "--calibration", calibration,
                      "--formats", "tflite-float32,tflite-int8", *words)  # fmt: skip
        assert (out / "precious").read_text() == "kept"
        leftover = [p.name for p in out.parent.iterdir() if p.name.startswith(".dist")]
        assert leftover == []
        return ran

    return run


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path: Path) -> None:
    """A PNG of 60,000 x 60,000 pixels in a few hundred bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def truncated(path: Path) -> None:
    Image.fromarray(nets.image(5, 200)).save(path.with_suffix(".jpg"))
    data = path.with_suffix(".jpg").read_bytes()
    path.with_suffix(".jpg").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(b"these are no pixels"), ("bad.png", "is not an image")),
        (truncated, ("bad.jpg", "truncated")),
        (bomb, ("bad.png", "too large to decode")),
        (lambda p: (p.parent / "000 copy.png").write_bytes((p.parent / "000.png").read_bytes()),
         ("000 copy.png", "the same image")),
    ],
    ids=["not an image", "truncated JPEG", "decompression bomb", "the same image twice"],
)  # fmt: skip
def test_bad_images(
    export: Callable[..., Ran], small_onnx_file: Path, tmp_path: Path,
    spoil: Callable[[Path], None], words: tuple[str, ...],
) -> None:  # fmt: skip
    folder = bundles.write_images(tmp_path / "photos", 8)
    spoil(folder / "bad.png")
    refused(export(small_onnx_file, calibration=folder), *words)


def test_missing_and_empty_folders(
    export: Callable[..., Ran], small_onnx_file: Path, tmp_path: Path
) -> None:
    refused(export(small_onnx_file, calibration=tmp_path / "nowhere"), "nowhere", "not a folder")
    (tmp_path / "empty").mkdir()
    refused(export(small_onnx_file, calibration=tmp_path / "empty"), "holds no image")
    bundles.write_images(tmp_path / "classes" / "a", 2)
    (tmp_path / "classes" / "b").mkdir()
    refused(export(small_onnx_file, calibration=tmp_path / "classes"), "without images: b")


def test_missing_model(export: Callable[..., Ran], tmp_path: Path) -> None:
    refused(export(tmp_path / "none.onnx"), "none.onnx", "does not exist")
    refused(export(tmp_path), "is a folder")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
def test_a_file_of_garbage(export: Callable[..., Ran], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x80\x99 garbage" * 50)
    refused(export(path), path.name)


def test_a_pickle_runs_no_code(export: Callable[..., Ran], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="a checkpoint is read with torch")
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(_Harmful()))
    ran = export(path, "--arch", "mobilenet_v2", "--labels", "imagenet")
    refused(ran, "model.pth")
    assert "code in a pickle was run" not in ran.text


def test_labels_that_do_not_match_the_head(export: Callable[..., Ran], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="a checkpoint is read with torch")
    torch.save(nets.small_net().state_dict(), tmp_path / "model.pth")
    (tmp_path / "labels.txt").write_text("one\ntwo\nthree\n")
    ran = export(tmp_path / "model.pth", "--labels", tmp_path / "labels.txt", *SMALL)
    refused(ran, "3", "10")


def test_options_that_say_other_than_the_model(
    export: Callable[..., Ran], tmp_path: Path, small_onnx_file: Path
) -> None:
    """They were passed over once: the file was another one than was asked for."""
    from models.checkpoint import save_checkpoint

    path = tmp_path / "own.safetensors"
    save_checkpoint(nets.small_checkpoint(), path)
    ran = export(path, "--option", "output_stride=16", "--width", nets.WIDTH)
    refused(ran, "was not trained with output_stride=16", "input_size=")
    refused(export(small_onnx_file, "--option", "output_stride=16"), "--option", "state_dict")
    refused(export(small_onnx_file, "--width", 0.5), "--width", "state_dict")


def test_nan_weights(export: Callable[..., Ran], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="a checkpoint is read with torch")
    state = {name: value.clone() for name, value in nets.small_net().state_dict().items()}
    state["features.0.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "model.pth")
    (tmp_path / "labels.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    ran = export(tmp_path / "model.pth", "--labels", tmp_path / "labels.txt", *SMALL)
    refused(ran, "features.0.0.weight", "NaN")


def onnx_file(path: Path, batch: object = 1, height: object = 8, kind: str = "Relu") -> Path:
    """A tiny float classifier of two classes: one operator, mean, matrix product."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, height, 8])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2])
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    nodes = [
        helper.make_node(kind, ["x"], ["a"], name="first"),
        helper.make_node("Erf", ["a"], ["b"], name="second")
        if kind != "Relu" else helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="mean"),
        helper.make_node("Flatten", ["c"], ["d"], name="flat"),
        helper.make_node("MatMul", ["d", "w"], ["y"], name="head"),
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [given], [made], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def tiny_contract(tmp_path: Path) -> Path:
    contract = nets.small_contract().to_json()
    contract["labels"] = ["a", "b"]
    contract["input"] |= {"height": 8, "width": 8, "resize_shorter_side": 8}
    del contract["label_hash"]
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(contract))
    return path


def test_unsupported_operators_are_listed_at_once(
    export: Callable[..., Ran], tmp_path: Path, tiny_contract: Path
) -> None:
    path = onnx_file(tmp_path / "m.onnx", kind="Sin")
    ran = export(path, "--contract", tiny_contract)
    refused(ran, "Sin", "first", "Erf", "second")
    assert "Decoding" not in ran.out  # found before any work
    refused(export(path, "--contract", tiny_contract, "--dry-run"), "Sin", "Erf")


def test_dynamic_sizes(export: Callable[..., Ran], tmp_path: Path, tiny_contract: Path) -> None:
    path = onnx_file(tmp_path / "height.onnx", height="h")
    refused(export(path, "--contract", tiny_contract), "dynamic")


def test_a_dynamic_batch_becomes_one(
    image_folder: Path, tmp_path: Path, tiny_contract: Path
) -> None:
    path = onnx_file(tmp_path / "batch.onnx", batch="n")
    words = ("--images", image_folder, "--formats", "tflite-float32", "--runs", 0)
    ran = run_cli("export", path, "--contract", tiny_contract, "--out", tmp_path / "out", *words)
    assert ran.code == 0, ran.text


def test_an_onnx_file_needs_a_contract(export: Callable[..., Ran], tmp_path: Path) -> None:
    refused(export(onnx_file(tmp_path / "m.onnx")), "carries no contract", "--contract")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ["a", "a"]}, ("'a'", "twice")),
        ({"labels": ["a"]}, ("at least two",)),
        ({"labels": ["a", "b", "c"]}, ("3", "2")),
        ({"surprise": 1}, ("surprise",)),
        ({"schema": 99}, ("99",)),
    ],
)
def test_bad_contracts(
    export: Callable[..., Ran], tmp_path: Path, tiny_contract: Path,
    change: dict[str, object], words: tuple[str, ...],
) -> None:  # fmt: skip
    data = json.loads(tiny_contract.read_text()) | change
    tiny_contract.write_text(json.dumps(data))
    refused(export(onnx_file(tmp_path / "m.onnx"), "--contract", tiny_contract), *words)


def test_output_in_the_way(small_onnx_file: Path, image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "thesis.txt").write_text("years of work")
    ran = run_cli("export", small_onnx_file, "--out", tmp_path / "dist")
    refused(ran, "dist", "in the way", "--force")
    assert (tmp_path / "dist" / "thesis.txt").read_text() == "years of work"


def test_a_full_disk(
    export: Callable[..., Ran], small_onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporter.prove import golden

    def full(*words: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "golden.json")

    monkeypatch.setattr(golden, "write_golden", full)
    refused(export(small_onnx_file), "disk is full")


@pytest.mark.parametrize(
    "words",
    [
        ("--formats", "tflite-int9"),
        ("--gate", "int8.wish=1"),
        ("--threshold", "7"),
        ("--runs", "10"),
    ],
)
def test_bad_flags(
    small_onnx_file: Path, image_folder: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    ran = run_cli("export", small_onnx_file, "--calibration", image_folder,
                  "--out", tmp_path / "dist", *words)  # fmt: skip
    refused(ran)
    assert "Writing" not in ran.out  # found before any work
    assert not (tmp_path / "dist").exists()


def test_paths_below_a_file(small_onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("--formats", "tflite-float32", "--runs", 0)
    refused(run_cli("export", small_onnx_file, "--out", tmp_path / "file" / "dist", *words), "file")
    refused(
        run_cli("export", small_onnx_file, "--out", tmp_path / "d", "--cache", tmp_path / "file",
                *words),
        "file",
    )  # fmt: skip


def test_weights_in_a_file_beside_the_model(
    small_onnx_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    model = onnx.load(str(small_onnx_file))
    onnx.save(model, str(tmp_path / "in" / "m.onnx"), save_as_external_data=True,
              location="weights.bin", size_threshold=0)  # fmt: skip
    words = ("--images", image_folder, "--formats", "tflite-float32", "--runs", 0)
    ran = run_cli("export", tmp_path / "in" / "m.onnx", "--out", tmp_path / "dist", *words)
    assert ran.code == 0, ran.text
    (tmp_path / "in" / "weights.bin").unlink()
    assert run_cli("parity", tmp_path / "dist", "--runs", 0).code == 0


def test_a_full_disk_under_the_decoded_images(tmp_path: Path, small_onnx_file: Path) -> None:
    """A small tmpfs, in a mount namespace of its own; the process must not die of SIGBUS."""
    images = bundles.write_class_images(tmp_path / "photos", 9, size=64)
    (tmp_path / "disk").mkdir()
    inside = (
        f"mount -t tmpfs -o size=600k none {tmp_path}/disk && "
        f"exec {sys.executable} -m exporter.cli export {small_onnx_file} "
        f"--calibration {images} --out {tmp_path}/disk/dist --formats tflite-int8 --runs 0"
    )
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none {tmp_path}/disk"],
        capture_output=True, check=False,
    ) if shutil.which("unshare") else None  # fmt: skip
    if probe is None or probe.returncode:
        pytest.skip("not run: no right to mount a file system here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "disk is full" in " ".join(done.stderr.split())


@pytest.mark.parametrize("command", ["parity", "verify", "bench"])
def test_a_folder_that_is_no_bundle(tmp_path: Path, command: str) -> None:
    refused(run_cli(command, tmp_path), "is no bundle")
