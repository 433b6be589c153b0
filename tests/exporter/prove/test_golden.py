"""Golden answers: chosen, written and read the same way each time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from fakes import CLASSES, SIDE, Shelf, contract, draw_images, linear, make_bundle
from PIL import Image

from exporter.prove import golden
from exporter.prove.runtimes.base import Session
from models.errors import UserError
from models.images import ImageFile, list_images, load_pixels, to_square


def write(root: Path, folder: Path, shelf: Shelf | None = None) -> Path:
    shelf = shelf or Shelf()
    bundle = make_bundle(root)
    sessions: dict[str, Session] = {
        row.key: shelf.get(row.runtime).open(bundle.path(row.key), bundle.contract)
        for row in bundle.formats()
    }
    return golden.write_golden(root, list_images(folder), bundle.contract, sessions)


def files(*counts: int) -> list[ImageFile]:
    return [
        ImageFile(Path(f"{letter}/{number}.png"), letter)
        for letter, count in zip("abcdefghijklmnop", counts, strict=False)
        for number in range(count)
    ]


def test_images_are_spread_over_classes() -> None:
    assert {image.label for image in golden.choose(files(*[3] * 8))} == set("abcdefgh")
    assert {image.label for image in golden.choose(files(*[3] * 16))} == set("acegikmo")
    two = golden.choose(files(20, 3))
    assert [image.label for image in two] == ["a"] * 5 + ["b"] * 3
    assert len(golden.choose(files(2))) == 2
    flat = [ImageFile(Path(f"{number:02d}.png")) for number in range(80)]
    chosen = [image.path.name for image in golden.choose(flat)]
    assert chosen == [f"{number:02d}.png" for number in range(0, 80, 10)]


def test_written_twice_the_bytes_are_the_same(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "images")
    first, second = write(tmp_path / "one", folder), write(tmp_path / "two", folder)
    names = sorted(path.name for path in first.parent.iterdir())
    squares = [f"{number:02d}.png" for number in range(8)]
    photos = ["photo.jpg", "photo.png", "photo_jpg_square.png", "photo_square.png"]
    assert names == [*squares, "golden.json", *photos]
    for name in names:
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def test_pixels_and_probabilities_come_back_exactly(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "images")
    path = write(tmp_path / "dist", folder)
    recorded = golden.load(make_bundle(tmp_path / "dist"))
    assert recorded is not None
    document = json.loads(path.read_text())
    assert document["label_hash"] == contract().label_hash
    for entry in document["images"]:
        pixels = np.asarray(Image.open(path.parent / entry["file"]))
        assert pixels.shape == (SIDE, SIDE, 3)
        expected = linear(pixels)
        assert np.array_equal(recorded.expected[entry["file"]]["onnx"], expected)
        assert entry["answer"]["onnx"] == CLASSES[int(np.argmax(expected))]


def test_every_float32_survives_the_decimal(tmp_path: Path) -> None:
    bits = np.random.default_rng(3).integers(0, 0x3F800000, 5000, np.int64).astype(np.uint32)
    values = bits.view(np.float32)
    back = np.array(json.loads(json.dumps(golden._numbers(values))), np.float32)
    assert np.array_equal(back, values)


def test_replay_tells_exact_near_and_wrong(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "images")
    write(tmp_path / "dist", folder)
    bundle = make_bundle(tmp_path / "dist")

    exact = golden.replay_golden(bundle, get_runtime=Shelf().get)
    ran = [replay for replay in exact if replay.status == "passed"]
    assert len(ran) == 3 * 8
    assert all(replay.exact and replay.difference == 0.0 for replay in ran)
    assert {replay.key for replay in exact if replay.status == "not run"} >= {"mlmodel", "coreml"}

    def near(pixels: np.ndarray) -> np.ndarray:
        return (linear(pixels) + np.float32(1e-6)).astype(np.float32)

    def wrong(pixels: np.ndarray) -> np.ndarray:
        return linear(pixels)[[1, 0, 2, 3]]

    shelf = Shelf({"model.onnx": near, "model_int8.tflite": wrong})
    mixed = golden.replay_golden(bundle, get_runtime=shelf.get)
    onnx = [replay for replay in mixed if replay.key == "onnx"]
    assert {(replay.status, replay.exact) for replay in onnx} == {("passed", False)}
    assert any(r.status == "failed" for r in mixed if r.key == "tflite-int8")
    notes = golden.replay_notes(mixed)
    assert "equal to the last bit" in notes[0]
    assert any("tflite-int8" in note for note in notes[1:])


def test_not_a_number_fails_the_replay() -> None:
    recorded = golden.Recorded({"00.png": {"onnx": np.array([0.5, 0.5], np.float32)}})
    assert recorded.replay("00.png", "onnx", np.array([np.nan, 0.5], np.float32)).status == "failed"
    assert recorded.replay("00.png", "onnx", np.array([0.5], np.float32)).status == "failed"
    other = recorded.replay("00.png", "mlmodel", np.array([0.5, 0.5], np.float32))
    assert other.status == "not run"


def test_damaged_or_missing_golden_files_say_so(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "dist")
    with pytest.raises(UserError, match="nothing to replay"):
        golden.replay_golden(bundle, get_runtime=Shelf().get)
    write(tmp_path / "dist", draw_images(tmp_path / "images"))
    Image.new("RGB", (SIDE + 1, SIDE)).save(bundle.root / "golden" / "03.png")
    with pytest.raises(UserError, match="input size"):
        golden.replay_golden(bundle, get_runtime=Shelf().get)
    (bundle.root / "golden" / "golden.json").write_text('{"images": [3]}')
    with pytest.raises(UserError, match="cannot be read"):
        golden.load(bundle)
    with pytest.raises(UserError, match="no image"):
        golden.write_golden(tmp_path, [], bundle.contract, {})


def test_an_app_can_replay_its_own_preprocessing(tmp_path: Path) -> None:
    path = write(tmp_path / "dist", draw_images(tmp_path / "images"))
    document = json.loads(path.read_text())
    png, jpeg = document["photos"]
    folder, rule = path.parent, contract().preprocessing
    for entry in (png, jpeg):
        with Image.open(folder / entry["file"]) as photo:
            assert photo.width != photo.height
        square = np.asarray(Image.open(folder / entry["square"]))
        assert np.array_equal(square, load_pixels(folder / entry["file"], rule))
    assert png["max_difference"] == png["mean_difference"] == 0
    with Image.open(folder / jpeg["file"]) as photo:
        assert photo.getexif()[0x0112] == 6
        ignored = np.asarray(to_square(photo.convert("RGB"), rule))
    upright = load_pixels(folder / jpeg["file"], rule).astype(int)
    lossless = load_pixels(folder / png["file"], rule).astype(int)
    assert np.abs(upright - lossless).mean() < np.abs(ignored.astype(int) - lossless).mean()


def test_each_golden_image_has_the_hash_of_its_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "dist", draw_images(tmp_path / "images"))
    recorded = golden.load(make_bundle(tmp_path / "dist"))
    assert recorded is not None and len(recorded.pixels) == 8
    for name, digest in recorded.pixels.items():
        pixels = np.asarray(Image.open(path.parent / name))
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == digest
