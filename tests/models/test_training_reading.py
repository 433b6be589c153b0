"""The images of a run: from tables and folders, divided once and told to other runs."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.contract import Label
from models.data.labelled import DataError
from models.training import reading
from models.training.record import RunFolder, describe
from models.training.settings import TrainingError, TrainSettings


def pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(path)
    return paths


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(settings: TrainSettings) -> tuple[Any, list[str]]:
    said: list[str] = []
    return reading.read(settings, said.append), said


def test_every_setting_reaches_the_reading(tmp_path: Path) -> None:
    settings = TrainSettings(
        out=tmp_path, data=tmp_path / "a.csv", validation=(tmp_path / "b.csv",),
        test=tmp_path / "c", images=tmp_path / "i", class_map=tmp_path / "m", multi_label=True,
        validation_fraction=0.3, test_fraction=0.2, seed=7, split=tmp_path / "s",
        most_broken=0.1, near_bits=-1,
    )  # fmt: skip
    choice = dataclasses.asdict(reading.choice_of(settings))
    assert choice == {
        "data": (tmp_path / "a.csv",), "validation": (tmp_path / "b.csv",),
        "test": (tmp_path / "c",), "images": tmp_path / "i", "class_map": tmp_path / "m",
        "multi_label": True, "validation_fraction": 0.3, "test_fraction": 0.2, "seed": 7,
        "split_file": tmp_path / "s", "most_broken": 0.1, "near_bits": -1,
    }  # fmt: skip
    with pytest.raises(TrainingError, match="no data"):
        reading.choice_of(TrainSettings(out=tmp_path))


def test_a_group_stays_on_one_side_and_the_split_is_told(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "photos", 24)
    rows = [
        {"file": path.name, "label": "ab"[place % 2], "group": f"animal {place // 4}"}
        for place, path in enumerate(paths)
    ]
    settings = TrainSettings(
        out=tmp_path / "run", data=table(tmp_path / "photos" / "seen.csv", rows), near_bits=-1
    )
    found, _ = read(settings)
    groups = [{item.group for item in part.items} for part in (found.train, found.validation)]
    assert groups[0]
    assert groups[1]
    assert groups[0].isdisjoint(groups[1])
    folder = RunFolder(settings.out)
    reading.keep_split(folder, settings, found)
    other = dataclasses.replace(settings, out=tmp_path / "two", seed=99, split=folder.split)
    again, said = read(other)
    assert again.train.items == found.train.items
    assert any("divided as" in line for line in said)
    kept = folder.split.read_bytes()
    reading.keep_split(RunFolder(other.out), other, again)
    assert not RunFolder(other.out).split.exists(), "it stands in the file that was given"
    assert folder.split.read_bytes() == kept
    assert read(dataclasses.replace(settings, seed=99))[0].train.items != found.train.items


def test_broken_images_are_named(tmp_path: Path) -> None:
    for place, name in enumerate("ab"):
        paths = pictures(tmp_path / "photos" / name, 13, place)
        for path in paths[:6]:
            path.write_text(f"no image {path}")
    settings = TrainSettings(out=tmp_path / "run", data=tmp_path / "photos", near_bits=-1)
    with pytest.raises(DataError):
        read(settings)
    found, said = read(dataclasses.replace(settings, most_broken=0.5))
    assert len(found.train) + len(found.validation) == 14
    assert sum("no image" in line or ".png" in line for line in said) == 10
    assert said[-1] == "  and 2 more"


def test_the_record_tells_a_multi_label_run_from_another(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "photos", 12)
    rows = [{"file": path.name, "label": "ab"[place % 2]} for place, path in enumerate(paths)]
    data = table(tmp_path / "photos" / "seen.csv", rows)
    settings = TrainSettings(out=tmp_path / "run", data=data, near_bits=-1)
    labels = (Label("a"), Label("b"))
    records = []
    for asked in (None, True):
        found, _ = read(dataclasses.replace(settings, multi_label=asked))
        records.append(describe(settings, labels, found.train, found.validation)["settings"])
    assert "multi_label" not in records[0], "runs begun before there was such a thing go on"
    assert records[1]["multi_label"] is True


def test_a_class_of_one_image_and_an_empty_validation_set(tmp_path: Path) -> None:
    pictures(tmp_path / "photos" / "a", 5, 1)
    pictures(tmp_path / "photos" / "b", 1, 2)
    settings = TrainSettings(out=tmp_path / "run", data=tmp_path / "photos", near_bits=-1)
    with pytest.raises(DataError, match=r"b \(1\)"):
        read(settings)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(Exception, match="nothing"):
        read(dataclasses.replace(settings, validation=tmp_path / "nothing"))
