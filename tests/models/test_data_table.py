"""Tables of images and labels: what is read, and what is refused with its rows named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.data.labelled import DataError
from models.data.table import load_table
from support.pictures import noise, table


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(4):
        noise(tmp_path / "photos" / f"{i}.png", i)
    return tmp_path


def test_one_label_an_image(photos: Path) -> None:
    path = table(photos, "file,label,group", "photos/1.png,Boa,b", 'photos/0.png,"Adder, x",a')
    found = load_table(path)
    assert found.classes == ("Adder, x", "Boa")
    assert [(i.path.name, i.labels, i.group) for i in found.items] == [
        ("0.png", (0,), "a"),
        ("1.png", (1,), "b"),
    ]
    assert not found.multi_label
    assert {path.name for path in found.skipped} == {"2.png", "3.png"}
    assert "2 images" in found.notes[0]


def test_several_labels_or_none(photos: Path) -> None:
    path = table(photos, "labels,file", "b|a|b,photos/0.png", ",photos/1.png", "c,photos/0.png")
    found = load_table(path)
    assert found.multi_label
    assert found.classes == ("a", "b", "c")
    assert {i.path.name: i.labels for i in found.items} == {"0.png": (0, 1, 2), "1.png": ()}
    assert found.counts() == (1, 1, 1)


def test_a_row_a_label_where_several_were_asked_for(photos: Path) -> None:
    path = table(photos, "file,label", "photos/0.png,a", "photos/0.png,b", "photos/1.png,")
    found = load_table(path, multi_label=True)
    assert {i.path.name: i.labels for i in found.items} == {"0.png": (0, 1), "1.png": ()}
    with pytest.raises(DataError, match="gives the same image different labels"):
        load_table(table(photos, "file,label", "photos/0.png,a", "photos/0.png,b"))
    with pytest.raises(DataError, match="column 'labels'"):
        load_table(table(photos, "file,labels", "photos/0.png,a"), multi_label=False)


def test_images_may_lie_elsewhere_and_a_row_may_be_there_twice(photos: Path) -> None:
    path = table(photos, "file,label", "0.png,a", "1.png,b", "./1.png,b")
    found = load_table(path, images=photos / "photos")
    assert len(found) == 2
    assert any("1 row" in note for note in found.notes)
    with pytest.raises(DataError, match="image is missing"):
        load_table(path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,label", ",Boa", "photos/0.png,Adder"], "without an image:\n  line 2: Boa"),
        (["file,label", "/nowhere/9.png,Boa"], r"missing:\n  line 2 \(/nowhere/9.png\)"),
        (["file,label", "photos/9.png,Boa"], r"missing:\n  line 2 \(photos/9.png\)"),
        (["file,label", "photos/0.png,a", "photos/1.png,"], r"no label:\n  line 3 \(photos/1.png"),
        (["file,label,label", "photos/0.png,a,b"], "'label' twice"),
        (["file,lable", "photos/0.png,a"], "unknown column.*'lable'"),
        (["file;label", "photos/0.png;a"], "something else than commas"),
        (["file,group", "photos/0.png,a"], "no column 'label'"),
        (["label", "a"], "no column 'file'"),
        (["file,label,labels", "photos/0.png,a,b"], "a column 'label' and a column 'labels'"),
        ([], "nothing in it"),
        (["file,label"], "no row below the header"),
        (["file,label", "photos/0.png,a,b"], "another number of cells.*\n  line 2: 3"),
        (["file,label", 'photos/0.png,"a'], "is no CSV"),
        (["file,label", "photos/0.png,a", "photos/./0.png,b"], "line 2.*: a; line 3: b"),
        (
            ["file,label,group", "photos/0.png,a,x", "photos/0.png,a,y"],
            "different groups",
        ),
        (
            ["file,label,group", "photos/0.png,a,x", "photos/1.png,b,"],
            r"no group.*\n  line 3 \(photos/1.png\)",
        ),
        (["file,label", "photos/0.png,a", "photos/1.png,a"], "one class only: a"),
        (["file,label", "labels.csv,a", "photos/1.png,b"], "unknown kind"),
    ],
)
def test_what_is_wrong_is_said_and_where(photos: Path, lines: list[str], said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_table(table(photos, *lines))
    assert caught.match(said)
    assert caught.value.mend


def test_bytes_that_are_not_utf8_are_named_with_their_line(photos: Path) -> None:
    path = photos / "labels.csv"
    path.write_bytes("file,label\nphotos/0.png,Kreuzotter\nphotos/1.png,Äskulap\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"not UTF-8\.\nWhy: line 3 has the byte 0xc4"):
        load_table(path)
    path.write_bytes("\ufefffile,label\nphotos/0.png,a\nphotos/1.png,Äskulap".encode())
    assert load_table(path).classes == ("a", "Äskulap")


def test_one_content_in_two_classes_is_refused_unless_a_report_wants_it(photos: Path) -> None:
    shutil.copy(photos / "photos" / "0.png", photos / "photos" / "9.png")
    path = table(photos, "file,label", "photos/0.png,a", "photos/9.png,b")
    with pytest.raises(DataError, match="two classes"):
        load_table(path)
    assert len(load_table(path, strict=False)) == 2


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_table(tmp_path / "labels.csv")
