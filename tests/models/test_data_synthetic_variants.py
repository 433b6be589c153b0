"""The long tail and the pictures of several snakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data.folder import load_folder
from models.data.labelled import DataError
from models.data.synthetic import LABELS, SPECIES, draw_imbalanced, draw_multi_label
from models.data.synthetic.crowd import draw_crowd
from models.data.synthetic.variants import draw_variant_sheet, long_tail, present_in
from models.data.table import load_table


def test_the_tail_falls_by_the_same_factor() -> None:
    assert long_tail(100, 100.0, 3) == (100, 10, 1)
    assert long_tail(5, 1.0, 4) == (5, 5, 5, 5)
    assert long_tail(8, 1000.0, 2) == (8, 1)


def test_an_imbalanced_set_has_the_counts_that_were_asked_for(tmp_path: Path) -> None:
    drawn: list[int] = []
    counts = draw_imbalanced(tmp_path / "a", 6, 6.0, 3, 32, lambda: drawn.append(1))
    found = load_folder(tmp_path / "a")
    assert found.counts() == counts
    assert sorted(counts, reverse=True) == list(long_tail(6, 6.0, len(LABELS)))
    assert sum(drawn) == sum(counts)
    other = draw_imbalanced(tmp_path / "b", 6, 6.0, 4, 32)
    assert other != counts, "which species is rare is drawn"
    assert draw_imbalanced(tmp_path / "a", 6, 6.0, 3, 32, lambda: drawn.append(1)) == counts
    assert sum(drawn) == sum(counts), "not drawn again"


def test_several_snakes_are_written_with_their_labels(tmp_path: Path) -> None:
    path = draw_multi_label(tmp_path / "set", 8, 0, 32)
    before = path.read_bytes()
    found = load_table(path)
    assert found.multi_label
    assert len(found) == 8
    for item in found.items:
        index = int(item.path.stem)
        names = {found.classes[label] for label in item.labels}
        assert names == {LABELS[k].name for k in present_in(0, index)}
        assert item.group == f"walk {index // 4}"
    assert {len(item.labels) for item in found.items} <= {0, 1, 2, 3}
    draw_multi_label(tmp_path / "again", 8, 0, 32)
    assert (tmp_path / "again" / "labels.csv").read_bytes() == before
    for name in ("00000.jpg", "00007.jpg"):
        assert (tmp_path / "set" / "images" / name).read_bytes() == (
            tmp_path / "again" / "images" / name
        ).read_bytes()


def test_all_counts_and_species_occur() -> None:
    found = [present_in(5, index) for index in range(400)]
    assert {len(each) for each in found} == {0, 1, 2, 3}
    assert {k for each in found for k in each} == set(range(len(SPECIES)))


def test_a_picture_of_none_is_ground_and_each_snake_covers_some_of_it() -> None:
    empty = np.asarray(draw_crowd((), 0, 7, 1, 64), int)
    for present in ((0,), (1, 4), (2, 3, 5)):
        picture = np.asarray(draw_crowd(present, 0, 7, 1, 64), int)
        changed = (np.abs(picture - empty).max(2) > 60).mean()
        assert 0.02 * len(present) < changed < 0.6
    other_walk = np.asarray(draw_crowd((), 0, 8, 1, 64), int)
    assert np.abs(other_walk - empty).mean() > 5


@pytest.mark.parametrize(
    ("most", "ratio", "seed", "size"),
    [(0, 2.0, 0, 64), (5, 0.5, 0, 64), (5, float("nan"), 0, 64), (5, 2.0, -1, 64), (5, 2.0, 0, 8)],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, most: int, ratio: float, seed: int, size: int
) -> None:
    with pytest.raises(DataError):
        draw_imbalanced(tmp_path / "set", most, ratio, seed, size)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.jpg").write_text("precious")
    with pytest.raises(DataError, match="in the way"):
        draw_multi_label(tmp_path / "mine", 4, 0, 32)


def test_contact_sheets(tmp_path: Path) -> None:
    for kind in ("imbalanced", "multi-label"):
        draw_variant_sheet(tmp_path / f"{kind}.png", kind, 0, 32, 1)
        with Image.open(tmp_path / f"{kind}.png") as sheet:
            assert sheet.size == (4 + 8 * 36, 4 + 36)
