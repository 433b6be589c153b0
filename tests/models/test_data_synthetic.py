"""The drawn snakes: reproducible, safely written, and told apart by nothing simple."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from models.contract import Contract
from models.data.folder import check_images, load_folder
from models.data.labelled import DataError
from models.data.synthetic import (
    LABELS,
    SPECIES,
    draw_contact_sheet,
    draw_dataset,
    draw_snake,
)
from models.data.synthetic.dataset import MARKER

Matrix = npt.NDArray[np.float64]
SIDE = 32


def test_the_labels_are_a_contract_and_the_class_folders(tmp_path: Path) -> None:
    assert len(LABELS) >= 8
    assert {label.venomous for label in LABELS} == {"yes", "no", "unknown"}
    assert len({label.scientific_name for label in LABELS}) == len(LABELS)
    draw_dataset(tmp_path / "snakes", 1, seed=0, size=32)
    found = load_folder(tmp_path / "snakes")
    assert found.classes == Contract(LABELS).names
    assert found.counts() == (1,) * len(LABELS)
    assert check_images(found.items) == ()


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    for species in SPECIES:
        first = draw_snake(species, 3, 5, 64)
        assert (first.mode, first.size) == ("RGB", (64, 64))
        assert first.tobytes() == draw_snake(species, 3, 5, 64).tobytes()
        assert first.tobytes() != draw_snake(species, 4, 5, 64).tobytes()
        assert first.tobytes() != draw_snake(species, 3, 6, 64).tobytes()


def test_a_picture_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "few", 1, seed=9, size=32)
    draw_dataset(tmp_path / "more", 3, seed=9, size=32)
    for label in LABELS:
        name = Path(label.name) / "00000.jpg"
        assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "more" / name).read_bytes()


def test_all_pictures_of_a_set_differ(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "snakes", 4, seed=1, size=32)
    items = load_folder(tmp_path / "snakes").items
    assert len({item.digest for item in items}) == 4 * len(LABELS)


def test_another_size_shows_the_same_scene() -> None:
    for species in SPECIES:
        small = draw_snake(species, 0, 0, 48)
        large = draw_snake(species, 0, 0, 144)
        seen = [
            np.asarray(p.resize((12, 12), Image.Resampling.BOX), np.float64) for p in (small, large)
        ]
        assert np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1] > 0.8


def test_a_whole_set_is_not_drawn_again_and_a_damaged_one_is(tmp_path: Path) -> None:
    folder = tmp_path / "snakes"
    drawn: list[int] = []

    def draw(per_class: int = 2, seed: int = 0, size: int = 32) -> int:
        drawn.clear()
        draw_dataset(folder, per_class, seed, size, lambda: drawn.append(1))
        return len(drawn)

    whole = 2 * len(LABELS)
    assert draw() == whole
    assert draw() == 0
    victim = folder / LABELS[3].name / "00001.jpg"
    bytes_before = victim.read_bytes()
    victim.unlink()
    assert draw() == whole
    assert victim.read_bytes() == bytes_before
    assert draw(seed=1) == whole
    assert draw(seed=1, size=33) == whole
    assert draw(per_class=3, seed=1, size=33) == 3 * len(LABELS)
    marker = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps(marker | {"drawing_version": -1}))
    assert draw(per_class=3, seed=1, size=33) == 3 * len(LABELS)
    assert len(load_folder(folder)) == 3 * len(LABELS)


def test_a_drawing_that_is_broken_off_leaves_the_old_set(tmp_path: Path) -> None:
    folder = tmp_path / "snakes"
    draw_dataset(folder, 1, seed=0, size=32)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_dataset(folder, 2, seed=0, size=32, on_image=stop)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_a_folder_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "photographs"
    mine.mkdir()
    (mine / "holiday.jpg").write_text("precious")
    with pytest.raises(DataError, match="in the way"):
        draw_dataset(mine, 1, seed=0, size=32)
    assert (mine / "holiday.jpg").read_text() == "precious"
    with pytest.raises(DataError, match="in the way"):
        draw_dataset(mine / "holiday.jpg", 1, seed=0, size=32)


@pytest.mark.parametrize(
    ("per_class", "seed", "size"), [(0, 0, 64), (1, -1, 64), (1, 0, 31), (1, 0, 5000)]
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, per_class: int, seed: int, size: int
) -> None:
    with pytest.raises(DataError):
        draw_dataset(tmp_path / "snakes", per_class, seed, size)
    assert not list(tmp_path.iterdir())


def test_the_contact_sheet_has_a_column_a_species(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.png"
    draw_contact_sheet(path, per_species=2, seed=0, size=32)
    with Image.open(path) as sheet:
        assert sheet.size == (4 + 36 * len(SPECIES), 24 + 2 * 36)


@pytest.fixture(scope="module")
def drawn() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """80 pictures of each species, `[n, SIDE, SIDE, 3]`, and their classes."""
    pictures = [
        np.asarray(draw_snake(species, 77, index, SIDE))
        for index in range(80)
        for species in SPECIES
    ]
    return np.stack(pictures), np.tile(np.arange(len(SPECIES)), 80)


def _linear_accuracy(features: Matrix, classes: npt.NDArray[np.int64]) -> float:
    """Validation accuracy of a linear classifier, the best of three strengths of ridge.

    Least squares on one-hot targets in closed form (the dual, since there are
    fewer pictures than features); the last fifth judges.
    """
    cut = len(classes) * 4 // 5
    mean, spread = features[:cut].mean(0), features[:cut].std(0) + 1e-6
    x = (features - mean) / spread
    gram = x[:cut] @ x[:cut].T
    target = np.eye(classes.max() + 1)[classes[:cut]]
    target -= target.mean(0)
    best = 0.0
    for ridge in (0.01, 1.0, 100.0):
        strength = ridge * np.trace(gram) / cut
        weights = np.linalg.solve(gram + strength * np.eye(cut), target)
        answers = (x[cut:] @ x[:cut].T @ weights).argmax(1)
        best = max(best, float((answers == classes[cut:]).mean()))
    return best


def _color_statistics(pictures: npt.NDArray[np.uint8]) -> Matrix:
    """Mean, spread and a 64-bin colour histogram (square root) of each picture."""
    codes = (pictures >> 6).astype(np.int64) @ np.array([16, 4, 1])
    bins = np.stack([np.bincount(code.ravel(), minlength=64) for code in codes])
    pixels = pictures.reshape(len(pictures), -1, 3) / 255.0
    return np.concatenate([np.sqrt(bins / SIDE**2), pixels.mean(1), pixels.std(1)], 1)


def test_a_linear_model_on_raw_pixels_fails(
    drawn: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
) -> None:
    pictures, classes = drawn
    assert _linear_accuracy(pictures.reshape(len(pictures), -1) / 255.0, classes) < 0.6


def test_color_statistics_do_not_tell_the_species(
    drawn: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
) -> None:
    pictures, classes = drawn
    assert _linear_accuracy(_color_statistics(pictures), classes) < 0.6


def test_the_linear_models_above_would_notice_a_giveaway(
    drawn: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
) -> None:
    """The control: tint each species and both models succeed."""
    pictures, classes = drawn
    tint = np.random.default_rng(0).uniform(-110, 110, (len(SPECIES), 3))
    tinted = np.clip(pictures + tint[classes][:, None, None, :], 0, 255).astype(np.uint8)
    assert _linear_accuracy(tinted.reshape(len(tinted), -1) / 255.0, classes) > 0.6
    assert _linear_accuracy(_color_statistics(tinted), classes) > 0.6
