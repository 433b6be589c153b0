"""COCO annotations, class maps, and several sets as one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.data.class_map import load_class_map
from models.data.coco import load_coco
from models.data.labelled import DataError
from models.data.reading import read_set
from support.pictures import noise, table


def _content() -> dict[str, Any]:
    return {
        "images": [{"id": 10 + i, "file_name": f"{i}.png"} for i in range(4)],
        "categories": [
            {"id": 7, "name": "viper"}, {"id": 3, "name": "boa"}, {"id": 9, "name": "cobra"},
        ],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 7, "iscrowd": 0},
            {"id": 2, "image_id": 10, "category_id": 7, "iscrowd": 0},
            {"id": 3, "image_id": 10, "category_id": 3, "iscrowd": 0},
            {"id": 4, "image_id": 11, "category_id": 3, "iscrowd": 1},
            {"id": 5, "image_id": 12, "category_id": 7},
        ],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        noise(tmp_path / f"{i}.png", i)
    return tmp_path


def _write(folder: Path, content: Any, name: str = "instances.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_an_image_has_a_class_that_it_is_annotated_with(folder: Path) -> None:
    found = load_coco(_write(folder, _content()))
    assert found.multi_label
    assert found.classes == ("boa", "viper")
    assert {i.path.name: i.labels for i in found.items} == {
        "0.png": (0, 1), "1.png": (0,), "2.png": (1,), "3.png": (),
    }  # fmt: skip
    assert found.counts() == (2, 2)
    assert "cobra" in found.notes[0]


def test_an_image_may_name_its_group(folder: Path) -> None:
    content = _content()
    for image in content["images"]:
        image["group"] = f"trap {image['id'] % 2}"
    found = load_coco(_write(folder, content))
    assert {i.path.name: i.group for i in found.items}["3.png"] == "trap 1"
    del content["images"][1]["group"]
    with pytest.raises(DataError, match=r"no group.*\n  1.png"):
        load_coco(_write(folder, content))


@pytest.mark.parametrize(
    ("where", "change", "said"),
    [
        ("annotations", {"id": 6, "image_id": 10, "category_id": 8}, "annotation 6: category_id 8"),
        ("annotations", {"id": 6, "image_id": 99, "category_id": 7}, "annotation 6: image_id 99"),
        ("annotations", {"id": 5, "image_id": 10, "category_id": 7}, "twice in 'annotations': 5"),
        ("annotations", {"image_id": 10}, "category_id=None"),
        ("images", {"id": 10, "file_name": "0.png"}, "twice in 'images': 10"),
        ("images", {"id": 50, "file_name": "./0.png"}, "ids 10 and 50"),
        ("images", {"id": 50, "file_name": "nowhere.png"}, r"missing:\n  nowhere.png \(id 50\)"),
        ("images", {"id": 50, "file_name": "\udce9.png"}, "UTF-8"),
        ("images", {"id": 50}, "file_name None"),
        ("images", {"id": True, "file_name": "0.png"}, "id=True"),
        ("categories", {"id": 7, "name": "asp"}, "twice in 'categories': 7"),
        ("categories", {"id": 8, "name": "boa"}, "several categories of one name: boa"),
        ("categories", {"id": 8, "name": " "}, "the name ' '"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, where: str, change: dict[str, Any], said: str) -> None:
    content = _content()
    content[where].append(change)
    with pytest.raises(DataError) as caught:
        load_coco(_write(folder, content))
    assert caught.match(said)
    assert caught.value.mend


def test_what_is_no_coco_file(folder: Path) -> None:
    for content in ([], {"images": 1}, {**_content(), "annotations": 3}):
        with pytest.raises(DataError, match="no list"):
            load_coco(_write(folder, content))
    (folder / "x.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        load_coco(folder / "x.json")
    (folder / "x.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        load_coco(folder / "x.json")
    with pytest.raises(DataError, match="cannot be read"):
        load_coco(folder / "y.json")
    with pytest.raises(DataError, match="no class"):
        load_coco(_write(folder, {**_content(), "annotations": []}))


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_class_map_renames_joins_and_drops(folder: Path, kind: str) -> None:
    path = folder / f"names.{kind}"
    pairs = {"viper": "Adder", "boa": "-"}
    if kind == "json":
        path.write_text(json.dumps(pairs))
    else:
        path.write_text("to,from\n" + "\n".join(f"{b},{a}" for a, b in pairs.items()))
    assert load_class_map(path) == {"viper": "Adder", "boa": None}
    rows = table(folder, "file,label", "0.png,viper", "1.png,boa", "2.png,Adder", "3.png,Cobra")
    found = read_set(rows, class_map=path)
    assert found.classes == ("Adder", "Cobra")
    assert {i.path.name: i.labels for i in found.items} == {
        "0.png": (0,), "2.png": (0,), "3.png": (1,),
    }  # fmt: skip
    assert any("1 image of dropped classes" in note for note in found.notes)
    both = read_set([_write(folder, _content()), rows], class_map=path)
    assert {i.path.name: i.labels for i in both.items} == {
        "0.png": (0,), "1.png": (), "2.png": (0,), "3.png": (1,),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from,to\nasp,x\n", "class that the data does not have: asp"),
        ("from,to\nboa,x\nboa,y\n", "'boa' twice"),
        ("from,to\nboa,-\nviper,\n", "keeps no class"),
        ("from,to\n,x\n", "entry without a class"),
        ("old,new\nboa,x\n", "has the columns 'old', 'new'"),
        ("from,to\n", "no row"),
    ],
)
def test_class_maps_that_cannot_be_used(folder: Path, text: str, said: str) -> None:
    (folder / "names.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_set(_write(folder, _content()), class_map=folder / "names.csv")


def test_a_key_twice_in_json_is_not_overlooked(folder: Path) -> None:
    (folder / "names.json").write_text('{"boa": "x", "boa": "y"}')
    with pytest.raises(DataError, match="boa twice"):
        load_class_map(folder / "names.json")


def test_sets_of_different_classes_are_trained_together(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for i in range(3):
        noise(other / f"{i}.png", 100 + i)
    shutil.copy(folder / "3.png", other / "copy.png")
    rows = table(other, "file,labels", "0.png,asp|boa", "1.png,asp", "2.png,", "copy.png,asp")
    found = read_set([_write(folder, _content()), rows])
    assert found.classes == ("asp", "boa", "viper")
    assert len(found) == 7
    labels = {str(i.path.relative_to(tmp_path)): i.labels for i in found.items}
    assert labels["0.png"] == (1, 2)
    assert labels["other/0.png"] == (0, 1)
    assert labels["3.png"] == (0,), "an image in both sets has the labels of both"
    assert any("1 image in more than one set" in note for note in found.notes)


def test_single_label_sets_that_contradict_each_other_are_refused(folder: Path) -> None:
    for name, image in (("adder", "0.png"), ("boa", "1.png")):
        (folder / "set" / name).mkdir(parents=True)
        shutil.copy(folder / image, folder / "set" / name / image)
    agreeing = table(folder, "file,label", "0.png,adder", "2.png,cobra")
    found = read_set([folder / "set", agreeing])
    assert found.classes == ("adder", "boa", "cobra")
    assert len(found) == 3
    with pytest.raises(DataError, match="two classes"):
        read_set([folder / "set", table(folder, "file,label", "0.png,boa", "2.png,cobra")])


def test_other_kinds_of_files_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no data set that is known"):
        read_set(folder / "0.png")
    with pytest.raises(DataError, match="no data"):
        read_set([])
    with pytest.raises(DataError, match="multi-label set"):
        read_set(_write(folder, _content()), multi_label=False)
