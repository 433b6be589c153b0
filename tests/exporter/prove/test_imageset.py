"""What is said of images that int8 was calibrated on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from fakes import CLASSES, draw_images, make_bundle

from exporter.prove.imageset import prepare
from models.errors import UserError
from models.images import content_hash, list_images

PER_CLASS = 2


def several(root: Path) -> Any:
    bundle = make_bundle(root)
    contract = dataclasses.replace(bundle.contract, activation="sigmoid")
    return dataclasses.replace(bundle, contract=contract)


def test_a_table_of_several_labels(tmp_path: Path) -> None:
    """Names or indices with '|' between them, nothing for no class; rows of a file add up."""
    folder = draw_images(tmp_path / "images", PER_CLASS)
    files = list_images(folder)
    names = [file.path.relative_to(folder).as_posix() for file in files]
    first, second, third = CLASSES[:3]
    rows = [f"{second} | {first}", "", "2|0", first, third]
    table = [f"{name},{row}" for name, row in zip([*names[:4], names[3]], rows, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["file,labels", *table]), encoding="utf-8")
    given = prepare(several(tmp_path / "dist"), files, folder)
    truth = {sample.name: sample.truth for sample in given.samples}
    assert [truth[name] for name in names[:4]] == [(0, 1), (), (0, 2), (0, 2)]
    assert truth[names[-1]] == (len(CLASSES) - 1,)  # the rest by their folders
    said = {sample.name: sample.label(given.contract) for sample in given.samples}
    assert [said[name] for name in names[:2]] == [f"{first}, {second}", "none"]
    assert given.labelled == len(files)


def test_several_labels_need_a_model_of_several_answers(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "images", PER_CLASS)
    files = list_images(folder)
    name = files[0].path.relative_to(folder).as_posix()
    table = f"file,label\n{name},{CLASSES[0]}|{CLASSES[1]}\n"
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    with pytest.raises(UserError, match="label"):
        prepare(make_bundle(tmp_path / "one"), files, folder)
    given = prepare(several(tmp_path / "several"), files, folder)
    assert given.samples[0].truth == (0, 1)
    (folder / "labels.csv").write_text(table.replace(CLASSES[1], "nobody"), encoding="utf-8")
    with pytest.raises(UserError, match="nobody"):
        prepare(several(tmp_path / "again"), files, folder)


@pytest.mark.parametrize(
    ("calibrated", "said"),
    [
        (0, None),
        (3, "int8 was calibrated on 3 of these images, which are no test of it"),
        (PER_CLASS * len(CLASSES), "these are the images that int8 was calibrated on: "
                                   "give --images for others"),
    ],
)  # fmt: skip
def test_images_that_int8_knows(tmp_path: Path, calibrated: int, said: str | None) -> None:
    folder = draw_images(tmp_path / "images", PER_CLASS)
    files = list_images(folder)
    known = [{"path": "as it was called", "sha256": content_hash(f.path)} for f in files]
    bundle = make_bundle(tmp_path / "dist")
    manifest = {**bundle.manifest, "calibration": {"files": known[:calibrated]}}
    given = prepare(dataclasses.replace(bundle, manifest=manifest), files, folder)
    assert [note for note in given.notes if "calibrated" in note] == ([said] if said else [])


@pytest.mark.parametrize("calibration", [None, {}, {"files": 3}, {"files": [1, {}]}])
def test_manifests_that_do_not_say(tmp_path: Path, calibration: Any) -> None:
    folder = draw_images(tmp_path / "images", PER_CLASS)
    bundle = make_bundle(tmp_path / "dist")
    manifest = {**bundle.manifest, "calibration": calibration}
    given = prepare(
        dataclasses.replace(bundle, manifest=manifest), list_images(folder), folder, limit=2
    )
    assert not [note for note in given.notes if "calibrated" in note]
