"""Images decoded once: near copies against all pairs, broken ones, the figures of a report."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from models.data.labelled import DataError, Item, LabelledSet
from models.data.looking import Look, look_at, near_pairs
from models.data.quality import effective_number, judge, spread
from models.data.reading import read_set
from support.pictures import noise, scene

_SMALL = np.arange(256, dtype=np.uint8).reshape(16, 16)


def _look(bits: int, small: np.ndarray = _SMALL) -> Look:
    return Look(64, 64, bits, small)


@settings(max_examples=60, deadline=None)
@given(
    base=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    flips=st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 63), max_size=8)),
                   min_size=2, max_size=20),
    bits=st.integers(0, 8),
)  # fmt: skip
def test_bands_find_what_comparing_all_with_all_finds(
    base: list[int], flips: list[tuple[int, set[int]]], bits: int
) -> None:
    hashes = list(dict.fromkeys(
        base[which % len(base)] ^ sum(1 << bit for bit in flipped) for which, flipped in flips
    ))  # fmt: skip
    expected = [
        (a, b, (hashes[a] ^ hashes[b]).bit_count())
        for a in range(len(hashes)) for b in range(a + 1, len(hashes))
        if (hashes[a] ^ hashes[b]).bit_count() <= bits
    ]  # fmt: skip
    assert near_pairs([_look(each) for each in hashes], bits) == expected


def test_equal_hashes_are_paired_with_the_first() -> None:
    looks = [_look(5), None, _look(1 << 40), _look(5), _look(5), Look(1, 1, None, _SMALL)]
    assert near_pairs(looks, 0) == [(0, 3, 0), (0, 4, 0)]
    other = _look(5, np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8))
    assert near_pairs([_look(5), other], 4) == [], "equal hashes of pictures that differ"


@pytest.mark.parametrize("bits", [-1, 11])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(DataError, match="bits"):
        near_pairs([], bits)


def _variants(picture: Image.Image) -> dict[str, Image.Image]:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=40)
    return {
        "quality": Image.open(stream),
        "smaller": picture.resize((90, 90)),
        "brighter": ImageEnhance.Brightness(picture).enhance(1.15),
        "trimmed": picture.crop((1, 1, 191, 191)),
    }


def test_copies_of_other_size_quality_and_brightness_are_near_and_others_are_not(
    tmp_path: Path,
) -> None:
    items = []
    for number in range(7):
        picture = scene(number, 192)
        made = {"first": picture, **(_variants(picture) if number < 4 else {})}
        for name, each in made.items():
            path = tmp_path / f"{number} {name}.png"
            each.save(path)
            items.append(Item(path, (0,), path.name))
    looks = look_at(items)
    pairs = near_pairs([looks.by_digest[item.digest] for item in items])
    groups: dict[str, set[str]] = {}
    for one, other, _ in pairs:
        first, second = items[one].path.name, items[other].path.name
        assert first.split()[0] == second.split()[0], "different scenes"
        groups.setdefault(first.split()[0], set()).update({first, second})
    assert {key: len(found) for key, found in groups.items()} == dict.fromkeys("0123", 5)


def test_the_hash_is_imagehash_s(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    scene(3, 64).save(path)
    (look,) = look_at([Item(path, (0,), "x")]).by_digest.values()
    assert f"{look.hash:016x}" == str(imagehash.phash(Image.open(path)))
    assert (look.width, look.height) == (64, 64)


def test_blank_pictures_resemble_nothing(tmp_path: Path) -> None:
    items = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 40), (90 + number, 90, 90)).save(path)
        items.append(Item(path, (0,), str(number)))
    looks = look_at(items)
    assert near_pairs([looks.by_digest[item.digest] for item in items]) == []


def test_broken_files_of_one_content_are_all_named_and_decoded_once(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    paths[0].write_text("x")
    paths[1].write_text("x")
    noise(paths[2], 0)
    seen: list[tuple[int, int]] = []
    looks = look_at(
        [Item(paths[0], (0,), "x"), Item(paths[1], (0,), "x"), Item(paths[2], (0,), "y")],
        lambda done, whole: seen.append((done, whole)),
    )
    assert [each.path for each in looks.broken] == paths[:2]
    assert seen == [(1, 2), (2, 2)]


def test_what_a_report_counts(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number, (name, count) in enumerate((("adder", 6), ("boa", 3))):
        for i in range(count):
            noise(root / name / f"{i}.png", 100 * number + i, 20)
    shutil.copy(root / "adder" / "0.png", root / "adder" / "copy.png")
    shutil.copy(root / "adder" / "1.png", root / "boa" / "wrong.png")
    scene(7, 64).save(root / "adder" / "scene.png")
    scene(7, 90).save(root / "boa" / "scene.png")
    (root / "boa" / "broken.png").write_text("x")
    data = read_set(root, strict=False)
    quality = judge(data, look_at(data.items))
    assert quality.images == 14
    assert quality.data.counts() == (8, 5)
    assert quality.imbalance == 8 / 5
    assert [each.path.name for each in quality.broken] == ["broken.png"]
    assert sorted(len(same) for same in quality.exact) == [2, 2]
    ((first, second),) = quality.exact_contradictions
    assert {first.path.name, second.path.name} == {"1.png", "wrong.png"}
    (pair,) = quality.near_contradictions
    assert {pair.first.path.name, pair.second.path.name} == {"scene.png"}
    assert quality.shorter.least == 20
    assert quality.shorter.greatest == 90
    assert judge(data, look_at(data.items), -1).near == ()


def test_figures_by_hand() -> None:
    assert effective_number(1) == pytest.approx(1.0)
    assert effective_number(3, 0.5) == pytest.approx(1.75)  # 1 + 0.5 + 0.25
    assert effective_number(10**6) == pytest.approx(1000.0)
    assert vars(spread([4, 1, 2, 3, 5])) == {
        "least": 1, "quarter": 2, "median": 3, "three_quarters": 4, "greatest": 5,
    }  # fmt: skip
    assert spread([]).greatest == 0
    nothing = LabelledSet(Path("x"), ("a", "b"), ())
    assert judge(nothing, look_at(())).imbalance == 1.0
