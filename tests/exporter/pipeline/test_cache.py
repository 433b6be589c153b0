"""A stage is found again exactly when nothing it depends on has changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from exporter import cache as caching
from exporter.cache import Cache, digest


def test_digest_depends_on_content_order_and_boundaries(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    first = digest("x", file)
    assert digest("x", file) == first
    assert digest(file, "x") != first
    assert digest("ab", "c") != digest("a", "bc")
    file.write_bytes(b"two")
    assert digest("x", file) != first


def test_digest_of_a_folder_sees_names_and_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = digest(folder)
    (folder / "a").rename(folder / "b")
    assert digest(folder) != first


def test_a_stage_is_built_once(tmp_path: Path) -> None:
    store = Cache(tmp_path / "cache")
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "file").write_text("made")

    for _ in range(2):
        assert (store.stage("key", build) / "file").read_text() == "made"
    assert len(built) == 1
    assert store.has("key")
    assert not store.has("other")


def test_a_failing_stage_leaves_nothing(tmp_path: Path) -> None:
    store = Cache(tmp_path / "cache")

    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.stage("key", build)
    assert not store.has("key")
    assert list(store.root.iterdir()) == []


def test_prune_drops_what_was_used_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "KEEP_BYTES", 250)
    store = Cache(tmp_path / "cache")
    for age, key in ((300, "old"), (200, "middle"), (100, "young")):
        folder = store.stage(key, lambda folder: (folder / "f").write_bytes(b"x" * 100) and None)
        os.utime(folder, (time.time() - age, time.time() - age))
    store.prune()
    assert sorted(p.name for p in store.root.iterdir()) == ["middle", "young"]


def test_without_a_root_nothing_stays(tmp_path: Path) -> None:
    store = Cache(None)
    store.stage("key", lambda folder: None)
    root = store.root
    store.close()
    assert not root.exists()
