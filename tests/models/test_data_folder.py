"""A folder per class: what is read, what is refused, how it is divided."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data.folder import check_images, load_folder, refuse_broken, refuse_duplicates
from models.data.labelled import DataError
from models.data.split import find_given_split, load_given_split, load_split, split
from models.errors import UserError
from models.images import ImageError


def _picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    root = tmp_path / "flowers"
    for number, name in enumerate(["rose", "daisy", "tulip"]):
        for i in range(10):
            suffix = (".png", ".jpg", ".WEBP")[i % 3]
            _picture(root / name / f"{i}{suffix}", 100 * number + i)
    return root


def test_classes_are_sorted_and_every_image_is_there(flowers: Path) -> None:
    (flowers / "rose" / "notes.txt").write_text("x")
    (flowers / "rose" / ".hidden.png").write_text("x")
    found = load_folder(flowers)
    assert found.classes == ("daisy", "rose", "tulip")
    assert found.counts() == (10, 10, 10)
    assert all(item.path.parent.name == found.classes[item.class_index] for item in found.items)
    assert [path.name for path in found.skipped] == ["notes.txt"]


def test_loose_images_and_one_class_and_an_empty_class_are_refused(
    flowers: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="loose images"):
        load_folder(flowers / "rose")
    _picture(tmp_path / "single" / "cat" / "a.png", 1)
    with pytest.raises(DataError, match="one class only: cat") as caught:
        load_folder(tmp_path / "single")
    assert caught.value.mend
    (flowers / "orchid").mkdir()
    (flowers / "orchid" / "readme.txt").write_text("photographs follow")
    with pytest.raises(ImageError, match="orchid"):
        load_folder(flowers)
    with pytest.raises(ImageError, match="not a folder"):
        load_folder(tmp_path / "nowhere")


def test_one_image_in_two_classes_is_refused_and_both_files_are_named(flowers: Path) -> None:
    shutil.copy(flowers / "rose" / "0.png", flowers / "tulip" / "again.png")
    with pytest.raises(DataError) as caught:
        load_folder(flowers)
    assert str(flowers / "rose" / "0.png") in str(caught.value)
    assert str(flowers / "tulip" / "again.png") in str(caught.value)


def test_a_split_is_whole_stratified_and_seeded(flowers: Path) -> None:
    whole = load_folder(flowers)
    train, validation = split(whole, 0.2, seed=7)
    assert validation.counts() == (2, 2, 2)
    assert train.counts() == (8, 8, 8)
    assert sorted(train.items + validation.items, key=str) == sorted(whole.items, key=str)
    assert split(whole, 0.2, seed=7) == (train, validation)
    others = [split(whole, 0.2, seed)[1].items for seed in range(8, 14)]
    assert all(other != validation.items for other in others)
    refuse_duplicates(train, validation)


def test_a_split_goes_by_content_not_by_name_or_place(flowers: Path, tmp_path: Path) -> None:
    _, before = split(load_folder(flowers), 0.3, seed=1)
    moved = tmp_path / "elsewhere"
    for folder in sorted(flowers.iterdir(), reverse=True):
        (moved / folder.name).mkdir(parents=True)
        for i, path in enumerate(sorted(folder.iterdir(), reverse=True)):
            shutil.copy(path, moved / folder.name / f"renamed_{i}{path.suffix}")
    _, after = split(load_folder(moved), 0.3, seed=1)
    assert {item.digest for item in before.items} == {item.digest for item in after.items}


def test_one_class_more_leaves_the_split_of_the_others_alone(flowers: Path) -> None:
    before = {item.path for item in split(load_folder(flowers), 0.3, seed=1)[1].items}
    for i in range(4):
        _picture(flowers / "aster" / f"{i}.png", 900 + i)
    after = {item.path for item in split(load_folder(flowers), 0.3, seed=1)[1].items}
    assert before == {path for path in after if path.parent.name != "aster"}


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_each_class_has_an_image_on_both_sides(flowers: Path, fraction: float) -> None:
    for i in range(2):
        _picture(flowers / "pair" / f"{i}.png", 700 + i)
    train, validation = split(load_folder(flowers), fraction, seed=0)
    assert min(train.counts()) >= 1
    assert min(validation.counts()) >= 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_divides_nothing_is_refused(flowers: Path, fraction: float) -> None:
    with pytest.raises(DataError, match="share of validation images"):
        split(load_folder(flowers), fraction, seed=0)


def test_a_class_too_small_to_divide_is_named(flowers: Path) -> None:
    first = _picture(flowers / "rare" / "0.png", 800)
    shutil.copy(first, flowers / "rare" / "copy.png")
    with pytest.raises(DataError, match=r"rare \(1\)"):
        split(load_folder(flowers), 0.2, seed=0)


def test_copies_of_one_image_stay_on_one_side(flowers: Path) -> None:
    for i in range(10):
        shutil.copy(flowers / "daisy" / "0.png", flowers / "daisy" / f"copy{i}.png")
    for seed in range(20):
        train, validation = split(load_folder(flowers), 0.3, seed)
        assert not {i.digest for i in train.items} & {i.digest for i in validation.items}
        assert min(train.counts()) >= 1
        assert min(validation.counts()) >= 1


def test_a_given_split_is_read_as_it_is(flowers: Path, tmp_path: Path) -> None:
    root = tmp_path / "divided"
    shutil.move(flowers, root / "train")
    for number, name in enumerate(["rose", "daisy", "tulip"]):
        _picture(root / "test" / name / "t.png", 5000 + number)
    assert find_given_split(root) == (root / "train", root / "test")
    train, test = load_split(root, 0.2, seed=0)
    assert (len(train), len(test)) == (30, 3)
    assert train.classes == test.classes


def test_classes_called_train_and_test_are_classes(tmp_path: Path) -> None:
    for number, name in enumerate(["train", "test", "plane"]):
        for i in range(4):
            _picture(tmp_path / "toys" / name / f"{i}.png", 10 * number + i)
    assert find_given_split(tmp_path / "toys") is None
    assert load_split(tmp_path / "toys", 0.25, seed=0)[0].classes == ("plane", "test", "train")


def test_a_given_split_with_other_classes_is_refused(flowers: Path, tmp_path: Path) -> None:
    other = tmp_path / "test"
    shutil.copytree(flowers, other)
    (other / "rose").rename(other / "Rose")
    with pytest.raises(DataError) as caught:
        load_given_split(flowers, other)
    assert f"only in {flowers}: rose" in str(caught.value)
    assert f"only in {other}: Rose" in str(caught.value)


def test_an_image_in_both_sets_is_refused_and_both_files_are_named(
    flowers: Path, tmp_path: Path
) -> None:
    other = tmp_path / "test"
    for number, name in enumerate(["rose", "daisy", "tulip"]):
        _picture(other / name / "t.png", 5000 + number)
    load_given_split(flowers, other)
    shutil.copy(flowers / "rose" / "3.png", other / "daisy" / "leak.png")
    with pytest.raises(DataError, match=r"1 image\(s\) lie in more than one set") as caught:
        load_given_split(flowers, other)
    assert str(flowers / "rose" / "3.png") in str(caught.value)
    assert str(other / "daisy" / "leak.png") in str(caught.value)


def test_broken_images_are_found_before_the_long_work(flowers: Path) -> None:
    whole = (flowers / "rose" / "1.jpg").read_bytes()
    (flowers / "rose" / "1.jpg").write_bytes(whole[: len(whole) // 2])
    (flowers / "tulip" / "2.WEBP").write_text("no image at all")
    (flowers / "tulip" / "0.png").write_bytes(b"")
    ticks = []
    found = check_images(load_folder(flowers).items, lambda: ticks.append(1))
    assert [image.path.relative_to(flowers).as_posix() for image in found] == [
        "rose/1.jpg",
        "tulip/0.png",
        "tulip/2.WEBP",
    ]
    assert all(image.reason for image in found)
    assert len(ticks) == 30
    with pytest.raises(DataError, match="3 images cannot be decoded") as caught:
        refuse_broken(load_folder(flowers).items)
    assert isinstance(caught.value, UserError)
    assert all(str(image.path) in str(caught.value) for image in found)


def test_sound_images_pass_the_check(flowers: Path) -> None:
    assert check_images(load_folder(flowers).items) == ()
    refuse_broken(load_folder(flowers).items)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_not_utf8_are_refused_and_shown(flowers: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(flowers / "rose") + b"/caf\xe9.png"))
    try:
        (flowers / "rose" / "0.png").rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(DataError, match=r"1 name .*UTF-8") as caught:
        load_folder(flowers)
    assert "caf\\xe9.png" in str(caught.value)
    str(caught.value).encode("utf-8")
    odd.rename(flowers / "rose" / "0.png")
    (flowers / "rose").rename(os.fsdecode(os.fsencode(flowers) + b"/ros\xe9"))
    with pytest.raises(DataError, match=r"10 names"):
        load_folder(flowers)


def test_a_report_may_read_what_contradicts_itself(flowers: Path) -> None:
    shutil.copy(flowers / "rose" / "0.png", flowers / "tulip" / "again.png")
    assert len(load_folder(flowers, strict=False)) == 31
