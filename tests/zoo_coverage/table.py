"""docs/coverage.md from what the trials found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("onnx", "ONNX"),
    ("tflite-float32", "TFLite f32"),
    ("tflite-float16", "f16"),
    ("tflite-int8", "int8"),
    ("saved-model", "SavedModel"),
    ("coreml-float32", "Core ML f32"),
    ("coreml", "f16"),
    ("coreml-int8", "int8 weights"),
    ("mlmodel", ".mlmodel"),
)
_QUANTIZED = ("tflite-int8", "coreml-int8")


def markdown(results: Sequence[Mapping[str, Any]], command: str, words: str) -> str:
    """The whole page.

    Args:
        results: of the trials, in order.
        command: that wrote it.
        words: on what: pictures, sizes, the machine's libraries.
    """
    zoo = [result for result in results if result["kind"] == "zoo"]
    brought = [result for result in results if result["kind"] != "zoo"]
    parts = [
        "# What goes through",
        "",
        f"Written by `{command}`; do not edit. {words}",
        "",
        "A cell says how far a file's probabilities are from the model's at most; int8 cells say "
        "the logits' SQNR and how often the first answer is the same. **Bold** is a gate that "
        "failed: such a bundle is not put in place. Core ML files are evaluated, not run.",
        "",
        "## The zoo",
        "",
        *_table(zoo),
        "",
        "## ONNX files that people bring",
        "",
        "torchvision classifiers that are not in the zoo, each exported to ONNX by torch (from "
        "normalized float pixels to logits) and brought with a contract.",
        "",
        *_table([result for result in brought if "refused" not in result]),
        "",
        "Refused, with all operators that stand in the way, before any work:",
        "",
        *[f"- `{r['name']}`: {_operators(r['refused'])}" for r in brought if "refused" in r],
        "",
    ]
    return "\n".join(parts)


def _table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ["model", "input", "parameters", *(title for _, title in _COLUMNS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_row(result)) + " |" for result in results]
    return lines


def _row(result: Mapping[str, Any]) -> list[str]:
    start = [f"`{result['name']}`", str(result["side"]), f"{result['parameters'] / 1e6:.2f} M"]
    if "refused" in result:
        return [*start, *["refused"] * len(_COLUMNS)]
    return [*start, *(cell(result, key) for key, _ in _COLUMNS)]


def cell(result: Mapping[str, Any], key: str) -> str:
    """One file of one network, in a few characters."""
    if key not in result["files"]:
        return "left out" if key in result["left_out"] else "not run"
    found = result["files"][key]
    if found["status"] == "not run":
        return "not run"
    if key in _QUANTIZED:
        text = f"{found['sqnr_db']:.0f} dB, {found['agreement']:.0%}"
    else:
        text = f"{found['max_probability_difference']:.0e}"
    return text if found["status"] == "passed" else f"**{text}**"


def _operators(refusal: str) -> str:
    """The operators that a refusal names in its first sentence."""
    found = re.search(r"cannot be converted: (.+?)\.(?:\s|$)", refusal)
    return found.group(1) if found else refusal.splitlines()[0]
