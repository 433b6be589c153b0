"""Which images are learned from and which judge, for every kind of set."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.dividing import DataChoice, read_divided
from models.data.folder import load_folder
from models.data.labelled import DataError, Item, LabelledSet
from models.data.split import split
from models.data.split_file import apply_split, write_split
from models.data.stratify import TEST, TRAIN, VALIDATION, by_draw, iteratively, units_of
from support.pictures import noise, scene, table


def _item(number: int, labels: tuple[int, ...], group: str = "") -> Item:
    return Item(Path(f"{number}.png"), labels, f"{number:064x}", group)


def _side_of(items: list[Item], units: list, sides: list[int]) -> dict[Path, int]:  # type: ignore[type-arg]
    side = {i.path: s for unit, s in zip(units, sides, strict=True) for i in unit.items}
    assert set(side) == {item.path for item in items}
    return side


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=5),
    fraction=st.sampled_from([0.05, 0.2, 0.5, 0.8]),
    seed=st.integers(0, 5),
)
def test_without_groups_it_is_what_split_does(
    counts: list[int], fraction: float, seed: int
) -> None:
    items = [
        _item(1000 * label + i, (label,)) for label, count in enumerate(counts)
        for i in range(count)
    ]  # fmt: skip
    whole = LabelledSet(Path("x"), tuple("abcde"[: len(counts)]), tuple(items))
    _, expected = split(whole, fraction, seed)
    units = units_of(items, (), seed)
    side = _side_of(items, units, by_draw(units, (fraction, 0.0)))
    assert {p for p, s in side.items() if s == VALIDATION} == {i.path for i in expected.items}
    if fraction < 0.8:  # a test set takes nothing from those that judge
        three = _side_of(items, units, by_draw(units, (fraction, 0.1)))
        assert {p for p, s in three.items() if s == VALIDATION} == {i.path for i in expected.items}
        for label, count in enumerate(counts):
            seen = [three[i.path] for i in items if i.labels == (label,)]
            assert TRAIN in seen
            assert seen.count(TEST) <= max(1, round(0.1 * count))


@st.composite
def _grouped(draw: st.DrawFn) -> list[Item]:
    """Single-label or multi-label images in groups of a few."""
    classes = draw(st.integers(2, 4))
    several = draw(st.booleans())
    labels = st.sets(st.integers(0, classes - 1), min_size=0 if several else 1,
                     max_size=classes if several else 1)  # fmt: skip
    found: list[Item] = []
    for group in range(draw(st.integers(2, 20))):
        for _ in range(draw(st.integers(1, 5))):
            found.append(_item(len(found), tuple(sorted(draw(labels))), f"g{group}"))
    return found


@settings(max_examples=50, deadline=None)
@given(items=_grouped(), seed=st.integers(0, 3), test=st.sampled_from([0.0, 0.2]))
def test_groups_are_never_divided_and_the_same_seed_divides_alike(
    items: list[Item], seed: int, test: float
) -> None:
    units = units_of(items, (), seed)
    side = _side_of(items, units, iteratively(units, 4, (0.25, test)))
    by_group: dict[str, set[int]] = defaultdict(set)
    for item in items:
        by_group[item.group].add(side[item.path])
    assert all(len(sides) == 1 for sides in by_group.values())
    again = units_of(items[::-1], (), seed)
    assert _side_of(items, again, iteratively(again, 4, (0.25, test))) == side, "order of files"
    for label in range(4):
        held = [unit for unit in units if any(label in i.labels for i in unit.items)]
        if held:
            assert any(side[unit.items[0].path] == TRAIN for unit in held), "never learned"


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=2, max_size=4),
    seed=st.integers(0, 3),
)
def test_each_class_is_on_both_sides_where_its_groups_allow(sizes: list[int], seed: int) -> None:
    items = [
        _item(100 * label + 10 * g + i, (label,), f"{label} {g}")
        for label, groups in enumerate(sizes)
        for g in range(groups)
        for i in range(1 + (g + label) % 3)
    ]
    units = units_of(items, (), seed)
    side = _side_of(items, units, iteratively(units, len(sizes), (0.2, 0.0)))
    for label in range(len(sizes)):
        assert {side[i.path] for i in items if i.labels == (label,)} == {TRAIN, VALIDATION}


def test_the_shares_are_near_and_alike_in_all_classes() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    often = (0.5, 0.3, 0.1, 0.02)
    items = [
        _item(i, tuple(np.flatnonzero(rng.random(4) < often).tolist()), f"g{i // 3}")
        for i in range(3000)
    ]
    units = units_of(items, (), 1)
    side = _side_of(items, units, iteratively(units, 4, (0.2, 0.1)))
    for label in range(4):
        seen = [side[item.path] for item in items if label in item.labels]
        assert abs(seen.count(VALIDATION) / len(seen) - 0.2) < 0.03
        assert abs(seen.count(TEST) / len(seen) - 0.1) < 0.03
    assert abs(sum(s == VALIDATION for s in side.values()) / 3000 - 0.2) < 0.03
    other = _side_of(items, units_of(items, (), 2), iteratively(units_of(items, (), 2), 4,
                                                               (0.2, 0.1)))  # fmt: skip
    assert other != side


def test_a_plain_rule_would_lose_the_rare_class() -> None:
    """The control: dealing out every fifth image leaves a class of two on one side."""
    items = [_item(i, (0,)) for i in range(100)] + [_item(200, (0, 1)), _item(201, (0, 1))]
    lost = 0
    for seed in range(10):
        units = units_of(items, (), seed)
        plain = {i.path for unit in units[::5] for i in unit.items}
        lost += not any(i.path in plain for i in items[-2:])
        side = _side_of(items, units, iteratively(units, 2, (0.2, 0.0)))
        assert {side[i.path] for i in items[-2:]} == {TRAIN, VALIDATION}
    assert lost >= 3


@pytest.fixture
def snakes(tmp_path: Path) -> Path:
    for number, name in enumerate(["adder", "boa", "cobra"]):
        for i in range(10):
            noise(tmp_path / "snakes" / name / f"{i}.png", 100 * number + i)
    return tmp_path / "snakes"


def test_class_folders_are_divided_as_ever(snakes: Path) -> None:
    divided = read_divided(DataChoice((snakes,), seed=4))
    assert (divided.train, divided.validation) == split(load_folder(snakes), 0.2, 4)
    assert divided.test is None
    three = read_divided(DataChoice((snakes,), seed=4, test_fraction=0.3))
    assert three.validation == divided.validation
    assert three.test is not None
    assert three.test.counts() == (3, 3, 3)


def test_near_copies_stay_on_one_side(snakes: Path) -> None:
    for i in range(6):
        for copy in range(3):
            name = snakes / "boa" / f"scene{i}_{copy}.png"
            scene(i, 64).resize((64 + 8 * copy, 60), 2).save(name)
    parted = 0
    for seed in range(5):
        for bits in (6, -1):
            divided = read_divided(DataChoice((snakes,), seed=seed, near_bits=bits))
            sides: dict[str, set[str]] = defaultdict(set)
            for name, part in (("train", divided.train), ("val", divided.validation)):
                for item in part.items:
                    if item.path.name.startswith("scene"):
                        sides[item.path.name.split("_")[0]].add(name)
            if bits == 6:
                assert all(len(each) == 1 for each in sides.values())
                assert any("near copies" in note for note in divided.notes)
            else:
                parted += sum(len(each) == 2 for each in sides.values())
    assert parted, "otherwise this test shows nothing"


def test_broken_images_are_left_out_and_too_many_are_an_error(snakes: Path) -> None:
    (snakes / "boa" / "3.png").write_bytes((snakes / "boa" / "3.png").read_bytes()[:60])
    divided = read_divided(DataChoice((snakes,)))
    assert [each.path.name for each in divided.broken] == ["3.png"]
    assert len(divided.train) + len(divided.validation) == 29
    assert any("1 broken image left out" in note for note in divided.notes)
    (snakes / "adder" / "5.png").write_text("x")
    with pytest.raises(DataError, match=r"2 images of 30 \(6.7 %\)"):
        read_divided(DataChoice((snakes,)))
    assert len(read_divided(DataChoice((snakes,), most_broken=0.1)).broken) == 2
    with pytest.raises(DataError, match="0 to 1"):
        read_divided(DataChoice((snakes,), most_broken=5))


def test_a_split_is_written_and_used_again(snakes: Path, tmp_path: Path) -> None:
    file = tmp_path / "run" / "split.csv"
    choice = DataChoice((snakes,), seed=1, test_fraction=0.2, split_file=file)
    first = read_divided(choice)
    assert not first.reused
    lines = file.read_text().splitlines()
    assert lines[0] == "file,digest,set"
    assert len(lines) == 31
    assert any(line.startswith("adder/0.png,") for line in lines)
    again = read_divided(DataChoice((snakes,), seed=99, split_file=file))
    assert again.reused
    assert (again.train, again.validation, again.test) == (
        first.train, first.validation, first.test,
    )  # fmt: skip
    (snakes / "adder" / "0.png").rename(snakes / "adder" / "renamed.png")
    renamed = read_divided(DataChoice((snakes,), split_file=file))
    assert len(renamed.train) == len(first.train), "content decides"


def test_a_split_of_other_images_says_what_differs(snakes: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    choice = DataChoice((snakes,), split_file=file)
    read_divided(choice)
    noise(snakes / "boa" / "new.png", 999)
    noise(snakes / "boa" / "1.png", 998)
    (snakes / "boa" / "2.png").unlink()
    with pytest.raises(DataError) as caught:
        read_divided(choice)
    for said in ("boa/1.png has changed", "boa/new.png is not in", "boa/2.png is no longer there",
                 "3 differences"):  # fmt: skip
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [*lines, lines[1].replace("train", "validation")], "two sides:\n  line 32"),
        (lambda lines: [lines[0], lines[1].replace("train", "dev"), *lines[2:]], "unknown sets"),
        (lambda lines: ["file,digest", *(line.rsplit(",", 1)[0] for line in lines[1:])],
         "three: file, digest, set"),
        (lambda lines: [line.replace(",validation", ",train") for line in lines],
         "validation set is empty"),
        (lambda lines: [], "empty"),
    ],
)  # fmt: skip
def test_split_files_that_cannot_be_used(snakes: Path, tmp_path: Path, change, said) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "split.csv"
    whole = load_folder(snakes)
    write_split(file, snakes, (*split(whole, 0.2, 0), None))
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")
    with pytest.raises(DataError, match=said):
        read_divided(DataChoice((snakes,), split_file=file))


def test_a_split_file_that_cannot_be_written_leaves_nothing(snakes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        read_divided(DataChoice((snakes,), split_file=tmp_path / "file" / "split.csv"))


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    rows = ["file,label,group"]
    for i in range(24):
        noise(tmp_path / "photos" / f"{i:02}.png", i)
        rows.append(f"photos/{i:02}.png,{'ab'[i % 2]},walk {i // 4}")
    return table(tmp_path, *rows)


def test_groups_of_a_table_stay_together(grouped: Path, tmp_path: Path) -> None:
    divided = read_divided(DataChoice((grouped,), split_file=tmp_path / "s.csv"))
    sides = [{item.group for item in part.items} for part in (divided.train, divided.validation)]
    assert not sides[0] & sides[1]
    assert len(divided.validation) == 4
    assert divided.validation.counts() == (2, 2)
    rows = (tmp_path / "s.csv").read_text().splitlines()
    rows[1] = rows[1].replace(",train", ",validation")
    (tmp_path / "s.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"1 group.*both sides.*\n  walk \d: "):
        read_divided(DataChoice((grouped,), split_file=tmp_path / "s.csv"))


def test_a_group_on_both_sides_of_given_tables_is_refused(grouped: Path, tmp_path: Path) -> None:
    lines = grouped.read_text().splitlines()
    train, validation = tmp_path / "train.csv", tmp_path / "val.csv"
    train.write_text("\n".join(lines[:15]))
    validation.write_text("\n".join([lines[0], *lines[15:]]))
    with pytest.raises(DataError, match="walk 3"):
        read_divided(DataChoice((train,), (validation,)))
    train.write_text("\n".join(lines[:13]))
    validation.write_text("\n".join([lines[0], *lines[17:]]))
    divided = read_divided(DataChoice((train,), (validation,)))
    assert (len(divided.train), len(divided.validation)) == (12, 8)
    validation.write_text("\n".join([lines[0], lines[1].replace("walk 0", "x"), *lines[17:]]))
    with pytest.raises(DataError, match="more than one set"):
        read_divided(DataChoice((train,), (validation,)))


def test_a_class_of_one_group_is_learned_and_not_judged(grouped: Path) -> None:
    text = grouped.read_text().replace("00.png,a", "00.png,c").replace("02.png,a", "02.png,c")
    grouped.write_text(text)
    divided = read_divided(DataChoice((grouped,)))
    assert divided.train.counts()[2] == 2
    assert any("without a validation image" in note and "c" in note for note in divided.notes)


def test_a_class_with_one_image_is_an_error_where_each_image_has_one(grouped: Path) -> None:
    text = grouped.read_text()
    grouped.write_text(text.replace("00.png,a", "00.png,rare"))
    with pytest.raises(DataError, match=r"too small to divide: rare \(1\)") as caught:
        read_divided(DataChoice((grouped,)))
    assert "class map" in caught.value.mend
    grouped.write_text(text.replace("label", "labels", 1).replace("00.png,a", "00.png,a|rare"))
    divided = read_divided(DataChoice((grouped,)))
    assert divided.train.counts()[2] == 1
    assert any("without a validation image" in note for note in divided.notes)


def test_an_only_group_leaves_no_validation_set(grouped: Path) -> None:
    lines = grouped.read_text().splitlines()
    grouped.write_text(
        "\n".join([lines[0], *(line[: line.rindex(",")] + ",g" for line in lines[1:])])
    )
    with pytest.raises(DataError, match="validation set is empty"):
        read_divided(DataChoice((grouped,)))


@pytest.mark.parametrize(
    ("fractions", "said"),
    [((0.0, 0.0), "validation"), ((1.0, 0.0), "validation"), ((0.5, 0.5), "test"),
     ((0.2, -0.1), "test"), ((float("nan"), 0.0), "validation"), ((0.2, float("nan")), "test")],
)  # fmt: skip
def test_shares_out_of_range_are_refused(
    snakes: Path, fractions: tuple[float, float], said: str
) -> None:
    with pytest.raises(DataError, match=f"share of {said} images"):
        read_divided(
            DataChoice((snakes,), validation_fraction=fractions[0], test_fraction=fractions[1])
        )


def test_given_folders(snakes: Path, tmp_path: Path) -> None:
    root = tmp_path / "divided"
    shutil.move(snakes, root / "train")
    for number, name in enumerate(["adder", "boa", "cobra"]):
        noise(root / "val" / name / "v.png", 5000 + number)
        noise(root / "test" / name / "t.png", 6000 + number)
    divided = read_divided(DataChoice((root,)))
    assert divided.test is not None
    assert (len(divided.train), len(divided.validation), len(divided.test)) == (30, 3, 3)
    other = read_divided(DataChoice((root / "train",), (root / "val",)))
    assert (other.train, other.validation, other.test) == (divided.train, divided.validation, None)
    with pytest.raises(DataError, match="nothing is divided"):
        read_divided(DataChoice((root / "train",), (root / "val",), test_fraction=0.1))
    (tmp_path / "split.csv").write_text("x")
    with pytest.raises(DataError, match="divided twice"):
        read_divided(DataChoice((root,), split_file=tmp_path / "split.csv"))
    (root / "val" / "boa").rename(root / "val" / "Boa")
    with pytest.raises(DataError, match="different classes"):
        read_divided(DataChoice((root,)))


def test_near_copies_across_a_given_split_are_said(snakes: Path, tmp_path: Path) -> None:
    for number, name in enumerate(["adder", "boa", "cobra"]):
        noise(tmp_path / "val" / name / "v.png", 5000 + number)
    scene(1).save(snakes / "boa" / "scene.png")
    scene(1, 80).save(tmp_path / "val" / "boa" / "scene.png")
    divided = read_divided(DataChoice((snakes,), (tmp_path / "val",)))
    assert any("1 pair of near copies on both sides" in note for note in divided.notes)


def test_a_validation_table_with_an_unknown_class_is_refused(grouped: Path, tmp_path: Path) -> None:
    noise(tmp_path / "x.png", 70)
    noise(tmp_path / "y.png", 71)
    other = tmp_path / "val.csv"
    other.write_text("file,label,group\nx.png,a,v\ny.png,zebra,v\n")
    with pytest.raises(DataError, match="training set does not have: zebra"):
        read_divided(DataChoice((grouped,), (other,)))


def test_apply_split_needs_no_digest_of_broken_images(snakes: Path, tmp_path: Path) -> None:
    whole = load_folder(snakes)
    file = tmp_path / "s.csv"
    write_split(file, snakes, (*split(whole, 0.2, 0), None))
    gone = whole.items[0]
    rest = LabelledSet(whole.root, whole.classes, whole.items[1:])
    with pytest.raises(DataError, match="no longer there"):
        apply_split(file, rest)
    parts = apply_split(file, rest, frozenset({gone.digest}))
    assert len(parts[0]) + len(parts[1]) == 29
