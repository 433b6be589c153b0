"""What is made, what is left out and why, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from exporter.bundle import FORMATS
from exporter.pipeline import pixels
from exporter.pipeline.request import RequestError, check_out, choose_formats
from models.contract import Preprocessing
from models.errors import MissingExtraError
from models.images import ImageError, ImageFile


def keys(asked: tuple[str, ...] | None, calibration: bool, have: set[str]) -> list[str]:
    return [row.key for row in choose_formats(asked, calibration, have.__contains__).formats]


def test_all_that_can_be_made_is_made() -> None:
    core = ["onnx", "tflite-float32", "tflite-float16"]
    assert keys(None, False, set()) == core
    assert keys(None, True, set()) == [*core, "tflite-int8"]
    full = keys(None, True, {"tensorflow", "coremltools"})
    assert full == [row.key for row in FORMATS if row.usual]


def test_words_that_stand_for_several_formats() -> None:
    have = {"tensorflow", "coremltools"}
    usual = keys(None, True, have)
    assert keys(("default",), True, have) == usual
    assert set(keys(("default", "coreml-w8a8"), True, have)) == {*usual, "coreml-w8a8"}
    assert keys(("all",), True, have) == [row.key for row in FORMATS]
    left = dict(choose_formats(("all",), False, set().__contains__).left_out)
    assert {"tflite-int8", "tflite-mixed", "coreml-w8a8", "saved-model"} <= set(left)
    with pytest.raises(RequestError, match="coreml-w8a8"):
        keys(("default", "coreml-w8a8"), False, have)


def test_what_is_left_out_names_its_extra() -> None:
    left = dict(choose_formats(None, False, set().__contains__).left_out)
    assert "exporter[coreml]" in left["coreml"]
    assert "--calibration" in left["tflite-int8"]


def test_a_format_asked_for_by_name_must_be_possible() -> None:
    assert keys(("tflite-float32",), False, set()) == ["onnx", "tflite-float32"]
    with pytest.raises(MissingExtraError, match=r"exporter\[coreml\]"):
        keys(("coreml",), False, set())
    with pytest.raises(RequestError, match="--calibration"):
        keys(("tflite-int8",), False, set())
    with pytest.raises(RequestError, match="tflite-int9"):
        keys(("tflite-int9",), True, set())


def test_output_folder_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "dist"
    check_out(out, force=False)
    out.mkdir()
    check_out(out, force=False)
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(RequestError, match="--force"):
        check_out(out, force=False)
    check_out(out, force=True)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RequestError, match="it is a file"):
        check_out(file, force=True)


def test_the_current_folder_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="current folder"):
        check_out(Path(), force=True)


def image(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (value % 256, value // 256, 9)).save(path)
    return path


def test_chosen_images_are_spread_over_classes(tmp_path: Path) -> None:
    for group, count in (("a", 10), ("b", 10), ("c", 2)):
        for index in range(count):
            image(tmp_path / group / f"{index}.png", ord(group) * 100 + index)
    chosen = pixels.choose(tmp_path, 9)
    assert [file.label for file in chosen.files[:6]] == ["a", "b", "c", "a", "b", "c"]
    counts = {name: sum(f.label == name for f in chosen.files) for name in "abc"}
    assert counts == {"a": 4, "b": 3, "c": 2}
    assert chosen == pixels.choose(tmp_path, 9)


def test_spread_is_even_within_a_class() -> None:
    files = [ImageFile(Path(str(i)), "a") for i in range(10)]
    assert [f.path.name for f in pixels.spread(files, 5)] == ["0", "2", "4", "6", "8"]


def test_the_same_image_twice_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "one.png", 1)
    image(tmp_path / "two.png", 1)
    with pytest.raises(ImageError, match="the same image"):
        pixels.choose(tmp_path, None)


def test_decoding_names_every_broken_image(tmp_path: Path) -> None:
    for index in range(3):
        image(tmp_path / "in" / f"{index}.png", index)
    (tmp_path / "in" / "1.png").write_bytes(b"no image")
    data = (tmp_path / "in" / "2.png").read_bytes()
    (tmp_path / "in" / "2.png").write_bytes(data[: len(data) // 2])
    chosen = pixels.choose(tmp_path / "in", None)
    rule = Preprocessing(height=16, width=16, resize_shorter_side=16)
    with pytest.raises(ImageError) as caught:
        pixels.decode(chosen, rule, tmp_path / "p.npy", lambda: None)
    assert "1.png" in caught.value.what
    assert "2.png" in caught.value.what


def test_decoded_images_stream_back(tmp_path: Path) -> None:
    for index in range(3):
        image(tmp_path / "in" / f"{index}.png", index * 20)
    chosen = pixels.choose(tmp_path / "in", None)
    rule = Preprocessing(height=16, width=16, resize_shorter_side=16)
    steps: list[int] = []
    pixels.decode(chosen, rule, tmp_path / "p.npy", lambda: steps.append(1))
    assert [int(p[0, 0, 0]) for p in pixels.stream(tmp_path / "p.npy")] == [0, 20, 40]
    assert len(steps) == 3
