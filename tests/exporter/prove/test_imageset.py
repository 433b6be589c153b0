"""What is said of images that int8 was calibrated on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from fakes import CLASSES, draw_images, make_bundle

from exporter.prove.imageset import prepare
from models.images import content_hash, list_images

PER_CLASS = 2


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
