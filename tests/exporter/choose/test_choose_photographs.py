"""The images of a comparison: three sets that share nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from exporter.choose.candidates import parse
from exporter.choose.photographs import Photographs, gather, refuse_unreadable, set_out
from exporter.choose.request import ChooseRequest
from models.errors import UserError
from models.images import list_images
from support import nets


def draw(folder: Path, count: int, seed: int, classes: tuple[str, ...] = ("a", "b")) -> Path:
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index, picture in enumerate(nets.images(count, 24, seed + place)):
            Image.fromarray(picture).save(folder / name / f"{index}.png")
    return folder


def gathered(data: Path, **more: Path) -> Photographs:
    return gather(ChooseRequest(data.parent / "out", parse("mobilenet_v2"), data=data, **more))


def digests(photographs: Photographs) -> list[set[str]]:
    parts = (photographs.train, photographs.validation, photographs.test)
    return [{item.digest for item in part.items} for part in parts]


def test_one_folder_is_divided_in_three(tmp_path: Path) -> None:
    found = gathered(draw(tmp_path / "photos", 20, 1))
    train, validation, test = digests(found)
    assert [len(train), len(validation), len(test)] == [28, 4, 8]
    assert len(train | validation | test) == 40
    assert all(min(part.counts()) > 0 for part in (found.train, found.validation, found.test))
    assert "set aside to judge" in found.notes[0]
    assert found.words == "photos: 2 classes, 28 training, 4 validation and 8 test images"
    assert gathered(tmp_path / "photos").identity == found.identity


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_divided_folder_judges_by_its_own_images(name: str, tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "train", 20, 1)
    judge = draw(tmp_path / "photos" / name, 5, 50)
    found = gathered(tmp_path / "photos")
    assert {item.path.parent.parent for item in found.test.items} == {judge}
    assert (len(found.train), len(found.validation), found.notes) == (34, 6, ())


def test_of_a_folder_divided_in_three_test_judges(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name, count, seed in (("train", 8, 1), ("val", 3, 50), ("test", 4, 90)):
        draw(photos / name, count, seed)
    found = gathered(photos)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [16, 6, 8]
    assert (found.validation.root, found.test.root) == (photos / "val", photos / "test")
    other = draw(tmp_path / "other", 5, 200)
    found = gathered(photos, test=other)
    assert (found.validation.root, found.test.root) == (photos / "val", other)


def test_folders_that_are_given_are_taken_as_they_are(tmp_path: Path) -> None:
    data = draw(tmp_path / "photos", 6, 1)
    validation, test = draw(tmp_path / "v", 3, 50), draw(tmp_path / "t", 4, 90)
    found = gathered(data, validation=validation, test=test)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [12, 6, 8]
    divided = draw(tmp_path / "divided" / "train", 6, 200).parent
    inside = draw(divided / "val", 3, 300)
    found = gathered(divided, test=test)
    assert found.validation.root == inside


def test_copies_count_once_and_may_not_lie_in_two_sets(tmp_path: Path) -> None:
    data, test = draw(tmp_path / "photos", 8, 1), draw(tmp_path / "t", 4, 90)
    (test / "a" / "copy.png").write_bytes((test / "a" / "0.png").read_bytes())
    assert len(gathered(data, test=test).test) == 8
    (test / "a" / "seen.png").write_bytes((data / "a" / "3.png").read_bytes())
    with pytest.raises(UserError, match="more than one set"):
        gathered(data, test=test)


def test_other_classes_and_small_ones_are_refused(tmp_path: Path) -> None:
    data = draw(tmp_path / "photos", 8, 1)
    with pytest.raises(UserError, match="different classes"):
        gathered(data, test=draw(tmp_path / "t", 4, 90, ("a", "c")))
    with pytest.raises(UserError, match="too small"):
        gathered(draw(tmp_path / "few", 2, 7))


def test_the_identity_is_that_of_contents_classes_and_sets(tmp_path: Path) -> None:
    data, test = draw(tmp_path / "photos", 8, 1), draw(tmp_path / "t", 4, 90)
    validation = draw(tmp_path / "v", 4, 60)
    first = gathered(data, validation=validation, test=test).identity
    assert gathered(data, validation=test, test=validation).identity != first
    (test / "a" / "0.png").rename(test / "a" / "00.png")  # still the first
    assert gathered(data, validation=validation, test=test).identity == first
    (test / "a" / "1.png").unlink()
    assert gathered(data, validation=validation, test=test).identity != first


def test_links_lead_to_the_very_images(tmp_path: Path) -> None:
    found = gathered(draw(tmp_path / "photos", 10, 1))
    for _ in range(2):  # again over what is there
        folders = set_out(found, tmp_path / "out" / "images")
    for folder, part in zip(folders, (found.train, found.test), strict=True):
        listed = list_images(folder)
        assert sorted(each.path.read_bytes() for each in listed) == sorted(
            item.path.read_bytes() for item in part.items
        )
        assert {each.label for each in listed} == {"a", "b"}


def test_broken_images_are_named(tmp_path: Path) -> None:
    data = draw(tmp_path / "photos", 10, 1)
    whole = (data / "b" / "4.png").read_bytes()
    (data / "b" / "4.png").write_bytes(whole[: len(whole) // 2])
    found, seen = gathered(data), []
    with pytest.raises(UserError, match=r"4\.png"):
        refuse_unreadable(found, lambda: seen.append(1))
    assert len(seen) == 20
