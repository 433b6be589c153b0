"""The formats that are made when asked for, from one plan, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.bundle import BY_KEY, QUANTIZATION, SENSITIVITY, open_bundle
from exporter.prove.tflite_schemes import SOUND, faults
from exporter.prove.tflite_structure import read_operators
from exporter.prove.verify import verify
from support.cli import Ran, run_cli

SCHEMES = ("tflite-int8", "tflite-mixed", "tflite-dynamic", "tflite-int8-weights", "tflite-int16")


@pytest.fixture(scope="module")
def all_schemes(
    small_onnx_file: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ran]:
    out = tmp_path_factory.mktemp("schemes") / "dist"
    ran = run_cli(
        "export", small_onnx_file, "--calibration", image_folder, "--out", out, "--no-cache",
        "--formats", ",".join((*SCHEMES, "tflite-float32", "coreml-w8a8")), "--runs", 0,
        "--int8-budget", "2x",
    )  # fmt: skip
    assert ran.code == 0, ran.text
    return out, ran


def test_all_are_made_and_pass_their_gates(all_schemes: tuple[Path, Ran]) -> None:
    out, ran = all_schemes
    entries = open_bundle(out).manifest["parity"]["artifacts"]
    for key in (*SCHEMES, "coreml-w8a8"):
        assert entries[key]["status"] == "passed"
        assert BY_KEY[key].path in ran.out
    found = verify(out)
    assert [one for one in found if one.status == "failed"] == []
    operators = {one.subject: one.what for one in found if one.check == "operators"}
    for key in SCHEMES:
        assert operators[BY_KEY[key].path] == f"{SOUND[key]}, no stray TRANSPOSE"


def test_each_file_keeps_the_rules_of_its_own_scheme(all_schemes: tuple[Path, Ran]) -> None:
    out, _ = all_schemes
    for key in SCHEMES:
        operators = read_operators(out / BY_KEY[key].path)
        fitting = {other for other in SCHEMES if not faults(operators, BY_KEY[other])}
        # int8 alone is a mixture in which nothing is float, and so on
        allowed = {"tflite-int8": {"tflite-mixed"}, "tflite-dynamic": {"tflite-mixed"},
                   "tflite-int8-weights": {"tflite-dynamic", "tflite-mixed"}}  # fmt: skip
        assert key in fitting <= {key, *allowed.get(key, set())}, key


def test_the_manifest_says_how_the_mixture_was_chosen(all_schemes: tuple[Path, Ran]) -> None:
    out, _ = all_schemes
    record = open_bundle(out).manifest["artifacts"]["tflite-mixed"]["mixed"]
    assert record["chosen"] == "by search"
    assert record["budget"] == 2.0
    assert record["measured_ratio"] <= 2.0
    table = json.loads((out / SENSITIVITY).read_text())
    assert table["schema"] == 1
    layers = [row for row in table["rows"] if row["multiply_adds"]]
    assert layers
    for row in layers:
        assert row["alone"]["logit_sqnr_db"] > table["quantized"]["logit_sqnr_db"] - 3
        assert 0 <= row["left_float"]["agreement"] <= 1


def test_the_same_mixture_again_by_its_names(
    all_schemes: tuple[Path, Ran], small_onnx_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    out, _ = all_schemes
    record = open_bundle(out).manifest["artifacts"]["tflite-mixed"]["mixed"]
    names = [*record["float_nodes"], *(f"{name}:dynamic" for name in record["dynamic_nodes"])]
    assert names
    ran = run_cli(
        "export", small_onnx_file, "--calibration", image_folder, "--out", tmp_path / "dist",
        "--formats", "tflite-mixed", "--float-layers", ",".join(names), "--runs", 0, "--no-cache",
    )  # fmt: skip
    assert ran.code == 0, ran.text
    path = BY_KEY["tflite-mixed"].path
    assert (tmp_path / "dist" / path).read_bytes() == (out / path).read_bytes()
    assert not (tmp_path / "dist" / SENSITIVITY).exists()


def test_what_channels_were_multiplied_by_stands_beside(all_schemes: tuple[Path, Ran]) -> None:
    out, _ = all_schemes
    written = json.loads((out / QUANTIZATION).read_text())
    assert written["schema"] == 1
    made = {t.name: t.shape for o in read_operators(out / "model_int8.tflite") for t in o.outputs}
    scales = written["equalization"]
    assert scales, "this network is equalized"
    known = [name for name in scales if name in made]
    assert len(known) > len(scales) / 2
    for name in known:
        assert len(scales[name]) == made[name][-1]
        assert min(scales[name]) > 0
    listed = {entry["path"] for entry in open_bundle(out).manifest["files"]}
    assert {QUANTIZATION, SENSITIVITY} <= listed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--int8-budget", "fast"), "--int8-budget 1.25x"),
        (("--int8-budget", "0.9x"), "above 1"),
        (("--float-layers", "no_such_layer"), "no_such_layer"),
        (("--float-layers", "any", "--int8-budget", "2x"), "exclude each other"),
        (("--formats", "tflite-int9"), "coreml-w8a8"),
    ],
)
def test_bad_choices(
    words: tuple[str, ...], said: str, small_onnx_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    formats = () if "--formats" in words else ("--formats", "onnx")
    ran = run_cli("export", small_onnx_file, "--calibration", image_folder, "--out",
                  tmp_path / "dist", "--runs", 0, "--no-cache", *formats, *words)  # fmt: skip
    assert ran.code == 2, ran.text
    assert said in ran.err
    assert not (tmp_path / "dist").exists()
