"""`exporter bench --adb` from the bundle to the table, behind a fake adb."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import draw_images, linear, make_bundle
from PIL import Image
from rich.console import Console
from test_adb_bench import ELF_ARM64

from exporter import bundle as bundles
from exporter.bundle import Bundle
from exporter.pipeline.device_bench import UNTESTED, bench_adb
from exporter.prove import devices, golden
from exporter.prove.adb.bench import DeviceSettings
from models.errors import UserError
from models.images import list_images
from support import fake_adb, tinyfiles
from support.fake_adb import Scenario

KEYS = ("onnx", "tflite-float32", "tflite-int8")
SETTINGS = DeviceSettings(runs=50, rounds=1)


class Answers:
    """A session that answers as `linear` does."""

    probabilities = staticmethod(linear)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    root = tmp_path / "dist"
    made = make_bundle(root, KEYS)
    (root / bundles.CONTRACT).write_text(made.contract.dumps())
    images = list_images(draw_images(tmp_path / "images", 1))
    names = (golden.REFERENCE_KEY, *KEYS)
    golden.write_golden(root, images, made.contract, dict.fromkeys(names, Answers()))  # type: ignore[arg-type]
    bundles.write_manifest(root, made.manifest)
    return bundles.open_bundle(root)


Bench = Callable[..., str]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> Bench:
    """Runs the command against a scenario; what it printed."""

    def run(scenario: Scenario | None = None, **options: object) -> str:
        for name, value in fake_adb.install(tmp_path / "fake", scenario or Scenario()).items():
            monkeypatch.setenv(name, value)
        program = tmp_path / "benchmark_model"
        program.write_bytes(ELF_ARM64)
        console = Console(file=io.StringIO(), width=200)
        settings = options.pop("settings", SETTINGS)
        tool = options.pop("benchmark_tool", program)
        bench_adb(bundle.root, tool, settings=settings, console=console, **options)  # type: ignore[arg-type]
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    return run


def test_times_and_answers_are_shown_and_kept(bench: Bench, bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    shown = bench(file=file)
    assert "Google Pixel 8, Android 15, Google Tensor G3, arm64-v8a" in shown
    assert "to tflite-float32" in shown
    assert "XNNPACK, part of the graph (66 of 69 operators)" in shown
    assert "4 of 4 to the bit" in shown
    assert UNTESTED in shown
    (result,) = devices.load(bundle)
    assert result.name == "Google Pixel 8, xnnpack over adb"
    assert [row.status for row in devices.rows(bundle, result)] == ["passed", "passed"]
    latency = devices.latency(result)
    assert latency is not None
    assert latency.relative_to == "tflite-float32"
    # 50 runs of 4000, 4010 .. 4490 us: element 25 is the median, element 47 the p95
    assert latency.results[0].median_ms == pytest.approx(4.25)
    assert latency.results[0].p90_ms == pytest.approx(4.25 + 0.22 * 40 / 45)
    found = json.loads(file.read_text())
    assert found["tested"] == UNTESTED
    assert found["device"]["model"] == "Pixel 8"
    assert found["turns"][0]["before"]["battery_percent"] == 83
    assert found["latency"]["relative_to"] == "tflite-float32"
    assert len(found["answers"]["tflite-int8"]["images"]) == 4
    assert list((tmp_path / "fake" / "tmp").iterdir()) == []


def test_pixels_go_over_as_they_are(bench: Bench, bundle: Bundle, tmp_path: Path) -> None:
    """The answers are those of the raw pixels: another order of channels would not pass."""
    bench()
    (result,) = devices.load(bundle)
    recorded = golden.load(bundle)
    assert recorded is not None
    for artifact in result.artifacts:
        for name, found in artifact.answers.items():
            assert np.array_equal(found, recorded.expected[name][golden.REFERENCE_KEY])


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("short", "12 bytes came out for 00.png, 4 float32 probabilities were expected"),
        ("nan", "NaN or infinity came out"),
    ],
)
def test_wrong_answers_fail(bench: Bench, bundle: Bundle, behaviour: str, said: str) -> None:
    shown = bench(Scenario(tool={"tflite-int8.tflite": behaviour}))
    assert f"tflite-int8: failed: {said}" in shown
    (result,) = devices.load(bundle)
    status = {row.key: row.status for row in devices.rows(bundle, result)}
    assert status == {"tflite-float32": "passed", "tflite-int8": "failed"}


def test_a_file_that_crashes_is_failed_and_not_timed(bench: Bench) -> None:
    shown = bench(Scenario(tool={"tflite-int8.tflite": "crash"}))
    assert "not timed: tflite-int8" in shown
    assert "tflite-int8: failed" in shown


def test_a_tool_without_outputs_is_not_run(bench: Bench, bundle: Bundle) -> None:
    old = {"tflite-float32.tflite": "old", "tflite-int8.tflite": "old"}
    shown = bench(Scenario(tool=old))
    assert "golden images not run: tflite-int8: this benchmark tool cannot save outputs" in shown
    assert devices.load(bundle) == ()


def test_a_bundle_without_golden_images_is_timed(bench: Bench, bundle: Bundle) -> None:
    (bundle.root / "golden" / "golden.json").unlink()
    shown = bench()
    assert "the bundle has no golden images" in shown
    assert "4.25 ms" in shown


def test_formats_are_chosen(bench: Bench) -> None:
    shown = bench(formats=["tflite-int8"])
    assert "to tflite-int8" in shown
    assert "tflite-float32" not in shown


def test_formats_that_are_not_there_are_named(bench: Bench) -> None:
    with pytest.raises(UserError, match=r"no \.tflite file onnx") as raised:
        bench(formats=["onnx"])
    assert "tflite-float32, tflite-int8" in raised.value.why


def test_without_a_tool_it_says_where_to_get_one(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No benchmark tool") as raised:
        bench(benchmark_tool=None)
    assert "https://" in raised.value.mend
    assert fake_adb.calls(tmp_path / "fake") == []


def test_a_tool_for_another_processor_never_reaches_the_device(
    bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="built for arm64-v8a"):
        bench(Scenario(props={**fake_adb.PIXEL, "ro.product.cpu.abilist": "x86_64,x86"}))
    assert not any("push" in call for call in fake_adb.calls(tmp_path / "fake"))


def test_a_result_file_that_cannot_be_written_is_found_out_first(
    bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        bench(file=tmp_path / "none" / "x.json")
    assert fake_adb.calls(tmp_path / "fake") == []


def test_figures_that_cannot_be_kept_beside_the_bundle_are_in_the_file(
    bench: Bench, bundle: Bundle, tmp_path: Path
) -> None:
    devices.folder_of(bundle.root).write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        bench(file=tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["latency"]["results"]


def test_two_delegates_are_two_devices_in_the_tables(bench: Bench, bundle: Bundle) -> None:
    bench()
    bench(settings=DeviceSettings(runs=50, rounds=1, delegate="gpu"))
    assert [result.accelerator for result in devices.load(bundle)] == ["xnnpack", "gpu"]


def test_a_real_file_gives_its_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT computes behind the fake tool: bytes in and out are a real model's."""
    root, key = tmp_path / "dist", "tflite-float32"
    made = make_bundle(root, (key,), tinyfiles.CONTRACT)
    (root / bundles.CONTRACT).write_text(made.contract.dumps())
    tinyfiles.write_tflite(made.path(key), "float32")
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(tinyfiles.pictures(2)):
        Image.fromarray(picture).save(tmp_path / "images" / f"{number}.png")
    known = type("Known", (), {"probabilities": staticmethod(tinyfiles.expected)})()
    golden.write_golden(
        root,
        list_images(tmp_path / "images"),
        made.contract,
        {golden.REFERENCE_KEY: known, key: known},
    )
    bundles.write_manifest(root, made.manifest)
    for name, value in fake_adb.install(tmp_path / "fake", Scenario()).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tool").write_bytes(ELF_ARM64)
    bench_adb(root, tmp_path / "tool", settings=SETTINGS, console=Console(file=io.StringIO()))
    opened = bundles.open_bundle(root)
    (result,) = devices.load(opened)
    (row,) = devices.rows(opened, result)
    assert (row.status, row.images) == ("passed", 2)
    assert row.max_probability_difference is not None
    assert row.max_probability_difference < 1e-5
