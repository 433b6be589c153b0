"""How label names are stored as text: one a line, with a newline after the last."""

from __future__ import annotations


def lines(text: str) -> tuple[str, ...]:
    """The names in a labels text; only line feeds part them (a name may hold U+2028)."""
    return tuple(text.removesuffix("\n").split("\n")) if text else ()
