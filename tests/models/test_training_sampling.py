"""Each class as often as any other, and no image again before its fellows."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("torch")

from models.training.sampling import balanced_order

TAIL = [(0,)] * 60 + [(1,)] * 8 + [(2,)] * 1


def test_classes_are_drawn_equally_often() -> None:
    drawn = balanced_order(TAIL, seed=3)
    assert len(drawn) == len(TAIL)
    counted = Counter(TAIL[index][0] for index in drawn)
    assert counted == {0: 23, 1: 23, 2: 23}, "69 images of three classes"
    plain = Counter(label for (label,) in TAIL)
    assert plain[0] > 2 * counted[0], "the mutant: each image once"


def test_rounds_are_whole() -> None:
    drawn = [TAIL[index][0] for index in balanced_order(TAIL, seed=3)]
    rounds = [drawn[start : start + 3] for start in range(0, 69, 3)]
    assert all(sorted(each) == [0, 1, 2] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 3, "in a new order each"


def test_images_of_a_class_take_turns() -> None:
    drawn = [index for index in balanced_order(TAIL, seed=3) if TAIL[index] == (1,)]
    times = Counter(drawn)
    assert set(times.values()) == {2, 3}  # 23 draws of 8 images
    assert sorted(drawn[:8]) == sorted(drawn[8:16]) == list(range(60, 68))
    assert drawn[:8] != drawn[8:16]
    assert len(set(balanced_order(TAIL, 3)[:69])) > 23 + 8, "frequent classes are not repeated"


def test_the_seed_decides() -> None:
    assert balanced_order(TAIL, 3) == balanced_order(TAIL, 3)
    assert balanced_order(TAIL, 3) != balanced_order(TAIL, 4)


def test_several_classes_or_none() -> None:
    labels = [(0,)] * 40 + [(0, 1)] * 2 + [()] * 6 + [(2,)] * 4
    drawn = balanced_order(labels, seed=1, count=4 * 25)
    counted = Counter(labels[index] for index in drawn)
    assert counted[()] == 25, "background is a class of its own"
    assert counted[(2,)] == 25
    assert counted[(0, 1)] >= 25, "as one of class 1, and now and then as one of class 0"
    assert sum(counted[each] for each in ((0,), (0, 1))) == 50


def test_classes_without_images_do_no_harm() -> None:
    assert sorted(balanced_order([(5,), (9,)], seed=0)) == [0, 1]
    assert balanced_order([], seed=0) == []
