"""Figures as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence

WIDEST_NAME = 30  # characters
FILE_WORDS = {
    "torch": "PyTorch",
    "tflite-float32": "float32",
    "tflite-float16": "float16",
    "tflite-int8": "int8",
}


def percent(share: float | None) -> str:
    """'91.2 %'."""
    return "–" if share is None else f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of two shares: '3.1 points'."""
    value = f"{100 * abs(share):.1f}"
    return f"{value} point" if value == "1.0" else f"{value} points"


def figure(value: float | None) -> str:
    """Two or three digits: '0.024', '0.61', '12.4', '138'; '–' for none."""
    if value is None:
        return "–"
    if value >= 99.95:
        return f"{value:.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 or value == 0 else f"{value:.2g}"


def ms(value: float | None) -> str:
    return f"{figure(value)} ms"


def megabytes(count: float | None) -> str:
    """Bytes in 10^6: '0.61 MB'."""
    return "–" if count is None else f"{figure(count / 1e6)} MB"


def count(value: float) -> str:
    """'61.7 k', '3.50 M', '5.7 G'."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{figure(value / unit)} {name}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """'8.4 s', '3 min 20 s', '1 h 05 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def times(factor: float) -> str:
    """'2.6 times', '12 times'."""
    return f"{factor:.1f} times" if factor < 9.95 else f"{factor:.0f} times"


def listed(names: Sequence[str], last: str = "and") -> str:
    """'a', 'a and b', 'a, b and c'."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def file(key: str) -> str:
    return FILE_WORDS.get(key, key)


def broken(name: str, widest: int = WIDEST_NAME) -> str:
    """A long name on several lines, parted where an option begins."""
    lines = [""]
    for piece in re.findall(r"[^:,]*[:,]?", name):
        if lines[-1] and len(lines[-1]) + len(piece) > widest:
            lines.append("  ")
        lines[-1] += piece
    return "\n".join(lines)
