"""Which images may calibrate, and which may judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from exporter.pipeline import calibration_checks as checks
from exporter.pipeline import pixels
from exporter.pipeline.request import RequestError
from models.contract import Preprocessing
from models.errors import UserError
from models.images import ImageError
from support import bundles

RULE = Preprocessing(32, 32, 36)


def decoded(images: pixels.ImageSet, folder: Path) -> Path:
    path = folder / "pixels.npy"
    pixels.decode(images, RULE, path, lambda: None)
    return path


def save_again(path: Path, target: Path) -> None:
    """The same pixels in a file of other bytes."""
    note = PngInfo()
    note.add_text("Comment", "saved again")
    Image.open(path).save(target, pnginfo=note)
    assert path.read_bytes() != target.read_bytes()


def test_seven_images_are_too_few_and_eight_are_not(tmp_path: Path) -> None:
    seven = pixels.choose(bundles.write_images(tmp_path / "seven", 7), None)
    with pytest.raises(RequestError) as raised:
        checks.check_count(seven)
    assert isinstance(raised.value, UserError)
    assert "7 images" in raised.value.what and str(seven.root) in raised.value.what
    assert "--allow-few-images" in raised.value.mend and "about 100" in raised.value.mend
    checks.check_count(seven, allow_few=True)
    checks.check_count(pixels.choose(bundles.write_images(tmp_path / "eight", 8), None))


def test_a_limit_counts_too(tmp_path: Path) -> None:
    folder = bundles.write_images(tmp_path / "photos", 12)
    with pytest.raises(RequestError, match="1 image to calibrate on"):
        checks.check_count(pixels.choose(folder, 1))


def test_the_minimum_is_the_one_of_the_quantizer() -> None:
    """Below it biases are not corrected, which is the reason given."""
    from exporter.convert.quantize.rounding.bias_correction import FEWEST_IMAGES

    assert checks.FEWEST == FEWEST_IMAGES


def test_the_same_file_twice(tmp_path: Path) -> None:
    folder = bundles.write_images(tmp_path / "photos", 5)
    (folder / "copy.png").write_bytes((folder / "001.png").read_bytes())
    with pytest.raises(ImageError, match=r"copy.png and .*001.png are the same image"):
        pixels.choose(folder, None)
    (folder / "other copy.png").write_bytes((folder / "003.png").read_bytes())
    with pytest.raises(ImageError, match="2 pairs") as raised:
        pixels.choose(folder, None)
    for name in ("copy.png", "001.png", "other copy.png", "003.png"):
        assert name in raised.value.what


def test_the_same_pixels_in_another_file(tmp_path: Path) -> None:
    folder = bundles.write_images(tmp_path / "photos", 5)
    save_again(folder / "002.png", folder / "again.png")
    images = pixels.choose(folder, None)
    with pytest.raises(ImageError, match=r"again.png and .*002.png are the same image"):
        decoded(images, tmp_path)


def test_a_picture_that_differs_by_one_value_is_another(tmp_path: Path) -> None:
    folder = bundles.write_images(tmp_path / "photos", 2, size=32)
    values = np.asarray(Image.open(folder / "000.png")).copy()
    values[16, 16, 1] ^= 1
    Image.fromarray(values).save(folder / "nearly.png")
    rule = Preprocessing(32, 32, 32)
    pixels.decode(pixels.choose(folder, None), rule, tmp_path / "pixels.npy", lambda: None)
    assert len(list(pixels.stream(tmp_path / "pixels.npy"))) == 3


def test_what_calibrates_does_not_judge(tmp_path: Path) -> None:
    """One folder for both: the proof gets those that calibration left."""
    folder = bundles.write_images(tmp_path / "photos", 20)
    calibration = pixels.choose(folder, 8)
    judges = pixels.choose(folder, None, besides=calibration.hashes)
    assert len(judges.files) == judges.left_out + 4 == 12
    assert not {file.path for file in judges.files} & {file.path for file in calibration.files}
    assert not set(judges.hashes) & set(calibration.hashes)
    assert judges.note == f"8 image(s) of {folder} left out: int8 was calibrated on them"
    assert calibration.note == ""


def test_the_limit_is_filled_from_those_left(tmp_path: Path) -> None:
    folder = bundles.write_images(tmp_path / "photos", 20)
    calibration = pixels.choose(folder, 10)
    assert len(pixels.choose(folder, 6, besides=calibration.hashes).files) == 6


def test_a_renamed_copy_in_another_folder_is_found_by_its_bytes(tmp_path: Path) -> None:
    calibration = pixels.choose(bundles.write_images(tmp_path / "calibration", 9), None)
    other = bundles.write_images(tmp_path / "evaluation", 4, seed=5)
    (other / "stranger.png").write_bytes(calibration.files[3].path.read_bytes())
    judges = pixels.choose(other, None, besides=calibration.hashes)
    assert [file.path.name for file in judges.files] == [f"{k:03}.png" for k in range(4)]
    assert judges.left_out == 1


def test_nothing_but_calibration_images(tmp_path: Path) -> None:
    folder = bundles.write_images(tmp_path / "photos", 9)
    calibration = pixels.choose(folder, None)
    with pytest.raises(ImageError, match="calibration images only") as raised:
        pixels.choose(folder, None, besides=calibration.hashes)
    assert "leave it away" in raised.value.mend


def test_the_same_pixels_judge_neither(tmp_path: Path) -> None:
    calibration = pixels.choose(bundles.write_images(tmp_path / "calibration", 9), None)
    store = decoded(calibration, tmp_path)
    other = bundles.write_images(tmp_path / "evaluation", 4, seed=5)
    save_again(calibration.files[3].path, other / "again.png")
    judges = pixels.choose(other, None, besides=calibration.hashes)
    assert len(judges.files) == 5, "its bytes are others"
    left = checks.without_calibrated(judges, checks.hash_squares(judges, RULE), store)
    assert [file.path.name for file in left.files] == [f"{k:03}.png" for k in range(4)]
    assert len(left.hashes) == 4 and left.left_out == 1
    again = checks.without_calibrated(left, checks.hash_squares(left, RULE), store)
    assert again is left


def test_nothing_left_by_pixels(tmp_path: Path) -> None:
    calibration = pixels.choose(bundles.write_images(tmp_path / "calibration", 9), None)
    store = decoded(calibration, tmp_path)
    (tmp_path / "evaluation").mkdir()
    for file in calibration.files[:2]:
        save_again(file.path, tmp_path / "evaluation" / file.path.name)
    judges = pixels.choose(tmp_path / "evaluation", None)
    with pytest.raises(ImageError, match="calibration images only"):
        checks.without_calibrated(judges, checks.hash_squares(judges, RULE), store)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    folder = bundles.write_images(tmp_path / "photos", 3)
    for name in ("bad.png", "worse.png"):
        (folder / name).write_bytes(b"these are no pixels" + name.encode())
    with pytest.raises(ImageError) as raised:
        checks.hash_squares(pixels.choose(folder, None), RULE)
    assert "bad.png" in raised.value.what and "worse.png" in raised.value.what
