"""Kotlin in README and docs: its syntax, by tree-sitter-kotlin. No types are checked."""

from __future__ import annotations

import pytest
import snippets

pytest.importorskip("tree_sitter", reason="tree-sitter checks the syntax; it is in the extra test")
grammar = pytest.importorskip("tree_sitter_kotlin", reason="it is in the extra test")
BLOCKS = snippets.snippets("kotlin")


def test_there_are_blocks() -> None:
    assert any(block.where.startswith("README.md") for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_kotlin_is_well_formed(block: snippets.Snippet) -> None:
    assert snippets.faults(grammar, block.code) == []


@pytest.mark.parametrize("dropped", [")", "(", "}"])
def test_a_dropped_bracket_is_found(dropped: str) -> None:
    code = 'fun names(all: List<String>): String { return all.joinToString(", ") }\n'
    assert snippets.faults(grammar, code) == []
    assert snippets.faults(grammar, code.replace(dropped, "", 1)) != []


def test_a_dropped_bracket_in_the_readme_is_found() -> None:
    block = BLOCKS[0].code
    place = block.rindex(")")
    assert snippets.faults(grammar, block[:place] + block[place + 1 :]) != []
