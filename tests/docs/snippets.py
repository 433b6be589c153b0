"""Code blocks of the Markdown files, and whether a tree-sitter grammar accepts them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """One fenced block: 'docs/ios.md:42' and what is in it."""

    where: str
    code: str


def documents() -> list[Path]:
    """README.md and every page of docs/, of the repository and of the demo app."""
    found = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("android_demo/*.md")]
    return sorted(found)


def snippets(language: str) -> list[Snippet]:
    """Every block of a language, in order."""
    return [snippet for path in documents() for snippet in of_text(path, language)]


def of_text(path: Path, language: str) -> list[Snippet]:
    text = path.read_text(encoding="utf-8")
    return [
        Snippet(
            f"{path.relative_to(ROOT).as_posix()}:{text[: found.start()].count(chr(10)) + 1}",
            found.group(2),
        )
        for found in _BLOCK.finditer(text)
        if found.group(1) == language
    ]


def faults(grammar: Any, code: str) -> list[str]:
    """Where a grammar (a module such as `tree_sitter_swift`) does not accept the code."""
    from tree_sitter import Language, Parser

    tree = Parser(Language(grammar.language())).parse(code.encode())
    found, waiting = [], [tree.root_node]
    while waiting:
        node = waiting.pop()
        if node.is_error or node.is_missing:
            lines = code.splitlines()
            place = min(node.start_point[0], len(lines) - 1)
            found.append(f"line {place + 1}: {lines[place].strip()}")
        elif node.has_error:
            waiting += node.children
    return found
